//! Operations that MLX's CPU backend is slow at, or needs many steps for, computed by code of our own. Each
//! function returns `None` where MLX is to compute: on a GPU, on macOS, or for arrays that have no kernel
//! here.
//!
//! A row of a result depends on that row of the input alone, bit for bit, however many rows there are
//! and whatever the number of threads: so a request gets the same tokens alone and in a batch.

mod activation;
#[cfg(all(target_arch = "x86_64", not(target_os = "macos")))]
mod amx;
#[cfg(not(target_os = "macos"))]
mod append;
#[cfg(not(target_os = "macos"))]
mod attention;
#[cfg(all(target_arch = "x86_64", not(target_os = "macos")))]
mod bfloat;
#[cfg(not(target_os = "macos"))]
mod elementwise;
#[cfg(not(target_os = "macos"))]
mod float;
#[cfg(not(target_os = "macos"))]
mod gate;
#[cfg(not(target_os = "macos"))]
mod gradient;
#[cfg(not(target_os = "macos"))]
mod input;
#[cfg(not(target_os = "macos"))]
mod integer;
#[cfg(not(target_os = "macos"))]
mod interleave;
#[cfg(not(target_os = "macos"))]
mod isa;
#[cfg(not(target_os = "macos"))]
mod lines;
mod math;
#[cfg(not(target_os = "macos"))]
mod matrix;
#[cfg(not(target_os = "macos"))]
mod norm;
#[cfg(not(target_os = "macos"))]
mod output;
#[cfg(not(target_os = "macos"))]
mod pool;
#[cfg(not(target_os = "macos"))]
mod product;
#[cfg(not(target_os = "macos"))]
mod rope;
#[cfg(not(target_os = "macos"))]
mod rows;
#[cfg(not(target_os = "macos"))]
mod stack;
#[cfg(not(target_os = "macos"))]
mod strided;
mod sum_exp;
#[cfg(all(test, not(target_os = "macos")))]
mod tests;
#[cfg(not(target_os = "macos"))]
pub mod threads;

pub use activation::Activation;
pub(crate) use activation::{CLIP, SLOPE};
pub use math::exp_negative;
pub use sum_exp::sum_exp;
#[cfg(not(target_os = "macos"))]
pub use {
    append::{append, appends},
    elementwise::{add, scale},
    gate::{gated, gated_halves},
    interleave::{in_rows, interleave, interleaves},
    norm::{layer_norm, rms_norm},
    rope::rope,
};

use crate::error::Result;
use crate::mlx::ops::{Mask, Quantized, RopeFrequencies};
use crate::mlx::{Array, Device, is_tracing, thread_device};
use std::cell::Cell;

/// A matrix `[rows, columns]`, or several: `[matrices, rows, columns]`.
#[derive(Debug, Clone, Copy)]
pub enum Weight<'a> {
    /// Floats.
    Dense(&'a Array),
    /// Quantised.
    Quantized(&'a Quantized),
    /// Quantised, and interleaved ([`interleave()`]).
    Interleaved(&'a Quantized),
}

/// What a product's input is made of, in the same operation.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// This.
    Plain(&'a Array),
    /// Its [`rms_norm`] with a weight.
    Normed {
        /// What is normalised.
        x: &'a Array,
        /// `[in]`.
        weight: &'a Array,
        /// Added to the mean square.
        eps: f32,
    },
    /// `activation(gate) * up`.
    Gated {
        /// Of the gate.
        activation: Activation,
        /// `[.., in]`.
        gate: &'a Array,
        /// The same shape.
        up: &'a Array,
    },
    /// The same of rows that hold gate and up beside each other.
    Halves {
        /// Of the gate.
        activation: Activation,
        /// `[.., 2 * in]`.
        both: &'a Array,
    },
}

/// How products are computed.
#[cfg(not(target_os = "macos"))]
#[derive(Debug, Clone, Copy, PartialEq)]
enum Precision {
    /// In float32.
    Exact,
    /// The same, but that inputs of bfloat16 matrices are two bfloat16.
    Split,
    /// And inputs of integers are integers.
    Rounded,
}

thread_local! {
    static EXACT: Cell<bool> = const { Cell::new(false) };
    static OFF: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread's operations are computed here: not those that need gradients, which products alone have.
pub fn compute() -> Result<bool> {
    Ok(!is_tracing() && multiply()?)
}

/// Whether its products are.
fn multiply() -> Result<bool> {
    Ok(cfg!(not(target_os = "macos")) && !OFF.get() && thread_device()? == Device::Cpu)
}

/// Has MLX compute all that this thread does from now on, as it does on GPUs: so that tests need none to try
/// what is done there.
#[doc(hidden)]
pub fn set_off(off: bool) {
    OFF.set(off);
}

/// Whether this thread's products with matrices of integers are to be computed in float32 from now on, and with
/// matrices of bfloat16 too. Else the input of the former is rounded to 8-bit integers with a scale for every 64
/// columns or fewer, and that of the latter to 16 bits, which is several times faster.
pub fn set_exact(exact: bool) {
    EXACT.set(exact);
}

/// Runs `work` for 0, 1, .. `tasks - 1`, on all the threads that kernels use.
#[cfg(not(target_os = "macos"))]
pub fn for_each(tasks: usize, work: impl Fn(usize) + Sync) {
    threads::for_each(tasks, work);
}

/// On this thread.
#[cfg(target_os = "macos")]
pub fn for_each(tasks: usize, work: impl Fn(usize) + Sync) {
    (0..tasks).for_each(work);
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

/// `x @ w.T + bias` for several matrices: `x` `[.., in]`, each `w` `[out, in]`, its bias `[out]`, all in any float
/// type. The results `[.., out]` have the type of `x`, to which they are rounded once. The first one is added to
/// `onto`, if that is given. Other sources than a plain one, and `onto`, are float32, and computed as the operations
/// of their own would be.
///
/// Where gradients are wanted, sources must be plain, there is no `onto`, and integers are multiplied in float32. The
/// gradients are those of `x`, biases and dense matrices.
#[cfg(not(target_os = "macos"))]
pub fn products<const N: usize>(
    source: Source,
    weights: [(Weight, Option<&Array>); N],
    onto: Option<&Array>,
) -> Result<Option<[Array; N]>> {
    let precision = match (EXACT.get(), is_tracing()) {
        (true, _) => Precision::Exact,
        (false, true) => Precision::Split,
        (false, false) => Precision::Rounded,
    };
    if multiply()? { product::products(source, weights, onto, precision) } else { Ok(None) }
}

/// `x[i] @ w[indices[i]].T`: as [`products`], `w` `[matrices, out, in]`. `x` is `[.., 1, in]` for indices
/// `[.., n]` or `[.., n, 1, in]`, whose order is any. The result is `[.., n, 1, out]`.
#[cfg(not(target_os = "macos"))]
pub fn gather_product(x: &Array, w: Weight, indices: &Array) -> Result<Option<Array>> {
    let precision = if EXACT.get() { Precision::Exact } else { Precision::Rounded };
    if compute()? { product::gather(x, w, indices, precision) } else { Ok(None) }
}

/// The rows of `w` `[rows, columns]` with the given indices, int32 or uint32 `[..]`, in float32:
/// `[.., columns]`. An index that is no row's is an error when the result is evaluated.
#[cfg(not(target_os = "macos"))]
pub fn rows(w: Weight, indices: &Array) -> Result<Option<Array>> {
    rows::rows(w, indices)
}

/// What [`rope()`] does to each head: its first `dims` dimensions turn, by angles of `position * scale` over
/// each pair's period, and are multiplied with `gain`.
#[derive(Debug, Clone, Copy)]
pub struct Rotation<'a> {
    /// Width of a head.
    pub head_dim: i32,
    /// How many dimensions turn, an even number.
    pub dims: i32,
    /// Whether neighbours are pairs; otherwise dimension i goes with `i + dims / 2`.
    pub traditional: bool,
    /// Each pair's period.
    pub frequencies: &'a RopeFrequencies,
    /// Multiplies positions.
    pub scale: f32,
    /// Multiplies the turning dimensions.
    pub gain: f32,
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
    use crate::mlx::ops::Quantization;

    impl<'a> Weight<'a> {
        /// None are interleaved.
        pub fn quantized(w: &'a Quantized, _: bool) -> Self {
            Weight::Quantized(w)
        }
    }

    /// MLX takes them in rows.
    pub fn interleaves(_: i32, _: Quantization) -> bool {
        false
    }

    /// None are.
    ///
    /// # Safety
    /// Nothing is done.
    pub unsafe fn interleave(_: &Array) -> Result<()> {
        Ok(())
    }

    /// They are.
    pub fn in_rows(w: &Quantized) -> Result<Quantized> {
        Ok(w.clone())
    }
    use std::ops::Range;

    /// MLX computes on macOS.
    pub fn products<const N: usize>(
        _: Source,
        _: [(Weight, Option<&Array>); N],
        _: Option<&Array>,
    ) -> Result<Option<[Array; N]>> {
        Ok(None)
    }

    /// MLX computes on macOS.
    pub fn gather_product(_: &Array, _: Weight, _: &Array) -> Result<Option<Array>> {
        Ok(None)
    }

    /// MLX computes on macOS.
    pub fn rows(_: Weight, _: &Array) -> Result<Option<Array>> {
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

    /// MLX computes on macOS.
    pub fn add(_: &Array, _: &Array) -> Result<Option<Array>> {
        Ok(None)
    }

    /// MLX computes on macOS.
    pub fn scale(_: &Array, _: f32) -> Result<Option<Array>> {
        Ok(None)
    }

    /// MLX computes on macOS.
    pub fn rms_norm(_: &Array, _: Option<&Array>, _: f32) -> Result<Option<Array>> {
        Ok(None)
    }

    /// MLX computes on macOS.
    pub fn layer_norm(_: &Array, _: &Array, _: Option<&Array>, _: f32) -> Result<Option<Array>> {
        Ok(None)
    }

    /// MLX computes on macOS.
    pub fn gated(_: Activation, _: &Array, _: &Array) -> Result<Option<Array>> {
        Ok(None)
    }

    /// MLX computes on macOS.
    pub fn gated_halves(_: Activation, _: &Array) -> Result<Option<Array>> {
        Ok(None)
    }

    /// MLX computes on macOS.
    pub fn rope<const N: usize>(_: [&Array; N], _: &Array, _: &Rotation) -> Result<Option<[Array; N]>> {
        Ok(None)
    }

    /// MLX computes on macOS.
    pub fn appends(_: &Array, _: &Array) -> Result<bool> {
        Ok(false)
    }

    /// Never called.
    pub fn append(buffer: Array, _: &Array, _: Range<i32>, _: i32) -> Result<Array> {
        Ok(buffer)
    }
}
#[cfg(target_os = "macos")]
pub use mlxs::*;
