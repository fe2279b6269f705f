//! config.json: the demo model under a broken configuration.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mlxrt::engine::{LoadOptions, load_for_tests};
use mlxrt_fuzz::{folder, limited};

fuzz_target!(|data: &[u8]| {
    let folder = folder(&["model.safetensors"]);
    std::fs::write(folder.join("config.json"), data).unwrap();
    // A sound configuration loads the weights of the demo model, whose largest tensor this allows.
    limited(data, 64, || {
        let _ = load_for_tests(folder, &LoadOptions::default());
    });
});
