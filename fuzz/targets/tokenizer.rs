//! tokenizer.json: broken ones, and what sound ones make of a text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mlxrt::engine::{Encoding, Tokenizer};
use mlxrt_fuzz::{folder, limited, panics_may_be_caught};

fuzz_target!(|data: &[u8]| {
    panics_may_be_caught();
    let folder = folder(&["tokenizer_config.json"]);
    std::fs::write(folder.join("tokenizer.json"), data).unwrap();
    limited(data, 256, || {
        let Ok(tokenizer) = Tokenizer::load(folder) else { return };
        let text = "Hello, wörld! \u{1f469}\u{200d}\u{1f680} <|im_end|>";
        for plain_text in [false, true] {
            if let Ok(ids) = tokenizer.encode(text, Encoding { add_special: true, plain_text }) {
                let _ = tokenizer.decode(&ids, false);
            }
        }
    });
});
