//! Our CPU kernels beside MLX's own, and beside what memory gives: decode in GB/s of weights (of a set
//! larger than the caches), prefill in GFLOP/s. The best of several runs.
//!
//!     cargo run --release --example kernels -- [rounds] [--mlx] [--exact] [--only FORMAT]
//!
//! `--mlx`: MLX's products instead, from 8 rows on of the dequantised matrix, where that is faster.

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

fn matrix(rows: i32, columns: i32, quantization: Quantization, seed: i32) -> Result<Quantized> {
    let Quantization { bits, group_size, mode } = quantization;
    let words: Vec<i32> =
        (0..rows * (columns / 32 * bits)).map(|i| (i ^ seed).wrapping_mul(-1_640_531_535)).collect();
    let packed = Array::from_i32(&words, &[rows, columns / 32 * bits])?;
    let packed = ops::astype(&packed, Dtype::U32)?;
    let groups = columns / group_size;
    if mode != QuantMode::Affine {
        let bytes = Array::from_f32(&vec![120.0; (rows * groups) as usize], &[rows, groups])?;
        let scales = ops::astype(&bytes, Dtype::U8)?;
        eval([&packed, &scales])?;
        return Ok(Quantized { packed, scales, biases: None, quantization });
    }
    let groups = Array::from_f32(&vec![0.01; (rows * groups) as usize], &[rows, groups])?;
    let scales = ops::astype(&groups, Dtype::BF16)?;
    let biases = ops::multiply(&scales, &ops::astype(&Array::scalar(-7.5)?, Dtype::BF16)?)?;
    eval([&packed, &scales, &biases])?;
    Ok(Quantized { packed, scales, biases: Some(biases), quantization })
}

fn bytes(w: &Quantized) -> usize {
    w.packed.nbytes() + w.scales.nbytes() + w.biases.as_ref().map_or(0, Array::nbytes)
}

/// Dense matrices, with which MLX calls BLAS.
fn dense(rounds: usize, mlx: bool, dtype: Dtype) -> Result<()> {
    let (rows, columns) = (8192, 2048);
    let w = Array::from_f32(&vec![0.5; (rows * columns) as usize], &[rows, columns])?;
    let w = ops::astype(&w, dtype)?;
    w.eval()?;
    print!("{dtype}, {rows} x {columns}:");
    for m in [1, 4, 16, 128, 512] {
        let x = Array::from_f32(&vec![0.5; (m * columns) as usize], &[m, columns])?;
        let seconds = time(rounds, || match kernels::matmul(&x, &w, None)?.filter(|_| !mlx) {
            Some(y) => y.eval(),
            None => ops::matmul(&x, &ops::transpose(&w, &[1, 0])?)?.eval(),
        })?;
        print!("  {m} rows {:.0} GFLOP/s", 2e-9 * f64::from(rows * columns) * f64::from(m) / seconds);
    }
    println!();
    Ok(())
}

/// 32 experts, of which each token has four.
fn experts(rounds: usize, mlx: bool, quantization: Quantization) -> Result<()> {
    let (count, k, rows, columns) = (32, 4, 1024, 2048);
    let mut w = matrix(count * rows, columns, quantization, 0)?;
    let stack = |array: &Array| ops::reshape(array, &[count, rows, array.dim(-1)]);
    (w.packed, w.scales) = (stack(&w.packed)?, stack(&w.scales)?);
    w.biases = w.biases.as_ref().map(stack).transpose()?;
    print!("{} {} bits, 32 experts {rows} x {columns}:", quantization.mode.name(), quantization.bits);
    for m in [1, 4, 64, 512] {
        let x = Array::from_f32(&vec![0.5; (m * columns) as usize], &[m, 1, 1, columns])?;
        let chosen: Vec<i32> = (0..m * k).map(|i| (i * 7 + i / 5) % count).collect();
        let chosen = ops::astype(&Array::from_i32(&chosen, &[m, k])?, Dtype::U32)?;
        let seconds =
            time(rounds, || match kernels::gather_quantized_matmul(&x, &w, &chosen)?.filter(|_| !mlx) {
                Some(y) => y.eval(),
                None => ops::gather_quantized_matmul(&x, &w, &chosen, false)?.eval(),
            })?;
        print!("  {m} tokens {:.1} GFLOP/s", 2e-9 * f64::from(m * k) * f64::from(rows * columns) / seconds);
    }
    println!();
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let rounds = arguments.get(1).and_then(|text| text.parse().ok()).unwrap_or(10);
    let mlx = arguments.iter().any(|text| text == "--mlx");
    use_device(Device::Cpu)?;
    kernels::set_exact(arguments.iter().any(|text| text == "--exact"));
    println!("{} threads; reading: {:.1} GB/s", kernels::threads::count(), probe(rounds)? / 1e9);
    let product = |x: &Array, w: &Quantized| {
        if mlx && x.dim(0) < 8 {
            ops::quantized_matmul(x, w, true)
        } else if mlx {
            ops::matmul(x, &ops::transpose(&ops::dequantize(w, Dtype::F32)?, &[1, 0])?)
        } else {
            Ok(kernels::quantized_matmul(x, w, None)?.expect("on the CPU"))
        }
    };
    let only = arguments.iter().skip_while(|text| *text != "--only").nth(1);
    let wanted = |name: &str| only.is_none_or(|only| name.contains(only.as_str()));
    for dtype in [Dtype::F32, Dtype::BF16].into_iter().filter(|dtype| wanted(&dtype.to_string())) {
        dense(rounds, mlx, dtype)?;
    }
    use QuantMode::{Affine, Mxfp4, Mxfp8, Nvfp4};
    for (mode, group, bits) in
        [(Affine, 64, 4), (Affine, 64, 8), (Mxfp4, 32, 4), (Mxfp8, 32, 8), (Nvfp4, 16, 4)]
    {
        let quantization = Quantization { group_size: group, bits, mode };
        if !wanted(&format!("{}-{bits}", mode.name())) {
            continue;
        }
        experts(rounds, mlx, quantization)?;
        for (rows, columns) in [(896, 896), (4864, 896), (8192, 2048), (2048, 8192)] {
            let each = matrix(rows, columns, quantization, 0)?;
            let set: Vec<Quantized> = (0..(300 << 20) / bytes(&each) as i32)
                .map(|seed| matrix(rows, columns, quantization, seed))
                .collect::<Result<_>>()?;
            print!("{} {bits} bits, {rows} x {columns}:", mode.name());
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
