//! Where MLX's CPU backend becomes faster at dequantising a matrix and calling BLAS than at its own
//! quantised product: the figure behind `CPU_DEQUANTIZE_ROWS` in src/nn/linear.rs.
//!
//!     cargo run --release --example quantized_rows

use mlxrt::error::Result;
use mlxrt::mlx::ops::{self, QuantMode, Quantization, Quantized};
use mlxrt::mlx::{Array, Device, Dtype, use_device};
use std::time::Instant;

/// The best of a few runs, in milliseconds.
fn time(run: impl Fn() -> Result<Array>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        run()?.eval()?;
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(best)
}

fn main() -> Result<()> {
    use_device(Device::Cpu)?;
    let quantization = Quantization { group_size: 64, bits: 4, mode: QuantMode::Affine };
    for (output, input) in [(896, 896), (4864, 896), (8192, 2048)] {
        let packed: Vec<i32> = (0..output * input / 8).map(|i: i32| i.wrapping_mul(-1_640_531_535)).collect();
        let packed = Array::from_i32(&packed, &[output, input / 8])?;
        let packed = ops::astype(&packed, Dtype::U32)?;
        let groups = vec![0.01; (output * input / 64) as usize];
        let scales = Array::from_f32(&groups, &[output, input / 64])?;
        packed.eval()?;
        let weight = Quantized { packed, biases: Some(scales.clone()), scales, quantization };
        println!("{output} x {input}: rows, quantised ms, dequantised ms");
        for rows in [1, 2, 4, 8, 16, 32, 128] {
            let x = Array::from_f32(&vec![0.5; (rows * input) as usize], &[rows, input])?;
            let quantised = time(|| ops::quantized_matmul(&x, &weight, true))?;
            let dequantised = time(|| {
                let dense = ops::dequantize(&weight, Dtype::F32)?;
                ops::matmul(&x, &ops::transpose(&dense, &[1, 0])?)
            })?;
            println!("{rows:6} {quantised:10.2} {dequantised:10.2}");
        }
    }
    Ok(())
}
