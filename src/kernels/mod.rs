//! Operations that MLX's CPU backend is slow at, computed by code of our own. Each function returns
//! `None` where MLX is to compute: on a GPU, on macOS, or in a format that has no kernel here.
//!
//! A row of a result depends on that row of the input alone, bit for bit, however many rows there are
//! and whatever the number of threads: so a request gets the same tokens alone and in a batch.

#[cfg(not(target_os = "macos"))]
mod affine;
#[cfg(not(target_os = "macos"))]
mod dense;
#[cfg(not(target_os = "macos"))]
mod float;
#[cfg(not(target_os = "macos"))]
mod integer;
#[cfg(not(target_os = "macos"))]
mod isa;
#[cfg(not(target_os = "macos"))]
mod output;
#[cfg(not(target_os = "macos"))]
mod quantized;
#[cfg(all(test, not(target_os = "macos")))]
mod tests;
#[cfg(not(target_os = "macos"))]
pub mod threads;

use crate::error::Result;
use crate::mlx::Array;
use crate::mlx::ops::Quantized;
use std::cell::Cell;

/// Whether this platform has kernels.
pub const AVAILABLE: bool = cfg!(not(target_os = "macos"));

thread_local! {
    static EXACT: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread's quantised products are to be computed in float32 from now on. Else the input is
/// rounded to 8-bit integers with a scale for every 32 columns, which is several times faster.
pub fn set_exact(exact: bool) {
    EXACT.set(exact);
}

/// `x @ w.T`: `x` `[.., in]` in float32, `w` `[out, in]` in any float type.
#[cfg(not(target_os = "macos"))]
pub fn matmul(x: &Array, w: &Array) -> Result<Option<Array>> {
    use crate::mlx::{Device, thread_device};
    if thread_device()? != Device::Cpu || !dense::supports(x, w) {
        return Ok(None);
    }
    dense::matmul(x, w).map(Some)
}

/// MLX computes on macOS.
#[cfg(target_os = "macos")]
pub fn matmul(_: &Array, _: &Array) -> Result<Option<Array>> {
    Ok(None)
}

/// `x @ w.T`: `x` `[.., in]`, `w` `[out, in]`, the result of `x`'s type.
#[cfg(not(target_os = "macos"))]
pub fn quantized_matmul(x: &Array, w: &Quantized) -> Result<Option<Array>> {
    use crate::mlx::{Device, thread_device};
    if thread_device()? != Device::Cpu || !quantized::supports(x, w) {
        return Ok(None);
    }
    quantized::matmul(x, w, EXACT.get()).map(Some)
}

/// MLX computes on macOS.
#[cfg(target_os = "macos")]
pub fn quantized_matmul(_: &Array, _: &Quantized) -> Result<Option<Array>> {
    Ok(None)
}
