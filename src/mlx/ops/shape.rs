//! The same elements in another place or shape.

use super::{VectorArray, build, build_many, sys};
use crate::error::Result;
use crate::mlx::{Array, Dtype};

/// Builds another view of `a`.
fn build_view(
    a: &Array,
    f: impl FnOnce(*mut sys::mlx_array, sys::mlx_array, sys::mlx_stream) -> i32,
) -> Result<Array> {
    let view = build(|out, s| f(out, a.raw(), s))?;
    #[cfg(not(target_os = "macos"))]
    crate::mlx::primitive::settle(&view)?;
    Ok(view)
}

/// The same for shapes that only what lies row by row can be given without a copy.
fn build_shape(
    a: &Array,
    f: impl FnOnce(*mut sys::mlx_array, sys::mlx_array, sys::mlx_stream) -> i32,
) -> Result<Array> {
    if a.is_in_rows() { build_view(a, f) } else { build(|out, s| f(out, a.raw(), s)) }
}

/// The same data laid out row by row.
pub fn contiguous(a: &Array) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_contiguous(out, a.raw(), false, s) })
}

/// The same elements in another shape; one axis may be -1.
pub fn reshape(a: &Array, shape: &[i32]) -> Result<Array> {
    // SAFETY: all handles are live.
    build_shape(a, |out, a, s| unsafe { sys::mlx_reshape(out, a, shape.as_ptr(), shape.len(), s) })
}

/// The axes in another order.
pub fn transpose(a: &Array, axes: &[i32]) -> Result<Array> {
    // SAFETY: all handles are live.
    build_view(a, |out, a, s| unsafe { sys::mlx_transpose_axes(out, a, axes.as_ptr(), axes.len(), s) })
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
    build_view(a, |out, a, s| unsafe {
        sys::mlx_slice(out, a, starts.as_ptr(), n, stops.as_ptr(), n, strides.as_ptr(), n, s)
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

/// `value` in every element.
pub fn full(shape: &[i32], value: f32, dtype: Dtype) -> Result<Array> {
    let (value, dtype) = (Array::scalar(value)?, dtype.raw()?);
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_full(out, shape.as_ptr(), shape.len(), value.raw(), dtype, s) })
}

/// `a[.., start..stop:step, ..]` along one axis (0 or more): every `step`th element.
pub fn slice_step(a: &Array, axis: usize, start: i32, stop: i32, step: i32) -> Result<Array> {
    let n = a.shape().len();
    let mut starts = vec![0; n];
    let mut stops = a.shape().to_vec();
    let mut strides = vec![1; n];
    starts[axis] = start;
    stops[axis] = stop;
    strides[axis] = step;
    // SAFETY: as in `slice`.
    build_view(a, |out, a, s| unsafe {
        sys::mlx_slice(out, a, starts.as_ptr(), n, stops.as_ptr(), n, strides.as_ptr(), n, s)
    })
}

/// Parts of an axis that end before each of `indices`, and what is left.
pub fn split(a: &Array, indices: &[i32], axis: i32) -> Result<Vec<Array>> {
    // SAFETY: all handles are live.
    build_many(|out, s| unsafe {
        sys::mlx_split_sections(out, a.raw(), indices.as_ptr(), indices.len(), axis, s)
    })
}

/// Arrays of one shape along a new axis.
pub fn stack(arrays: &[&Array], axis: i32) -> Result<Array> {
    let vector = VectorArray::new(arrays.iter().copied())?;
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_stack_axis(out, vector.raw(), axis, s) })
}

/// A new axis of length 1 before `axis` (negative: counted from the end of the result).
pub fn expand_dims(a: &Array, axis: i32) -> Result<Array> {
    // SAFETY: all handles are live.
    build_view(a, |out, a, s| unsafe { sys::mlx_expand_dims(out, a, axis, s) })
}

/// Takes an axis of length 1 away.
pub fn squeeze(a: &Array, axis: i32) -> Result<Array> {
    // SAFETY: all handles are live.
    build_view(a, |out, a, s| unsafe { sys::mlx_squeeze_axis(out, a, axis, s) })
}

/// Axes `first..=last` as one.
pub fn flatten(a: &Array, first: i32, last: i32) -> Result<Array> {
    // SAFETY: all handles are live.
    build_shape(a, |out, a, s| unsafe { sys::mlx_flatten(out, a, first, last, s) })
}

/// Two axes exchanged.
pub fn swap_axes(a: &Array, first: i32, second: i32) -> Result<Array> {
    // SAFETY: all handles are live.
    build_view(a, |out, a, s| unsafe { sys::mlx_swapaxes(out, a, first, second, s) })
}

/// Every element of an axis `repeats` times in a row.
pub fn repeat(a: &Array, repeats: i32, axis: i32) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_repeat_axis(out, a.raw(), repeats, axis, s) })
}

/// The same bytes read as another type; the last axis grows or shrinks with the size.
pub fn view(a: &Array, dtype: Dtype) -> Result<Array> {
    let dtype = dtype.raw()?;
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_view(out, a.raw(), dtype, s) })
}
