//! What a process keeps after models come and go.

mod common;

use mlxrt::engine::{Encoding, GenerateOptions, LoadOptions, Model};
use mlxrt::mlx::memory;

fn load_use_and_free() {
    let model = Model::load(&common::demo_model(), LoadOptions::default(), &mut |_, _| true).unwrap();
    let prompt = model.tokenizer().encode("The capital of", Encoding::default()).unwrap();
    let options = GenerateOptions { max_tokens: 3, ..Default::default() };
    assert!(model.generate(prompt, options, &mut |_| true).end.is_ok());
    model.close();
}

/// MLX never ends the thread behind a stream, so engine threads must be used again.
#[test]
fn models_that_are_freed_leave_neither_memory_nor_threads() {
    let threads = || std::fs::read_dir("/proc/self/task").map_or(0, |tasks| tasks.count());
    load_use_and_free();
    let (before, bytes) = (threads(), memory::active().unwrap());
    for _ in 0..5 {
        load_use_and_free();
    }
    assert_eq!(threads(), before);
    assert_eq!(memory::active().unwrap(), bytes);
    if before == 0 {
        common::skip("threads of freed models", "no /proc to count threads in");
    }
}
