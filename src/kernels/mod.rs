//! Operations that MLX's CPU backend is slow at, computed by code of our own. Each function returns
//! `None` where MLX is to compute: on a GPU, on macOS, or in a format that has no kernel here.
//!
//! A row of a result depends on that row of the input alone, bit for bit, however many rows there are
//! and whatever the number of threads: so a request gets the same tokens alone and in a batch.

#[cfg(not(target_os = "macos"))]
mod float;
#[cfg(not(target_os = "macos"))]
mod isa;
#[cfg(not(target_os = "macos"))]
mod quantized;
#[cfg(all(test, not(target_os = "macos")))]
mod tests;
#[cfg(not(target_os = "macos"))]
pub mod threads;

use crate::error::Result;
use crate::mlx::Array;
use crate::mlx::ops::Quantized;

/// `x @ w.T`: `x` `[.., in]`, `w` `[out, in]`, the result of `x`'s type.
#[cfg(not(target_os = "macos"))]
pub fn quantized_matmul(x: &Array, w: &Quantized) -> Result<Option<Array>> {
    use crate::mlx::{Device, thread_device};
    if thread_device()? != Device::Cpu || !quantized::supports(x, w) {
        return Ok(None);
    }
    quantized::matmul(x, w).map(Some)
}

/// MLX computes on macOS.
#[cfg(target_os = "macos")]
pub fn quantized_matmul(_: &Array, _: &Quantized) -> Result<Option<Array>> {
    Ok(None)
}
