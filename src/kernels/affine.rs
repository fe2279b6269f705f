//! Affine quantised matrices, as MLX stores them.

use half::{bf16, f16};

/// A matrix's scales or biases, in the type that they are stored in.
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

    /// Writes the values from `start` on to `out`.
    #[inline(always)]
    pub fn read(&self, start: usize, out: &mut [f32]) {
        let range = start..start + out.len();
        match self {
            Floats::F32(values) => out.copy_from_slice(&values[range]),
            Floats::F16(values) => out.iter_mut().zip(&values[range]).for_each(|(out, x)| *out = x.to_f32()),
            Floats::BF16(values) => {
                let widen = |x: &bf16| f32::from_bits(u32::from(x.to_bits()) << 16);
                out.iter_mut().zip(&values[range]).for_each(|(out, x)| *out = widen(x));
            }
        }
    }
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
