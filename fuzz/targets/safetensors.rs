//! model.safetensors: a broken file under the demo model's configuration.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mlxrt::engine::{LoadOptions, load_for_tests};
use mlxrt_fuzz::{folder, limited};

fuzz_target!(|data: &[u8]| {
    let folder = folder(&["config.json"]);
    std::fs::write(folder.join("model.safetensors"), data).unwrap();
    limited(data, 64, || {
        let _ = load_for_tests(folder, &LoadOptions::default());
    });
});
