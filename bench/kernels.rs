//! Our CPU kernels beside MLX's own, and beside what memory gives: decode in GB/s of weights (of a set
//! larger than the caches), prefill in GFLOP/s. The best of several runs.
//!
//!     cargo run --release --example kernels -- [rounds] [--mlx]

use mlxrt::error::Result;
use mlxrt::kernels;
use mlxrt::mlx::ops::{self, QuantMode, Quantization, Quantized};
use mlxrt::mlx::{Array, Device, Dtype, eval, use_device};
use std::time::Instant;

/// The best of a few runs, in seconds.
fn time(rounds: usize, run: impl Fn() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..rounds {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// Bytes a second that all threads read together.
fn probe(rounds: usize) -> Result<f64> {
    let data = vec![1u64; 64 << 20];
    let threads = kernels::threads::count();
    let seconds = time(rounds, || {
        std::thread::scope(|scope| {
            for part in data.chunks(data.len().div_ceil(threads)) {
                scope.spawn(|| std::hint::black_box(part.iter().fold(0u64, |sum, x| sum.wrapping_add(*x))));
            }
        });
        Ok(())
    })?;
    Ok(size_of_val(data.as_slice()) as f64 / seconds)
}

fn matrix(rows: i32, columns: i32, bits: i32, seed: i32) -> Result<Quantized> {
    let quantization = Quantization { group_size: 64, bits, mode: QuantMode::Affine };
    let words: Vec<i32> =
        (0..rows * (columns / 32 * bits)).map(|i| (i ^ seed).wrapping_mul(-1_640_531_535)).collect();
    let packed = Array::from_i32(&words, &[rows, columns / 32 * bits])?;
    let packed = ops::astype(&packed, Dtype::U32)?;
    let groups = Array::from_f32(&vec![0.01; (rows * columns / 64) as usize], &[rows, columns / 64])?;
    let scales = ops::astype(&groups, Dtype::BF16)?;
    let biases = ops::multiply(&scales, &ops::astype(&Array::scalar(-7.5)?, Dtype::BF16)?)?;
    eval([&packed, &scales, &biases])?;
    Ok(Quantized { packed, scales, biases: Some(biases), quantization })
}

fn bytes(w: &Quantized) -> usize {
    w.packed.nbytes() + w.scales.nbytes() + w.biases.as_ref().map_or(0, Array::nbytes)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let rounds = arguments.get(1).and_then(|text| text.parse().ok()).unwrap_or(10);
    let mlx = arguments.iter().any(|text| text == "--mlx");
    use_device(Device::Cpu)?;
    println!("{} threads; reading: {:.1} GB/s", kernels::threads::count(), probe(rounds)? / 1e9);
    let product = |x: &Array, w: &Quantized| {
        if mlx {
            ops::quantized_matmul(&ops::astype(x, Dtype::F32)?, w, true)
        } else {
            Ok(kernels::quantized_matmul(x, w)?.expect("on the CPU"))
        }
    };
    for bits in [4, 8] {
        for (rows, columns) in [(896, 896), (4864, 896), (8192, 2048), (2048, 8192)] {
            let each = matrix(rows, columns, bits, 0)?;
            let set: Vec<Quantized> = (0..(300 << 20) / bytes(&each) as i32)
                .map(|seed| matrix(rows, columns, bits, seed))
                .collect::<Result<_>>()?;
            print!("{bits} bits, {rows} x {columns}:");
            for m in [1, 2, 4] {
                let x = Array::from_f32(&vec![0.5; (m * columns) as usize], &[m, columns])?;
                let seconds =
                    time(rounds, || eval(&set.iter().map(|w| product(&x, w)).collect::<Result<Vec<_>>>()?))?;
                let read = set.iter().map(bytes).sum::<usize>() as f64;
                print!("  {m} rows {:.1} GB/s", read / seconds / 1e9);
            }
            for m in [16, 128, 512] {
                let x = Array::from_f32(&vec![0.5; (m * columns) as usize], &[m, columns])?;
                let seconds = time(rounds.div_ceil(3), || product(&x, &each)?.eval())?;
                print!("  {m} rows {:.0} GFLOP/s", 2e-9 * f64::from(rows * columns) * f64::from(m) / seconds);
            }
            println!();
        }
    }
    Ok(())
}
