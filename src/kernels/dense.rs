//! Products with matrices of floats, in the type that they are stored in.

use super::affine::Dense;
use super::float;
use super::isa::Isa;
use super::quantized::floats;
use crate::error::{Error, Result};
use crate::mlx::Array;
use crate::mlx::primitive::{Element, Input, Kernel, primitive};

struct DenseMatmul {
    rows: usize,
    columns: usize,
}

impl Kernel for DenseMatmul {
    fn run(&self, inputs: &[Input], output: &mut [f32]) -> Result<()> {
        let &DenseMatmul { rows, columns } = self;
        let [x, values] = inputs else {
            return Err(Error::Internal("a product has two inputs".into()));
        };
        let x: &[f32] = x.values()?;
        let w = Dense { values: floats(values)?, rows, columns };
        let fits = w.values.len() == rows * columns
            && x.len().is_multiple_of(columns)
            && output.len() == x.len() / columns * rows;
        if !fits {
            return Err(Error::Internal("a product's arrays do not fit together".into()));
        }
        float::dense_matmul(Isa::best(), &w, x, output);
        Ok(())
    }
}

/// Whether [`matmul`] takes these: input in float32, which is what models compute in on the CPU.
pub(super) fn supports(x: &Array, w: &Array) -> bool {
    let columns = x.shape().last();
    x.dtype() == f32::DTYPE
        && w.dtype().is_float()
        && w.size() > 0
        && w.shape().len() == 2
        && w.shape().last() == columns
}

/// `x @ w.T`.
pub(super) fn matmul(x: &Array, w: &Array) -> Result<Array> {
    let (rows, columns) = (w.dim(0), w.dim(1));
    let kernel = DenseMatmul { rows: rows as usize, columns: columns as usize };
    let mut shape = x.shape().to_vec();
    *shape.last_mut().expect("checked by `supports`") = rows;
    primitive(kernel, &[x, w], &shape)
}
