//! Matrix products, dense and quantised, and convolution.

use super::{build, build_many, null, or_null, sys};
use crate::error::{Error, Result};
use crate::mlx::{Array, Dtype};
use std::ffi::CStr;

/// How the values of a group are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuantMode {
    /// Unsigned integers with a floating-point scale and bias a group.
    Affine,
    /// OCP microscaling: 4-bit floats (e2m1), an 8-bit power of two every 32.
    Mxfp4,
    /// OCP microscaling: 8-bit floats (e4m3), an 8-bit power of two every 32.
    Mxfp8,
    /// NVIDIA's: 4-bit floats (e2m1), an 8-bit float (e4m3) every 16.
    Nvfp4,
}

impl QuantMode {
    const ALL: [(QuantMode, &'static CStr); 4] = [
        (QuantMode::Affine, c"affine"),
        (QuantMode::Mxfp4, c"mxfp4"),
        (QuantMode::Mxfp8, c"mxfp8"),
        (QuantMode::Nvfp4, c"nvfp4"),
    ];

    fn c_name(self) -> &'static CStr {
        Self::ALL.iter().find(|(mode, _)| *mode == self).expect("all are listed").1
    }

    /// The name that config.json uses.
    pub fn name(self) -> &'static str {
        self.c_name().to_str().expect("ASCII")
    }

    /// The mode of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| known.to_str() == Ok(name)).map(|(mode, _)| *mode)
    }
}

/// How a matrix is quantised: `bits` a value, a scale (and, if affine, a bias) for every `group_size`
/// values of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantization {
    /// Values that share a scale.
    pub group_size: i32,
    /// Bits a value.
    pub bits: i32,
    /// How a group is stored.
    pub mode: QuantMode,
}

impl Quantization {
    /// What MLX knows: affine 2, 3, 4, 5, 6 and 8 bits in groups of 32, 64 and 128, and the one form of
    /// each floating-point mode.
    pub fn new(mode: QuantMode, group_size: i32, bits: i32) -> Option<Self> {
        let known = match mode {
            QuantMode::Affine => [32, 64, 128].contains(&group_size) && [2, 3, 4, 5, 6, 8].contains(&bits),
            QuantMode::Mxfp4 => (group_size, bits) == (32, 4),
            QuantMode::Mxfp8 => (group_size, bits) == (32, 8),
            QuantMode::Nvfp4 => (group_size, bits) == (16, 4),
        };
        known.then_some(Quantization { group_size, bits, mode })
    }

    /// Whether rows of so many values can be stored so. (MLX quantises rows of half a 32 to NVFP4, but
    /// does not dequantise them.)
    pub fn divides(&self, columns: i32) -> bool {
        columns % self.group_size == 0 && columns % 32 == 0
    }

    /// The shapes of a matrix `[.., rows, columns]`'s packed values and of its scales.
    pub fn shapes(&self, shape: &[i32]) -> [Vec<i32>; 2] {
        let (columns, outer) = shape.split_last().expect("a matrix");
        [columns / 32 * self.bits, columns / self.group_size].map(|last| [outer, &[last]].concat())
    }
}

/// A quantised matrix `[.., rows, columns]`.
#[derive(Debug, Clone)]
pub struct Quantized {
    /// uint32 `[.., rows, columns * bits / 32]`.
    pub packed: Array,
    /// `[.., rows, columns / group_size]`: floats if affine, else bytes.
    pub scales: Array,
    /// Affine: as `scales`.
    pub biases: Option<Array>,
    /// The format.
    pub quantization: Quantization,
}

fn some_int(value: i32) -> sys::mlx_optional_int {
    sys::mlx_optional_int { value, has_value: true }
}

/// Matrix product over the last two axes.
pub fn matmul(a: &Array, b: &Array) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_matmul(out, a.raw(), b.raw(), s) })
}

/// `c + a @ b`, with the sum inside the product's accumulation.
pub fn addmm(c: &Array, a: &Array, b: &Array) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_addmm(out, c.raw(), a.raw(), b.raw(), 1.0, 1.0, s) })
}

/// `a[i] @ b[indices[i]]`: a `[.., 1, columns]` with batch axes like `indices`, b
/// `[matrices, columns, rows]`. `sorted`: the indices ascend.
pub fn gather_matmul(a: &Array, b: &Array, indices: &Array, sorted: bool) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_gather_mm(out, a.raw(), b.raw(), null(), indices.raw(), sorted, s) })
}

/// `x @ w.T`, or `x @ w` if not `transpose`.
pub fn quantized_matmul(x: &Array, w: &Quantized, transpose: bool) -> Result<Array> {
    let Quantization { group_size, bits, mode } = w.quantization;
    // SAFETY: all handles are live.
    build(|out, s| unsafe {
        sys::mlx_quantized_matmul(
            out,
            x.raw(),
            w.packed.raw(),
            w.scales.raw(),
            or_null(w.biases.as_ref()),
            transpose,
            some_int(group_size),
            some_int(bits),
            mode.c_name().as_ptr(),
            s,
        )
    })
}

/// `x[i] @ w[indices[i]].T`: as [`gather_matmul`], w `[matrices, rows, columns]`.
pub fn gather_quantized_matmul(x: &Array, w: &Quantized, indices: &Array, sorted: bool) -> Result<Array> {
    let Quantization { group_size, bits, mode } = w.quantization;
    // SAFETY: all handles are live.
    build(|out, s| unsafe {
        sys::mlx_gather_qmm(
            out,
            x.raw(),
            w.packed.raw(),
            w.scales.raw(),
            or_null(w.biases.as_ref()),
            null(),
            indices.raw(),
            true,
            some_int(group_size),
            some_int(bits),
            mode.c_name().as_ptr(),
            sorted,
            s,
        )
    })
}

/// Quantises the last axis of `[.., rows, columns]`.
pub fn quantize(w: &Array, quantization: Quantization) -> Result<Quantized> {
    let Quantization { group_size, bits, mode } = quantization;
    // SAFETY: all handles are live.
    let mut parts = build_many(|out, s| unsafe {
        sys::mlx_quantize(
            out,
            w.raw(),
            some_int(group_size),
            some_int(bits),
            mode.c_name().as_ptr(),
            null(),
            s,
        )
    })?
    .into_iter();
    let mut next = || parts.next().ok_or_else(|| Error::Internal("mlx_quantize gave too few arrays".into()));
    let (packed, scales) = (next()?, next()?);
    Ok(Quantized { packed, scales, biases: parts.next(), quantization })
}

/// The floats that a quantised matrix stands for.
pub fn dequantize(w: &Quantized, dtype: Dtype) -> Result<Array> {
    let Quantization { group_size, bits, mode } = w.quantization;
    let dtype = sys::mlx_optional_dtype { value: dtype.raw()?, has_value: true };
    // SAFETY: all handles are live.
    build(|out, s| unsafe {
        sys::mlx_dequantize(
            out,
            w.packed.raw(),
            w.scales.raw(),
            or_null(w.biases.as_ref()),
            some_int(group_size),
            some_int(bits),
            mode.c_name().as_ptr(),
            null(),
            dtype,
            s,
        )
    })
}

/// The values of 8-bit floats (e4m3, without infinities), which MLX keeps as bytes.
pub fn from_fp8(a: &Array, dtype: Dtype) -> Result<Array> {
    let dtype = dtype.raw()?;
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_from_fp8(out, a.raw(), dtype, s) })
}

/// Convolution of `[batch, length, channels]` with `[out, kernel, channels / groups]`, no padding.
pub fn conv1d(x: &Array, weight: &Array, groups: i32) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_conv1d(out, x.raw(), weight.raw(), 1, 0, 1, groups, s) })
}
