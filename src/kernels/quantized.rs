//! Products with affine quantised matrices, as MLX stores them.

use super::affine::{Affine, Floats};
use super::isa::Isa;
use super::{float, integer};
use crate::error::{Error, Result};
use crate::mlx::ops::{self, QuantMode, Quantized};
use crate::mlx::primitive::{Element, Input, Kernel, primitive};
use crate::mlx::{Array, Dtype};

struct QuantizedMatmul {
    exact: bool,
    bits: usize,
    group: usize,
    columns: usize,
}

impl Kernel for QuantizedMatmul {
    fn run(&self, inputs: &[Input], output: &mut [f32]) -> Result<()> {
        let &QuantizedMatmul { exact, bits, group, columns } = self;
        let [x, packed, scales, biases] = inputs else {
            return Err(Error::Internal("a quantised product has four inputs".into()));
        };
        let x: &[f32] = x.values()?;
        let packed: &[u32] = packed.values()?;
        let (scales, biases) = (floats(scales)?, floats(biases)?);
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
        if exact {
            float::matmul(Isa::best(), &w, x, output);
        } else {
            integer::matmul(Isa::best(), &w, x, output);
        }
        Ok(())
    }
}

/// Reads scales or biases in the type that they are stored in.
pub(super) fn floats<'a>(input: &Input<'a>) -> Result<Floats<'a>> {
    match input.dtype() {
        Dtype::F16 => input.values().map(Floats::F16),
        Dtype::BF16 => input.values().map(Floats::BF16),
        _ => input.values().map(Floats::F32),
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

/// `x @ w.T`, in float32 if `exact`.
pub(super) fn matmul(x: &Array, w: &Quantized, exact: bool) -> Result<Array> {
    let biases = w.biases.as_ref().ok_or_else(|| Error::Internal("affine without biases".into()))?;
    let columns = x.dim(-1);
    let (bits, group) = (w.quantization.bits as usize, w.quantization.group_size as usize);
    let kernel = QuantizedMatmul { exact, bits, group, columns: columns as usize };
    let mut shape = x.shape().to_vec();
    *shape.last_mut().expect("checked by `supports`") = w.packed.dim(0);
    let dtype = x.dtype();
    let floats = if dtype == f32::DTYPE { x.clone() } else { ops::astype(x, f32::DTYPE)? };
    let y = primitive(kernel, &[&floats, &w.packed, &w.scales, biases], &shape)?;
    if dtype == f32::DTYPE { Ok(y) } else { ops::astype(&y, dtype) }
}
