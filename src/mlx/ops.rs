//! The operations that models use. Each builds a node of MLX's graph on this thread's stream; nothing
//! is computed until an array is evaluated.

use super::array::{Array, Dtype, VectorArray};
use super::stream::with_stream;
use super::sys;
use crate::error::Result;
use std::ffi::CString;

/// Builds one array with this thread's stream.
fn build(f: impl FnOnce(*mut sys::mlx_array, sys::mlx_stream) -> i32) -> Result<Array> {
    with_stream(|stream| Array::make(|out| f(out, stream)))?
}

/// mlx-c's "may be null" array.
fn null() -> sys::mlx_array {
    sys::mlx_array { ctx: std::ptr::null_mut() }
}

fn some_int(value: i32) -> sys::mlx_optional_int {
    sys::mlx_optional_int { value, has_value: true }
}

macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident => $c:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(a: &Array, b: &Array) -> Result<Array> {
            // SAFETY: all handles are live.
            build(|out, s| unsafe { sys::$c(out, a.raw(), b.raw(), s) })
        }
    )*};
}

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident => $c:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(a: &Array) -> Result<Array> {
            // SAFETY: all handles are live.
            build(|out, s| unsafe { sys::$c(out, a.raw(), s) })
        }
    )*};
}

binary! {
    /// Matrix product over the last two axes.
    matmul => mlx_matmul;
    /// Sum, broadcasting.
    add => mlx_add;
    /// Product, broadcasting.
    multiply => mlx_multiply;
    /// `a` to the power of `b`, broadcasting.
    power => mlx_power;
    /// `a >= b`, broadcasting.
    greater_equal => mlx_greater_equal;
    /// `a < b`, broadcasting.
    less => mlx_less;
    /// `a && b`, broadcasting.
    logical_and => mlx_logical_and;
}

unary! {
    /// Logistic function.
    sigmoid => mlx_sigmoid;
    /// Hyperbolic tangent.
    tanh => mlx_tanh;
    /// Elementwise square.
    square => mlx_square;
}

/// `c + a @ b`, with the sum inside the product's accumulation.
pub fn addmm(c: &Array, a: &Array, b: &Array) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_addmm(out, c.raw(), a.raw(), b.raw(), 1.0, 1.0, s) })
}

/// The same data with another element type.
pub fn astype(a: &Array, dtype: Dtype) -> Result<Array> {
    let dtype = dtype.raw()?;
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_astype(out, a.raw(), dtype, s) })
}

/// The same data laid out row by row.
pub fn contiguous(a: &Array) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_contiguous(out, a.raw(), false, s) })
}

/// The same elements in another shape; one axis may be -1.
pub fn reshape(a: &Array, shape: &[i32]) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_reshape(out, a.raw(), shape.as_ptr(), shape.len(), s) })
}

/// The axes in another order.
pub fn transpose(a: &Array, axes: &[i32]) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_transpose_axes(out, a.raw(), axes.as_ptr(), axes.len(), s) })
}

/// `a[.., start..stop, ..]` along one axis (0 or more).
pub fn slice(a: &Array, axis: usize, start: i32, stop: i32) -> Result<Array> {
    let n = a.shape().len();
    let mut starts = vec![0; n];
    let mut stops = a.shape().to_vec();
    starts[axis] = start;
    stops[axis] = stop;
    let strides = vec![1; n];
    // SAFETY: all handles and the three lists of length n are live.
    build(|out, s| unsafe {
        sys::mlx_slice(out, a.raw(), starts.as_ptr(), n, stops.as_ptr(), n, strides.as_ptr(), n, s)
    })
}

/// `a` with `a[.., start..start+len, ..]` along `axis` replaced by `update`. Done in place where
/// nothing else holds `a`.
pub fn slice_update(a: &Array, update: &Array, axis: usize, start: i32) -> Result<Array> {
    let n = a.shape().len();
    let mut starts = vec![0; n];
    let mut stops = a.shape().to_vec();
    starts[axis] = start;
    stops[axis] = start + update.shape()[axis];
    let strides = vec![1; n];
    // SAFETY: as in `slice`.
    build(|out, s| unsafe {
        sys::mlx_slice_update(
            out,
            a.raw(),
            update.raw(),
            starts.as_ptr(),
            n,
            stops.as_ptr(),
            n,
            strides.as_ptr(),
            n,
            s,
        )
    })
}

/// Arrays one after the other along an axis.
pub fn concatenate(arrays: &[&Array], axis: i32) -> Result<Array> {
    let vector = VectorArray::new(arrays.iter().copied())?;
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_concatenate_axis(out, vector.raw(), axis, s) })
}

/// Zeros.
pub fn zeros(shape: &[i32], dtype: Dtype) -> Result<Array> {
    let dtype = dtype.raw()?;
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_zeros(out, shape.as_ptr(), shape.len(), dtype, s) })
}

/// int32 `start, start+1, .., stop-1`.
pub fn arange(start: i32, stop: i32) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe {
        sys::mlx_arange(out, start.into(), stop.into(), 1.0, sys::mlx_dtype__MLX_INT32, s)
    })
}

/// Rows of `a` (along axis 0) by index.
pub fn take(a: &Array, indices: &Array) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_take_axis(out, a.raw(), indices.raw(), 0, s) })
}

/// `x` clipped to `[low, high]`.
pub fn clip(x: &Array, low: &Array, high: &Array) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_clip(out, x.raw(), low.raw(), high.raw(), s) })
}

/// How a matrix is quantised: `bits` a value, a scale and a bias for every `group_size` values of a
/// row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantization {
    /// Values that share a scale.
    pub group_size: i32,
    /// Bits a value.
    pub bits: i32,
}

fn affine() -> CString {
    CString::new("affine").expect("no NUL")
}

/// `x @ w.T` for an affinely quantised `w` of shape `[out, in]`.
pub fn quantized_matmul(
    x: &Array,
    w: &Array,
    scales: &Array,
    biases: &Array,
    quantization: Quantization,
) -> Result<Array> {
    let mode = affine();
    // SAFETY: all handles are live.
    build(|out, s| unsafe {
        sys::mlx_quantized_matmul(
            out,
            x.raw(),
            w.raw(),
            scales.raw(),
            biases.raw(),
            true,
            some_int(quantization.group_size),
            some_int(quantization.bits),
            mode.as_ptr(),
            s,
        )
    })
}

/// The matrix that affine quantisation stands for, in the dtype of `scales`.
pub fn dequantize(w: &Array, scales: &Array, biases: &Array, quantization: Quantization) -> Result<Array> {
    let mode = affine();
    let no_dtype = sys::mlx_optional_dtype { value: sys::mlx_dtype__MLX_FLOAT32, has_value: false };
    // SAFETY: all handles are live.
    build(|out, s| unsafe {
        sys::mlx_dequantize(
            out,
            w.raw(),
            scales.raw(),
            biases.raw(),
            some_int(quantization.group_size),
            some_int(quantization.bits),
            mode.as_ptr(),
            null(),
            no_dtype,
            s,
        )
    })
}

/// `x / rms(x) * weight` over the last axis, with `eps` added to the mean square.
pub fn rms_norm(x: &Array, weight: &Array, eps: f32) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_fast_rms_norm(out, x.raw(), weight.raw(), eps, s) })
}

/// Where rotary angles come from.
#[derive(Debug, Clone)]
pub enum RopeFrequencies {
    /// `base^(-2i/dims)`.
    Base(f32),
    /// One period per pair of dimensions, float32 of length `dims / 2`.
    Table(Array),
}

/// Rotary position embedding of `x` (`[.., length, head_dim]`) on its first `dims` dimensions, for
/// positions `offset..`, each multiplied by `scale`.
pub fn rope(
    x: &Array,
    dims: i32,
    traditional: bool,
    frequencies: &RopeFrequencies,
    scale: f32,
    offset: i32,
) -> Result<Array> {
    let (base, table) = match frequencies {
        RopeFrequencies::Base(base) => (sys::mlx_optional_float { value: *base, has_value: true }, null()),
        RopeFrequencies::Table(table) => {
            (sys::mlx_optional_float { value: 0.0, has_value: false }, table.raw())
        }
    };
    // SAFETY: all handles are live.
    build(|out, s| unsafe {
        sys::mlx_fast_rope(out, x.raw(), dims, traditional, base, scale, offset, table, s)
    })
}

/// Which keys each query sees.
#[derive(Debug, Clone)]
pub enum Mask {
    /// All of them.
    None,
    /// Those up to its own position, queries being the last positions.
    Causal,
    /// Where the boolean array, broadcast to `[.., queries, keys]`, is true.
    Array(Array),
}

/// `softmax(scale * q @ k.T + mask) @ v`: q is `[batch, heads, queries, head_dim]`, k and v
/// `[batch, kv_heads, keys, head_dim]` with `heads` a multiple of `kv_heads`.
pub fn attention(q: &Array, k: &Array, v: &Array, scale: f32, mask: &Mask) -> Result<Array> {
    let (mode, array) = match mask {
        Mask::None => ("", null()),
        Mask::Causal => ("causal", null()),
        Mask::Array(array) => ("array", array.raw()),
    };
    let mode = CString::new(mode).expect("no NUL");
    // SAFETY: all handles are live.
    build(|out, s| unsafe {
        sys::mlx_fast_scaled_dot_product_attention(
            out,
            q.raw(),
            k.raw(),
            v.raw(),
            scale,
            mode.as_ptr(),
            array,
            null(),
            false,
            s,
        )
    })
}
