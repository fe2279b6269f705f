//! Products with affine quantised matrices, as MLX stores them.

use super::float;
use super::isa::Isa;
use crate::error::{Error, Result};
use crate::mlx::ops::{self, QuantMode, Quantized};
use crate::mlx::primitive::{Element, Input, Kernel, primitive};
use crate::mlx::{Array, Dtype};
use half::{bf16, f16};

/// A matrix's scales or biases, in the type that they are stored in.
#[derive(Clone, Copy)]
pub(super) enum Floats<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    BF16(&'a [bf16]),
}

impl<'a> Floats<'a> {
    fn of(input: &Input<'a>) -> Result<Self> {
        match input.dtype() {
            Dtype::F16 => input.values().map(Floats::F16),
            Dtype::BF16 => input.values().map(Floats::BF16),
            _ => input.values().map(Floats::F32),
        }
    }

    fn len(&self) -> usize {
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

struct QuantizedMatmul {
    bits: usize,
    group: usize,
    columns: usize,
}

impl Kernel for QuantizedMatmul {
    fn run(&self, inputs: &[Input], output: &mut [f32]) -> Result<()> {
        let &QuantizedMatmul { bits, group, columns } = self;
        let [x, packed, scales, biases] = inputs else {
            return Err(Error::Internal("a quantised product has four inputs".into()));
        };
        let x: &[f32] = x.values()?;
        let packed: &[u32] = packed.values()?;
        let (scales, biases) = (Floats::of(scales)?, Floats::of(biases)?);
        let rows = packed.len() / (columns / 32 * bits);
        let groups = rows * (columns / group);
        let fits = packed.len() == rows * (columns / 32 * bits)
            && (scales.len(), biases.len()) == (groups, groups)
            && x.len().is_multiple_of(columns)
            && output.len() == x.len() / columns * rows;
        if !fits {
            return Err(Error::Internal("a quantised product's arrays do not fit together".into()));
        }
        let w = Affine { packed, scales, biases, bits, group, rows, columns };
        float::matmul(Isa::best(), &w, x, output);
        Ok(())
    }
}

/// Whether [`matmul`] takes these.
pub(super) fn supports(x: &Array, w: &Quantized) -> bool {
    w.quantization.mode == QuantMode::Affine
        && w.packed.shape().len() == 2
        && w.packed.size() > 0
        && x.dtype().is_float()
        && x.shape().last().is_some_and(|&columns| columns > 0 && columns % 32 == 0)
}

/// `x @ w.T`.
pub(super) fn matmul(x: &Array, w: &Quantized) -> Result<Array> {
    let biases = w.biases.as_ref().ok_or_else(|| Error::Internal("affine without biases".into()))?;
    let columns = x.dim(-1);
    let (bits, group) = (w.quantization.bits as usize, w.quantization.group_size as usize);
    let kernel = QuantizedMatmul { bits, group, columns: columns as usize };
    let mut shape = x.shape().to_vec();
    *shape.last_mut().expect("checked by `supports`") = w.packed.dim(0);
    let dtype = x.dtype();
    let floats = if dtype == f32::DTYPE { x.clone() } else { ops::astype(x, f32::DTYPE)? };
    let y = primitive(kernel, &[&floats, &w.packed, &w.scales, biases], &shape)?;
    if dtype == f32::DTYPE { Ok(y) } else { ops::astype(&y, dtype) }
}
