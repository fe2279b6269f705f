//! Speed of a model on the CPU, without a tokenizer: prefill and decode in tokens a second, a line of
//! JSON for each round.
//!
//!     cargo run --release --example cpu -- MODEL [rounds] [prompt] [tokens] [--exact] [--threads N]

use mlxrt::engine::{LoadOptions, load_for_tests};
use mlxrt::error::Result;
use mlxrt::kernels;
use mlxrt::mlx::{Array, Device, ops};
use mlxrt::nn::{Batch, Cache, Pass};
use std::time::Instant;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut numbers = [5, 512, 32];
    for (number, text) in numbers.iter_mut().zip(arguments.iter().skip(1)) {
        *number = text.parse().unwrap_or(*number);
    }
    let [rounds, prompt, tokens] = numbers;
    if let Some(at) = arguments.iter().position(|text| text == "--threads") {
        kernels::threads::set_count(arguments.get(at + 1).and_then(|n| n.parse().ok()).unwrap_or(1))?;
    }
    let exact = arguments.iter().any(|text| text == "--exact");
    let options = LoadOptions { device: Some(Device::Cpu), exact, ..Default::default() };
    let start = Instant::now();
    let loaded = load_for_tests(arguments[0].as_ref(), &options)?;
    let load = start.elapsed().as_secs_f64();
    let vocabulary = loaded.info.vocab_size as usize;
    // The most likely token after `ids`.
    let step = |ids: &[i32], caches: &mut [Cache]| -> Result<i32> {
        let input = Array::from_i32(ids, &[1, ids.len() as i32])?;
        let hidden =
            loaded.model.forward(&input, &mut Batch::one(caches, input.dim(1))?, &Pass::default())?;
        let last = ops::slice(&hidden, 1, ids.len() as i32 - 1, ids.len() as i32)?;
        let logits = loaded.model.logits(&last)?.to_vec_f32()?;
        Ok((0..vocabulary).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or(0) as i32)
    };
    for _ in 0..rounds {
        let ids: Vec<i32> = (0..prompt).map(|i| ((i * 7919 + 17) % vocabulary) as i32).collect();
        let mut caches = loaded.model.new_caches();
        let start = Instant::now();
        let mut token = step(&ids, &mut caches)?;
        let prefill = start.elapsed().as_secs_f64();
        let mut best = f64::INFINITY;
        let start = Instant::now();
        for _ in 0..tokens {
            let begin = Instant::now();
            token = step(&[token], &mut caches)?;
            best = best.min(begin.elapsed().as_secs_f64());
        }
        let decode = start.elapsed().as_secs_f64();
        println!(
            "{{\"threads\": {}, \"load\": {load:.2}, \"prefill\": {:.2}, \"decode\": {:.2}, \"decode_best\": {:.2}}}",
            kernels::threads::count(),
            prompt as f64 / prefill,
            tokens as f64 / decode,
            1.0 / best
        );
    }
    Ok(())
}
