//! What a step of fine-tuning computes in linear layers, on the CPU: the value and the gradients of a loss through
//! frozen layers of Llama 3.2 1B's shapes, each with adapters of rank 8 (Hu et al. 2021). gradients.py does the same
//! with MLX alone.
//!
//!     cargo run --release --example gradients -- FORMAT TOKENS [rounds] [--threads N]      a line of JSON
//!
//! FORMAT: 4 or 8 (bits, in groups of 64), bfloat16 or float32.

use mlxrt::error::{Error, Result};
use mlxrt::kernels::{self, Source, Weight};
use mlxrt::mlx::ops::{self, QuantMode, Quantization, Quantized};
use mlxrt::mlx::{Array, Device, Dtype, eval, use_device, value_and_grad};
use serde_json::json;
use std::time::Instant;

/// Rows and columns of the layers, the input of each the result of the one before.
const LAYERS: [[i32; 2]; 4] = [[2048, 2048], [2048, 2048], [8192, 2048], [2048, 8192]];
const RANK: i32 = 8;

enum Frozen {
    Dense(Array),
    Quantized(Quantized),
}

impl Frozen {
    fn weight(&self) -> Weight<'_> {
        match self {
            Frozen::Dense(w) => Weight::Dense(w),
            Frozen::Quantized(w) => Weight::Quantized(w),
        }
    }
}

/// Values of about the given size that repeat no pattern of the shape's.
fn values(shape: [i32; 2], size: f32) -> Result<Array> {
    let value = |i: i32| (i.wrapping_mul(-1_640_531_535) >> 8) as f32 / 8_388_608.0 * size;
    let values: Vec<f32> = (0..shape[0] * shape[1]).map(value).collect();
    Array::from_f32(&values, &shape)
}

fn frozen(format: &str, shape: [i32; 2]) -> Result<Frozen> {
    let w = values(shape, 0.04)?;
    let frozen = match format {
        "float32" => Frozen::Dense(w),
        "bfloat16" => Frozen::Dense(ops::astype(&w, Dtype::BF16)?),
        bits => {
            let quantization =
                bits.parse().ok().and_then(|bits| Quantization::new(QuantMode::Affine, 64, bits));
            let quantization = quantization.ok_or_else(|| Error::BadArgument(format!("no format {bits}")))?;
            Frozen::Quantized(ops::quantize(&ops::astype(&w, Dtype::BF16)?, quantization)?)
        }
    };
    match &frozen {
        Frozen::Dense(w) => w.eval()?,
        Frozen::Quantized(w) => eval([&w.packed, &w.scales].into_iter().chain(&w.biases))?,
    }
    Ok(frozen)
}

fn product(x: &Array, w: Weight) -> Result<Array> {
    let product = kernels::products(Source::Plain(x), [(w, None)], None)?;
    product.map(|[y]| y).ok_or_else(|| Error::Unsupported("this machine has no kernels of ours".into()))
}

fn main() -> Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = arguments.iter().position(|text| text == "--threads") {
        let count = arguments.get(at + 1).and_then(|count| count.parse().ok()).unwrap_or(1);
        kernels::threads::set_count(count)?;
        arguments.truncate(at);
    }
    let [format, tokens, rounds @ ..] = &arguments[..] else {
        return Err(Error::BadArgument("usage: gradients FORMAT TOKENS [rounds] [--threads N]".into()));
    };
    let number = |text: &String| text.parse().map_err(|_| Error::BadArgument(format!("no number: {text}")));
    let (tokens, rounds): (i32, i32) = (number(tokens)?, rounds.first().map_or(Ok(1), number)?);
    use_device(Device::Cpu)?;
    let layers: Vec<Frozen> = LAYERS.iter().map(|&shape| frozen(format, shape)).collect::<Result<_>>()?;
    let mut adapters = vec![];
    for [rows, columns] in LAYERS {
        adapters.extend([values([RANK, columns], 0.04)?, values([rows, RANK], 0.04)?]);
    }
    let x = values([tokens, LAYERS[0][1]], 1.0)?;
    let loss = |adapters: &[Array]| {
        let mut x = x.clone();
        for (w, pair) in layers.iter().zip(adapters.chunks_exact(2)) {
            let low = product(&x, Weight::Dense(&pair[0]))?;
            let added = product(&low, Weight::Dense(&pair[1]))?;
            x = ops::add(&product(&x, w.weight())?, &added)?;
        }
        ops::sum(&ops::flatten(&ops::square(&x)?, 0, 1)?, 0, false)
    };
    let mut seconds = vec![];
    let mut value = 0.0;
    for _ in 0..rounds {
        let started = Instant::now();
        let (loss, gradients) = value_and_grad(loss, &adapters.iter().collect::<Vec<_>>())?;
        eval([&loss].into_iter().chain(&gradients))?;
        seconds.push(started.elapsed().as_secs_f64());
        value = loss.to_vec_f32()?[0];
    }
    println!("{}", json!({ "format": format, "tokens": tokens, "seconds": seconds, "loss": value }));
    Ok(())
}
