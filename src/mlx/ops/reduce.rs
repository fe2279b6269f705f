//! Operations along one axis (negative: counted from the end).

use super::{build, sys};
use crate::error::Result;
use crate::mlx::Array;

/// `exp(a) / sum(exp(a))` along an axis; `precise` sums in float32 whatever the type.
pub fn softmax(a: &Array, axis: i32, precise: bool) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_softmax_axis(out, a.raw(), axis, precise, s) })
}

/// The sum along an axis, which stays with length 1 if `keep`.
pub fn sum(a: &Array, axis: i32, keep: bool) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_sum_axis(out, a.raw(), axis, keep, s) })
}

/// The largest element along an axis.
pub fn max(a: &Array, axis: i32) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_max_axis(out, a.raw(), axis, false, s) })
}

/// The index of the largest element along an axis, the first of equals: uint32.
pub fn argmax(a: &Array, axis: i32) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_argmax_axis(out, a.raw(), axis, false, s) })
}

/// `ln(sum(exp(a)))` along an axis.
pub fn log_sum_exp(a: &Array, axis: i32) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_logsumexp_axis(out, a.raw(), axis, false, s) })
}

/// The mean along an axis, which stays with length 1 if `keep`.
pub fn mean(a: &Array, axis: i32, keep: bool) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_mean_axis(out, a.raw(), axis, keep, s) })
}

/// Indices that sort an axis, uint32.
pub fn argsort(a: &Array, axis: i32) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_argsort_axis(out, a.raw(), axis, s) })
}

/// Indices that put the element of rank `kth` (negative: from the end) into its place, smaller ones
/// before it, larger ones behind it; uint32.
pub fn argpartition(a: &Array, kth: i32, axis: i32) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_argpartition_axis(out, a.raw(), kth, axis, s) })
}

/// The `k` largest of the last axis in no order: their indices (uint32) and values, `[.., k]`.
pub fn top_k(a: &Array, k: i32) -> Result<(Array, Array)> {
    let last = a.shape().len() - 1;
    let count = a.dim(-1);
    let indices = super::slice(&argpartition(a, -k, -1)?, last, count - k, count)?;
    let values = take_along_axis(a, &indices, -1)?;
    Ok((indices, values))
}

/// [`top_k`] as the smallest of `-a`. The order is another, and of equal values, which 16-bit logits
/// often are, so may be the choice: routers follow mlx-lm's.
pub fn top_k_negated(a: &Array, k: i32) -> Result<(Array, Array)> {
    let last = a.shape().len() - 1;
    let indices = super::slice(&argpartition(&super::negative(a)?, k - 1, -1)?, last, 0, k)?;
    let values = take_along_axis(a, &indices, -1)?;
    Ok((indices, values))
}

/// `a[.., indices[.., i], ..]` along an axis; other axes alike or 1.
pub fn take_along_axis(a: &Array, indices: &Array, axis: i32) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_take_along_axis(out, a.raw(), indices.raw(), axis, s) })
}

/// `a` with `a[.., indices[.., i], ..]` along an axis replaced by `values`.
pub fn put_along_axis(a: &Array, indices: &Array, values: &Array, axis: i32) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_put_along_axis(out, a.raw(), indices.raw(), values.raw(), axis, s) })
}

/// The running sum along an axis, each element its own included.
pub fn cumsum(a: &Array, axis: i32) -> Result<Array> {
    let no_dtype = sys::mlx_optional_dtype { value: sys::mlx_dtype__MLX_FLOAT32, has_value: false };
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_cumsum_axis(out, a.raw(), axis, false, true, no_dtype, s) })
}
