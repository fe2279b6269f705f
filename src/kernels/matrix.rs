//! Matrices as MLX stores them.

use half::{bf16, f16};

/// Values in the type that they are stored in.
#[derive(Clone, Copy)]
pub(super) enum Floats<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    BF16(&'a [bf16]),
}

impl<'a> Floats<'a> {
    /// Those from `start` on, `count` of them, or `None` if there are fewer.
    pub fn part(&self, start: usize, count: usize) -> Option<Self> {
        let range = start..start.checked_add(count)?;
        Some(match self {
            Floats::F32(values) => Floats::F32(values.get(range)?),
            Floats::F16(values) => Floats::F16(values.get(range)?),
            Floats::BF16(values) => Floats::BF16(values.get(range)?),
        })
    }

    /// Bytes of one.
    pub fn bytes(&self) -> usize {
        if matches!(self, Floats::F32(_)) { 4 } else { 2 }
    }

    /// Writes the values from `start` on to `out`.
    #[inline(always)]
    pub fn read(&self, start: usize, out: &mut [f32]) {
        let range = start..start + out.len();
        match self {
            Floats::F32(values) => out.copy_from_slice(&values[range]),
            Floats::F16(values) => {
                out.iter_mut().zip(&values[range]).for_each(|(out, x)| *out = widen_f16(x.to_bits()));
            }
            Floats::BF16(values) => {
                let widen = |x: &bf16| f32::from_bits(u32::from(x.to_bits()) << 16);
                out.iter_mut().zip(&values[range]).for_each(|(out, x)| *out = widen(x));
            }
        }
    }
}

/// A float16's value, without a branch, which crate `half`'s has.
#[inline(always)]
fn widen_f16(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff) << 13;
    // Its exponent's bias is 112 less than float32's; the product makes subnormal numbers right, too.
    let finite = (f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23)).to_bits();
    let value = if magnitude >= 0x1f << 23 { magnitude | 0xff << 23 } else { finite };
    f32::from_bits(value | u32::from(bits & 0x8000) << 16)
}

/// 2^(byte - 127): OCP's e8m0.
#[inline(always)]
pub(super) fn widen_e8m0(byte: u8) -> f32 {
    f32::from_bits(if byte == 0 { 1 << 22 } else { u32::from(byte) << 23 })
}

/// The value of an 8-bit float, OCP's e4m3, as MLX has it: what OCP calls NaN is 480.
#[inline(always)]
pub(super) fn widen_e4m3(byte: u8) -> f32 {
    // Its exponent's bias is 120 less than float32's; the product makes subnormal numbers right, too.
    let magnitude = f32::from_bits(u32::from(byte & 0x7f) << 20) * f32::from_bits((127 + 120) << 23);
    f32::from_bits(magnitude.to_bits() | u32::from(byte & 0x80) << 24)
}

/// What 4-bit floats stand for (OCP's e2m1).
#[rustfmt::skip]
pub(super) const E2M1: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// A matrix `[rows, columns]`.
#[derive(Clone, Copy)]
pub(super) enum Matrix<'a> {
    Packed(Packed<'a>),
    Dense(Dense<'a>),
}

/// `[rows, columns]` of floats.
#[derive(Clone, Copy)]
pub(super) struct Dense<'a> {
    pub values: Floats<'a>,
    pub rows: usize,
    pub columns: usize,
}

/// What the bits of a packed value mean, with a scale for every group of a row's values.
#[derive(Clone, Copy)]
pub(super) enum Values<'a> {
    /// q stands for `q * scale + bias`.
    Integers { scales: Floats<'a>, biases: Floats<'a> },
    /// e2m1, for every 32 a scale in e8m0.
    Mxfp4 { scales: &'a [u8] },
    /// e4m3, for every 32 a scale in e8m0.
    Mxfp8 { scales: &'a [u8] },
    /// e2m1, for every 16 a scale in e4m3.
    Nvfp4 { scales: &'a [u8] },
}

/// Rows that are interleaved.
pub(super) const STRIPE: usize = 16;

/// `[rows, columns]` of few bits a value.
#[derive(Clone, Copy)]
pub(super) struct Packed<'a> {
    /// Each row a stream of bits, lowest bits first.
    pub packed: &'a [u32],
    pub values: Values<'a>,
    pub bits: usize,
    pub group: usize,
    pub rows: usize,
    pub columns: usize,
    /// See [`super::interleave()`].
    pub interleaved: bool,
}

impl<'a> Packed<'a> {
    /// Words of a row.
    fn length(&self) -> usize {
        self.columns / 32 * self.bits
    }

    /// Row `row`'s words, of a matrix that is not interleaved.
    #[inline(always)]
    pub fn words(&self, row: usize) -> &'a [u32] {
        debug_assert!(!self.interleaved);
        &self.packed[row * self.length()..][..self.length()]
    }

    /// The words of an interleaved matrix's [`STRIPE`] rows from `row` on.
    #[inline(always)]
    pub fn stripe(&self, row: usize) -> &'a [u32] {
        debug_assert!(self.interleaved && row.is_multiple_of(STRIPE));
        &self.packed[row * self.length()..][..STRIPE * self.length()]
    }

    /// Columns that share two numbers: a scale and a bias, or, of floats, the scales of both halves.
    #[inline(always)]
    pub fn span(&self) -> usize {
        if matches!(self.values, Values::Integers { .. }) { self.group } else { 32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mlx::{Array, Device, Dtype, ops, use_device};

    #[test]
    fn every_small_float_is_widened() {
        use_device(Device::Cpu).unwrap();
        for byte in 0..=u8::MAX {
            let theirs = Array::from_f32(&[byte.into()], &[1]).unwrap();
            let theirs = ops::from_fp8(&ops::astype(&theirs, Dtype::U8).unwrap(), Dtype::F32).unwrap();
            assert_eq!(widen_e4m3(byte).to_bits(), theirs.to_vec_f32().unwrap()[0].to_bits(), "{byte:#x}");
            if byte < u8::MAX {
                assert_eq!(f64::from(widen_e8m0(byte)), 2f64.powi(i32::from(byte) - 127));
            }
        }
    }

    #[test]
    fn every_float16_is_widened() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (widen_f16(bits), f16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "{bits:#x}");
        }
    }
}
