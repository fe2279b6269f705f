//! GGUF files: the header, what is made of it, and the weights.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mlxrt::engine::gguf::{Gguf, config, tokenizer};
use mlxrt::engine::{LoadOptions, load_for_tests};
use mlxrt_fuzz::{folder, limited};

fuzz_target!(|data: &[u8]| {
    let file = folder(&[]).join("model.gguf");
    limited(data, 64, || {
        let Ok(gguf) = Gguf::parse(&file, data) else { return };
        let _ = config(&gguf, &gguf.tensors().iter().collect::<Vec<_>>(), None);
        let _ = tokenizer(&gguf);
    });
    std::fs::write(&file, data).unwrap();
    limited(data, 64, || {
        let _ = load_for_tests(&file, &LoadOptions::default());
    });
});
