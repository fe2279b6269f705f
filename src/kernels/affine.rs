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
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Floats::F32(values) => values.len(),
            Floats::F16(values) => values.len(),
            Floats::BF16(values) => values.len(),
        }
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

/// `[rows, columns]` of floats.
#[derive(Clone, Copy)]
pub(super) struct Dense<'a> {
    pub values: Floats<'a>,
    pub rows: usize,
    pub columns: usize,
}

/// `[rows, columns]`, every value `q * scale + bias`.
#[derive(Clone, Copy)]
pub(super) struct Affine<'a> {
    /// The values q, each row a stream of bits, lowest bits first.
    pub packed: &'a [u32],
    pub scales: Floats<'a>,
    pub biases: Floats<'a>,
    pub bits: usize,
    pub group: usize,
    pub rows: usize,
    pub columns: usize,
}

impl<'a> Affine<'a> {
    /// Row `row`'s words.
    #[inline(always)]
    pub fn words(&self, row: usize) -> &'a [u32] {
        let length = self.columns / 32 * self.bits;
        &self.packed[row * length..][..length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_float16_is_widened() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (widen_f16(bits), f16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "{bits:#x}");
        }
    }
}
