//! Products as operations of MLX's graph.

use super::isa::Isa;
use super::matrix::{Matrix, Packed, Values};
use super::stack::Layout;
use super::threads::{Tasks, run_all};
use super::{float, integer};
use crate::error::{Error, Result};
use crate::mlx::ops::{self, Quantized};
use crate::mlx::primitive::{Input, Kernel, primitive};
use crate::mlx::{Array, Dtype};

/// The right side: one matrix `[rows, columns]`, or `[matrices, rows, columns]`.
#[derive(Clone, Copy)]
pub(super) enum Weight<'a> {
    Dense(&'a Array),
    Quantized(&'a Quantized),
}

impl<'a> Weight<'a> {
    /// The layout of each matrix and the arrays that [`Layout::read`] reads; `None` if there are no kernels
    /// for it.
    pub fn parts(self) -> Option<(Layout, Vec<&'a Array>)> {
        let (first, quantization, parts) = match self {
            Weight::Dense(w) => (w, None, vec![w]),
            Weight::Quantized(w) => {
                let parts = [&w.packed, &w.scales].into_iter().chain(&w.biases);
                (&w.packed, Some(w.quantization), parts.collect())
            }
        };
        let &[.., rows, columns] = first.shape() else { return None };
        let (columns, supported) = match quantization {
            None => (columns, first.dtype().is_float()),
            Some(quantization) => {
                let all = columns / quantization.bits * 32;
                (all, columns % quantization.bits == 0 && quantization.divides(all))
            }
        };
        let layout = Layout { quantization, rows: rows as usize, columns: columns as usize };
        (supported && first.size() > 0).then_some((layout, parts))
    }
}

struct Product {
    exact: bool,
    layout: Layout,
}

impl Kernel for Product {
    fn run(&self, inputs: &[Input], output: &mut [f32]) -> Result<()> {
        let [x, parts @ ..] = inputs else { return Err(misfit()) };
        let (x, Layout { rows, columns, .. }) = (x.values()?, self.layout);
        let w = self.layout.read(parts)?.matrix(0).ok_or_else(misfit)?;
        if !x.len().is_multiple_of(columns) || output.len() != x.len() / columns * rows {
            return Err(misfit());
        }
        run_all(&[tasks(w, self.exact, x, output)]);
        Ok(())
    }
}

/// Every row of the input with the matrix that its index names.
struct Gather(Product);

impl Kernel for Gather {
    fn run(&self, inputs: &[Input], output: &mut [f32]) -> Result<()> {
        let [x, indices, parts @ ..] = inputs else { return Err(misfit()) };
        let Product { exact, layout: Layout { rows, columns, .. } } = self.0;
        let (x, indices): (&[f32], &[u32]) = (x.values()?, indices.values()?);
        let stack = self.0.layout.read(parts)?;
        let inputs = x.len() / columns;
        let fits = inputs > 0
            && x.len() == inputs * columns
            && indices.len().is_multiple_of(inputs)
            && output.len() == indices.len() * rows;
        if !fits {
            return Err(misfit());
        }
        // Each matrix is read once, for all the rows that want it.
        let mut order: Vec<usize> = (0..indices.len()).collect();
        order.sort_by_key(|&pair| indices[pair]);
        let each = indices.len() / inputs;
        let sorted: Vec<f32> =
            order.iter().flat_map(|&pair| &x[pair / each * columns..][..columns]).copied().collect();
        let mut results = vec![0.0; output.len()];
        let (mut x, mut y) = (sorted.as_slice(), results.as_mut_slice());
        let mut products = vec![];
        for pairs in order.chunk_by(|&a, &b| indices[a] == indices[b]) {
            let index = indices[pairs[0]];
            let w = stack.matrix(index as usize);
            let w = w.ok_or_else(|| Error::Internal(format!("there is no matrix {index}")))?;
            let (input, other_inputs) = x.split_at(pairs.len() * columns);
            let (result, other_results) = y.split_at_mut(pairs.len() * rows);
            products.push(tasks(w, exact, input, result));
            (x, y) = (other_inputs, other_results);
        }
        run_all(&products);
        drop(products);
        for (&pair, result) in order.iter().zip(results.chunks_exact(rows)) {
            output[pair * rows..][..rows].copy_from_slice(result);
        }
        Ok(())
    }
}

fn misfit() -> Error {
    Error::Internal("a product's arrays do not fit together".into())
}

fn tasks<'a>(w: Matrix<'a>, exact: bool, x: &'a [f32], y: &'a mut [f32]) -> Tasks<'a> {
    match w {
        Matrix::Packed(w @ Packed { values: Values::Integers { scales, biases }, .. }) if !exact => {
            integer::tasks(Isa::best(), w, [scales, biases], x, y)
        }
        w => float::tasks(Isa::best(), w, x, y),
    }
}

/// `x @ w.T + bias`, where each row of `x` has a matrix of its own if there are indices: `[.., 1, columns]` for
/// indices `[.., n]`, or `[.., n, 1, columns]`. `None` if it is not for these kernels.
pub(super) fn product(
    x: &Array,
    w: Weight,
    indices: Option<&Array>,
    bias: Option<&Array>,
    exact: bool,
) -> Result<Option<Array>> {
    let Some((layout, parts)) = w.parts() else { return Ok(None) };
    let Some((&columns, outer)) = x.shape().split_last() else { return Ok(None) };
    let axes = if indices.is_some() { 3 } else { 2 };
    if parts[0].shape().len() != axes || columns as usize != layout.columns || !x.dtype().is_float() {
        return Ok(None);
    }
    let rows = layout.rows as i32;
    let convert = |array: &Array, dtype: Dtype| {
        if array.dtype() == dtype { Ok(array.clone()) } else { ops::astype(array, dtype) }
    };
    let floats = convert(x, Dtype::F32)?;
    let indices = indices.map(|indices| convert(indices, Dtype::U32)).transpose()?;
    let mut inputs = vec![&floats];
    inputs.extend(&indices);
    inputs.extend(parts);
    let kernel = Product { exact, layout };
    let y = match &indices {
        Some(indices) => primitive(Gather(kernel), &inputs, &[indices.shape(), &[1, rows]].concat())?,
        None => primitive(kernel, &inputs, &[outer, &[rows]].concat())?,
    };
    let y = match bias {
        Some(bias) => ops::add(&y, &convert(bias, Dtype::F32)?)?,
        None => y,
    };
    convert(&y, x.dtype()).map(Some)
}
