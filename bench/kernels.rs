//! Our CPU kernels beside MLX's own, and beside what memory gives: decode in GB/s of weights (of a set
//! larger than the caches), prefill in GFLOP/s. The best of several runs.
//!
//!     cargo run --release --example kernels -- [rounds] [--mlx] [--exact] [--threads N] [--only FORMAT]
//!
//! `--mlx`: MLX's products instead, from 8 rows on of the dequantised matrix, where that is faster.
//! `--only reading`: no kernel, only what memory gives.
//! `--only operation`: what an operation costs besides its work.
//! `--only attention`: attention alone, in GB/s of keys and values, or in GFLOP/s of what queries see.

use mlxrt::error::Result;
use mlxrt::kernels::{self, AttentionOptions, Run, Sequence, Source, Weight};
use mlxrt::mlx::ops::{self, Mask, QuantMode, Quantization, Quantized};
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

/// Bytes a second that all threads read together, of a GiB.
fn probe(rounds: usize) -> Result<f64> {
    let data = vec![1u64; 128 << 20];
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

fn matrix(
    rows: i32,
    columns: i32,
    quantization: Quantization,
    interleaved: bool,
    seed: i32,
) -> Result<Quantized> {
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
    if interleaved {
        for array in [&packed, &scales, &biases] {
            // SAFETY: nobody else has it yet.
            unsafe { kernels::interleave(array) }?;
        }
    }
    Ok(Quantized { packed, scales, biases: Some(biases), quantization })
}

fn bytes(w: &Quantized) -> usize {
    w.packed.nbytes() + w.scales.nbytes() + w.biases.as_ref().map_or(0, Array::nbytes)
}

/// Dense matrices, with which MLX calls BLAS.
fn dense(rounds: usize, mlx: bool, dtype: Dtype) -> Result<()> {
    let (rows, columns) = (8192, 2048);
    let make = |_| {
        let w = Array::from_f32(&vec![0.5; (rows * columns) as usize], &[rows, columns])?;
        let w = ops::astype(&w, dtype)?;
        w.eval()?;
        Ok(w)
    };
    let set: Vec<Array> = (0..8).map(make).collect::<Result<_>>()?;
    print!("{dtype}, {rows} x {columns}:");
    let product =
        |x: &Array, w: &Array| match kernels::products(Source::Plain(x), [(Weight::Dense(w), None)], None)?
            .filter(|_| !mlx)
        {
            Some([y]) => Ok(y),
            None => ops::matmul(x, &ops::transpose(w, &[1, 0])?),
        };
    for m in [1, 4, 8, 16, 64, 128, 256, 512] {
        let x = Array::from_f32(&vec![0.5; (m * columns) as usize], &[m, columns])?;
        if m <= 4 {
            let seconds =
                time(rounds, || eval(&set.iter().map(|w| product(&x, w)).collect::<Result<Vec<_>>>()?))?;
            let read = set.iter().map(Array::nbytes).sum::<usize>() as f64;
            print!("  {m} rows {:.1} GB/s", read / seconds / 1e9);
        } else {
            let seconds = time(rounds, || product(&x, &set[0])?.eval())?;
            print!("  {m} rows {:.0} GFLOP/s", 2e-9 * f64::from(rows * columns) * f64::from(m) / seconds);
        }
    }
    println!();
    Ok(())
}

/// 32 experts, of which each token has four.
fn experts(rounds: usize, [mlx, exact]: [bool; 2], quantization: Quantization) -> Result<()> {
    let (count, k, rows, columns) = (32, 4, 1024, 2048);
    let interleaved = !mlx && !exact && kernels::interleaves(rows, quantization);
    let mut w = matrix(count * rows, columns, quantization, interleaved, 0)?;
    let stack = |array: &Array| ops::reshape(array, &[count, rows, array.dim(-1)]);
    (w.packed, w.scales) = (stack(&w.packed)?, stack(&w.scales)?);
    w.biases = w.biases.as_ref().map(stack).transpose()?;
    print!("{} {} bits, 32 experts {rows} x {columns}:", quantization.mode.name(), quantization.bits);
    for m in [1, 4, 64, 512] {
        let x = Array::from_f32(&vec![0.5; (m * columns) as usize], &[m, 1, 1, columns])?;
        let chosen: Vec<i32> = (0..m * k).map(|i| (i * 7 + i / 5) % count).collect();
        let chosen = ops::astype(&Array::from_i32(&chosen, &[m, k])?, Dtype::U32)?;
        let seconds = time(rounds, || {
            match kernels::gather_product(&x, Weight::quantized(&w, interleaved), &chosen)?.filter(|_| !mlx) {
                Some(y) => y.eval(),
                None => ops::gather_quantized_matmul(&x, &w, &chosen, false)?.eval(),
            }
        })?;
        print!("  {m} tokens {:.1} GFLOP/s", 2e-9 * f64::from(m * k) * f64::from(rows * columns) / seconds);
    }
    println!();
    Ok(())
}

/// Attention of some sequences, each with so many queries that follow on some keys.
fn attention(
    rounds: usize,
    mlx: bool,
    [heads, kv_heads]: [i32; 2],
    [dim, value_dim]: [i32; 2],
    [count, queries, keys]: [i32; 3],
) -> Result<()> {
    let room = keys + 100;
    let filled = |length: i32, width: i32, heads: i32| {
        let values: Vec<f32> =
            (0..heads * length * width).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
        Array::from_f32(&values, &[1, heads, length, width])
    };
    let q = ops::reshape(&filled(count * queries, dim * heads, 1)?, &[1, count * queries, dim * heads])?;
    let sequences: Vec<Sequence> = (0..count)
        .map(|_| {
            let (keys, values) = (filled(room, dim, kv_heads)?, filled(room, value_dim, kv_heads)?);
            Ok(Sequence { runs: vec![Run { keys, values, used: room - 100 }], queries, mask: Mask::Causal })
        })
        .collect::<Result<_>>()?;
    let scale = (dim as f32).powf(-0.5);
    let options = AttentionOptions { heads, kv_heads, scale, softcap: None };
    let mlxs = |(sequence, index): (&Sequence, i32)| {
        let Run { keys, values, used } = &sequence.runs[0];
        let (k, v) = (ops::slice(keys, 2, 0, *used)?, ops::slice(values, 2, 0, *used)?);
        let q = ops::slice(&q, 1, index * queries, (index + 1) * queries)?;
        let q = ops::transpose(&ops::reshape(&q, &[1, queries, heads, dim])?, &[0, 2, 1, 3])?;
        let y = ops::attention(&q, &k, &v, scale, &sequence.mask, None)?;
        ops::reshape(&ops::transpose(&y, &[0, 2, 1, 3])?, &[1, queries, heads * value_dim])
    };
    // As many at once as a small model's pass has.
    let layers = 8;
    let seconds = time(rounds, || {
        let mut ys = vec![];
        for _ in 0..layers {
            if mlx {
                ys.extend(sequences.iter().zip(0..).map(mlxs).collect::<Result<Vec<_>>>()?);
            } else {
                ys.extend(kernels::attention(&q, &sequences, &options, None)?);
            }
        }
        eval(&ys)
    })?;
    let seconds = seconds / f64::from(layers);
    let width = f64::from(dim + value_dim);
    let read = 4.0 * f64::from(count * kv_heads) * f64::from(keys) * width / seconds / 1e9;
    let seen = f64::from(queries) * (f64::from(keys) - f64::from(queries - 1) / 2.0);
    let computed = 2.0 * f64::from(count * heads) * seen * width / seconds / 1e9;
    println!(
        "attention, {heads}/{kv_heads} heads of {dim}/{value_dim}, {count} x {queries} queries of {keys} keys: \
         {:.3} ms, {read:.1} GB/s, {computed:.1} GFLOP/s",
        1e3 * seconds
    );
    Ok(())
}

/// Decode and prefill of several shapes.
fn attentions(rounds: usize, mlx: bool) -> Result<()> {
    let qwen = ([14, 2], [64, 64]);
    for (heads, dims, sizes) in [
        (qwen.0, qwen.1, [1, 1, 20]),
        (qwen.0, qwen.1, [1, 1, 4000]),
        (qwen.0, qwen.1, [32, 1, 500]),
        (qwen.0, qwen.1, [32, 1, 4000]),
        (qwen.0, qwen.1, [1, 512, 512]),
        (qwen.0, qwen.1, [1, 512, 4096]),
        ([32, 8], [128, 128], [1, 1, 4000]),
        ([32, 8], [128, 128], [1, 512, 512]),
        ([16, 16], [64, 64], [1, 1, 4000]),
        ([16, 16], [64, 64], [1, 512, 512]),
        ([16, 1], [576, 512], [1, 1, 4000]),
        ([16, 1], [576, 512], [1, 128, 512]),
        ([16, 16], [192, 128], [1, 512, 512]),
    ] {
        attention(rounds, mlx, heads, dims, sizes)?;
    }
    Ok(())
}

/// What an operation costs besides its work: a chain of norms of one short row.
fn operations(rounds: usize) -> Result<()> {
    const COUNT: usize = 300;
    let x = Array::from_f32(&[0.5; 64], &[1, 1, 64])?;
    let seconds = time(rounds, || {
        let norm = |x: Array| Ok(kernels::rms_norm(&x, None, 1e-6)?.expect("on the CPU"));
        (0..COUNT).try_fold(x.clone(), |x, _| norm(x))?.eval()
    })?;
    println!("an operation: {:.2} us", 1e6 * seconds / COUNT as f64);
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let rounds = arguments.get(1).and_then(|text| text.parse().ok()).unwrap_or(10);
    let mlx = arguments.iter().any(|text| text == "--mlx");
    if let Some(at) = arguments.iter().position(|text| text == "--threads") {
        kernels::threads::set_count(arguments.get(at + 1).and_then(|n| n.parse().ok()).unwrap_or(1))?;
    }
    use_device(Device::Cpu)?;
    let exact = arguments.iter().any(|text| text == "--exact");
    kernels::set_exact(exact);
    println!("{} threads; reading: {:.1} GB/s", kernels::threads::count(), probe(rounds)? / 1e9);
    let product = |x: &Array, w: &Quantized, interleaved: bool| {
        if mlx && x.dim(0) < 8 {
            ops::quantized_matmul(x, w, true)
        } else if mlx {
            ops::matmul(x, &ops::transpose(&ops::dequantize(w, Dtype::F32)?, &[1, 0])?)
        } else {
            Ok(kernels::products(Source::Plain(x), [(Weight::quantized(w, interleaved), None)], None)?
                .map(|[y]| y)
                .expect("on the CPU"))
        }
    };
    let only = arguments.iter().skip_while(|text| *text != "--only").nth(1);
    let wanted = |name: &str| only.is_none_or(|only| name.contains(only.as_str()));
    if wanted("operation") {
        operations(100 * rounds)?;
    }
    if wanted("attention") {
        attentions(rounds, mlx)?;
    }
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
        experts(rounds, [mlx, exact], quantization)?;
        for (rows, columns) in [(896, 896), (4864, 896), (8192, 2048), (2048, 8192)] {
            let interleaved = !mlx && !exact && kernels::interleaves(rows, quantization);
            let each = matrix(rows, columns, quantization, interleaved, 0)?;
            let set: Vec<Quantized> = (0..(300 << 20) / bytes(&each) as i32)
                .map(|seed| matrix(rows, columns, quantization, interleaved, seed))
                .collect::<Result<_>>()?;
            print!("{} {bits} bits, {rows} x {columns}:", mode.name());
            for m in [1, 2, 4] {
                let x = Array::from_f32(&vec![0.5; (m * columns) as usize], &[m, columns])?;
                let seconds = time(rounds, || {
                    eval(&set.iter().map(|w| product(&x, w, interleaved)).collect::<Result<Vec<_>>>()?)
                })?;
                let read = set.iter().map(bytes).sum::<usize>() as f64;
                print!("  {m} rows {:.1} GB/s", read / seconds / 1e9);
            }
            for m in [8, 16, 64, 128, 256, 512] {
                let x = Array::from_f32(&vec![0.5; (m * columns) as usize], &[m, columns])?;
                let seconds = time(rounds.div_ceil(3), || product(&x, &each, interleaved)?.eval())?;
                print!("  {m} rows {:.0} GFLOP/s", 2e-9 * f64::from(rows * columns) * f64::from(m) / seconds);
            }
            println!();
        }
    }
    Ok(())
}
