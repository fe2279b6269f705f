//! Operations that MLX's CPU backend is slow at, computed by code of our own. Each function returns
//! `None` where MLX is to compute: on a GPU, on macOS, or for arrays that have no kernel here.
//!
//! A row of a result depends on that row of the input alone, bit for bit, however many rows there are
//! and whatever the number of threads: so a request gets the same tokens alone and in a batch.

#[cfg(not(target_os = "macos"))]
mod attention;
#[cfg(not(target_os = "macos"))]
mod float;
#[cfg(not(target_os = "macos"))]
mod integer;
#[cfg(not(target_os = "macos"))]
mod isa;
mod math;
#[cfg(not(target_os = "macos"))]
mod matrix;
#[cfg(not(target_os = "macos"))]
mod output;
#[cfg(not(target_os = "macos"))]
mod product;
#[cfg(not(target_os = "macos"))]
mod stack;
#[cfg(all(test, not(target_os = "macos")))]
mod tests;
#[cfg(not(target_os = "macos"))]
pub mod threads;

use crate::error::Result;
use crate::mlx::ops::{Mask, Quantized};
use crate::mlx::{Array, Device, thread_device};
pub use math::exp_negative;
use std::cell::Cell;

thread_local! {
    static EXACT: Cell<bool> = const { Cell::new(false) };
}

/// Whether products on this thread are computed here.
pub fn compute() -> Result<bool> {
    Ok(cfg!(not(target_os = "macos")) && thread_device()? == Device::Cpu)
}

/// Whether this thread's products with matrices of integers are to be computed in float32 from now on.
/// Else the input is rounded to 8-bit integers with a scale for every 32 columns, which is several times
/// faster.
pub fn set_exact(exact: bool) {
    EXACT.set(exact);
}

/// How many threads kernels use from now on, in the whole process.
#[cfg(not(target_os = "macos"))]
pub fn set_threads(count: u32) -> Result<()> {
    threads::set_count(count as usize)
}

/// There are none on macOS.
#[cfg(target_os = "macos")]
pub fn set_threads(_: u32) -> Result<()> {
    Ok(())
}

#[cfg(not(target_os = "macos"))]
fn product(
    x: &Array,
    w: product::Weight,
    indices: Option<&Array>,
    bias: Option<&Array>,
) -> Result<Option<Array>> {
    if compute()? { product::product(x, w, indices, bias, EXACT.get()) } else { Ok(None) }
}

/// `x @ w.T + bias`: `x` `[.., in]`, `w` `[out, in]`, `bias` `[out]`, each in any float type. The result has
/// the type of `x`, to which it is rounded once.
#[cfg(not(target_os = "macos"))]
pub fn matmul(x: &Array, w: &Array, bias: Option<&Array>) -> Result<Option<Array>> {
    product(x, product::Weight::Dense(w), None, bias)
}

/// As [`matmul`].
#[cfg(not(target_os = "macos"))]
pub fn quantized_matmul(x: &Array, w: &Quantized, bias: Option<&Array>) -> Result<Option<Array>> {
    product(x, product::Weight::Quantized(w), None, bias)
}

/// `x[i] @ w[indices[i]].T`: as [`matmul`], `w` `[matrices, out, in]`. `x` is `[.., 1, in]` for indices
/// `[.., n]` or `[.., n, 1, in]`, whose order is any. The result is `[.., n, 1, out]`.
#[cfg(not(target_os = "macos"))]
pub fn gather_matmul(x: &Array, w: &Array, indices: &Array) -> Result<Option<Array>> {
    product(x, product::Weight::Dense(w), Some(indices), None)
}

/// As [`gather_matmul`].
#[cfg(not(target_os = "macos"))]
pub fn gather_quantized_matmul(x: &Array, w: &Quantized, indices: &Array) -> Result<Option<Array>> {
    product(x, product::Weight::Quantized(w), Some(indices), None)
}

/// Keys and values of positions behind each other, `[1, kv_heads, capacity, dim]` each, whose dims may
/// differ, in any order in memory: they are best read if the last axis lies in one piece.
#[derive(Debug, Clone)]
pub struct Run {
    /// The keys.
    pub keys: Array,
    /// Their values.
    pub values: Array,
    /// How many of the first count.
    pub used: i32,
}

/// One sequence of a pass.
#[derive(Debug, Clone)]
pub struct Sequence {
    /// Its positions, in order.
    pub runs: Vec<Run>,
    /// How many queries it has.
    pub queries: i32,
    /// Which positions they see; an array is `[queries, positions]`. A query that sees none gets zeros.
    pub mask: Mask,
}

/// What all the sequences share.
#[derive(Debug, Clone, Copy)]
pub struct AttentionOptions {
    /// Query heads, a multiple of `kv_heads`.
    pub heads: i32,
    /// Heads of keys and values.
    pub kv_heads: i32,
    /// Factor on the scores.
    pub scale: f32,
    /// Scores stay between plus and minus this, by tanh.
    pub softcap: Option<f32>,
}

/// [`attention`](crate::mlx::ops::attention) of several sequences, in float32. `q` is `[1, length, heads * dim]`, the
/// sequences' queries behind each other; the result is `[1, length, heads * value_dim]`. `sinks`
/// `[heads]`, if any, are not capped. Nothing is copied.
///
/// A query's result depends on its own sequence alone, bit for bit: neither on the other queries nor on how
/// positions are cut into runs. What is not seen must be finite all the same.
#[cfg(not(target_os = "macos"))]
pub fn attention(
    q: &Array,
    sequences: &[Sequence],
    options: &AttentionOptions,
    sinks: Option<&Array>,
) -> Result<Option<Array>> {
    if compute()? { attention::attention(isa::Isa::best(), q, sequences, options, sinks) } else { Ok(None) }
}

#[cfg(target_os = "macos")]
mod mlxs {
    use super::*;

    /// MLX computes on macOS.
    pub fn matmul(_: &Array, _: &Array, _: Option<&Array>) -> Result<Option<Array>> {
        Ok(None)
    }

    /// MLX computes on macOS.
    pub fn quantized_matmul(_: &Array, _: &Quantized, _: Option<&Array>) -> Result<Option<Array>> {
        Ok(None)
    }

    /// MLX computes on macOS.
    pub fn gather_matmul(_: &Array, _: &Array, _: &Array) -> Result<Option<Array>> {
        Ok(None)
    }

    /// MLX computes on macOS.
    pub fn gather_quantized_matmul(_: &Array, _: &Quantized, _: &Array) -> Result<Option<Array>> {
        Ok(None)
    }

    /// MLX computes on macOS.
    pub fn attention(
        _: &Array,
        _: &[Sequence],
        _: &AttentionOptions,
        _: Option<&Array>,
    ) -> Result<Option<Array>> {
        Ok(None)
    }
}
#[cfg(target_os = "macos")]
pub use mlxs::*;
