//! What an operation's inputs hold: matrices of one shape behind each other, as MLX stores them.

use super::matrix::{Dense, Floats, Matrix, Packed, Values};
use crate::error::{Error, Result};
use crate::mlx::Dtype;
use crate::mlx::ops::{QuantMode, Quantization};
use crate::mlx::primitive::Input;

/// The shape and form of each matrix.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// `None`: floats.
    pub quantization: Option<Quantization>,
    pub rows: usize,
    pub columns: usize,
    /// See [`super::interleave()`].
    pub interleaved: bool,
}

/// Any number of matrices: their values row by row, those of the first, then those of the second, ..
pub(super) struct Stack<'a> {
    layout: Layout,
    parts: Parts<'a>,
}

enum Parts<'a> {
    Dense(Floats<'a>),
    Integers {
        packed: &'a [u32],
        scales: Floats<'a>,
        biases: Floats<'a>,
    },
    /// Floats of 4 or 8 bits.
    Floats {
        packed: &'a [u32],
        scales: &'a [u8],
    },
}

impl Layout {
    /// How many inputs [`Layout::read`] reads.
    pub fn parts(&self) -> usize {
        match self.quantization.map(|quantization| quantization.mode) {
            None => 1,
            Some(QuantMode::Affine) => 3,
            Some(_) => 2,
        }
    }

    /// Reads `[values]` or `[packed, scales]` or `[packed, scales, biases]`.
    pub fn read<'a>(self, inputs: &[Input<'a>]) -> Result<Stack<'a>> {
        let parts = match (self.quantization.map(|quantization| quantization.mode), inputs) {
            (None, [values]) => Parts::Dense(floats(values)?),
            (Some(QuantMode::Affine), [packed, scales, biases]) => {
                Parts::Integers { packed: packed.values()?, scales: floats(scales)?, biases: floats(biases)? }
            }
            (Some(mode), [packed, scales]) if mode != QuantMode::Affine => {
                Parts::Floats { packed: packed.values()?, scales: scales.values()? }
            }
            (_, inputs) => {
                return Err(Error::Internal(format!("a matrix does not consist of {} parts", inputs.len())));
            }
        };
        Ok(Stack { layout: self, parts })
    }
}

impl<'a> Stack<'a> {
    /// The matrix with this index, if there is one.
    pub fn matrix(&self, index: usize) -> Option<Matrix<'a>> {
        let Layout { quantization, rows, columns, interleaved } = self.layout;
        let floats = |floats: &Floats<'a>, each: usize| floats.part(index.checked_mul(each)?, each);
        let Quantization { group_size, bits, mode } = match (quantization, &self.parts) {
            (Some(quantization), _) => quantization,
            (None, Parts::Dense(values)) => {
                let values = floats(values, rows * columns)?;
                return Some(Matrix::Dense(Dense { values, rows, columns }));
            }
            _ => return None,
        };
        let (bits, group) = (bits as usize, group_size as usize);
        let (words, groups) = (rows * (columns / 32 * bits), rows * (columns / group));
        let packed = |packed: &'a [u32]| packed.get(index.checked_mul(words)?..)?.get(..words);
        let (packed, values) = match &self.parts {
            Parts::Integers { packed: words, scales, biases } => {
                let (scales, biases) = (floats(scales, groups)?, floats(biases, groups)?);
                (packed(words)?, Values::Integers { scales, biases })
            }
            Parts::Floats { packed: words, scales } => {
                let scales = scales.get(index.checked_mul(groups)?..)?.get(..groups)?;
                let values = match mode {
                    QuantMode::Mxfp8 => Values::Mxfp8 { scales },
                    QuantMode::Nvfp4 => Values::Nvfp4 { scales },
                    _ => Values::Mxfp4 { scales },
                };
                (packed(words)?, values)
            }
            Parts::Dense(_) => return None,
        };
        Some(Matrix::Packed(Packed { packed, values, bits, group, rows, columns, interleaved }))
    }
}

/// Reads floats in the type that they are stored in.
pub(super) fn floats<'a>(input: &Input<'a>) -> Result<Floats<'a>> {
    match input.dtype() {
        Dtype::F16 => input.values().map(Floats::F16),
        Dtype::BF16 => input.values().map(Floats::BF16),
        _ => input.values().map(Floats::F32),
    }
}
