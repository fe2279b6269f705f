//! Products as operations of MLX's graph.

#[cfg(target_arch = "x86_64")]
use super::bfloat;
use super::input::X;
use super::isa::Isa;
use super::matrix::{Floats, Matrix, Packed, Values};
use super::stack::{Layout, floats};
use super::strided::vector;
use super::threads::{Tasks, for_each_part, run_all};
use super::{Activation, Precision, Source, Weight, float, gate, gradient, integer, norm};
use crate::error::{Error, Result};
use crate::mlx::ops;
use crate::mlx::primitive::{Input, Kernel, primitive, primitives};
use crate::mlx::{Array, Dtype, is_tracing};

impl<'a> Weight<'a> {
    /// The layout of each matrix and the arrays that [`Layout::read`] reads; `None` if there are no kernels
    /// for it.
    pub(super) fn parts(self) -> Option<(Layout, Vec<&'a Array>)> {
        let interleaved = matches!(self, Weight::Interleaved(_));
        let (first, quantization, parts) = match self {
            Weight::Dense(w) => (w, None, vec![w]),
            Weight::Quantized(w) | Weight::Interleaved(w) => {
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
        let layout = Layout { quantization, rows: rows as usize, columns: columns as usize, interleaved };
        (supported && first.size() > 0).then_some((layout, parts))
    }
}

/// How a product's input is made of the operation's inputs.
#[derive(Clone, Copy)]
enum Made {
    Plain,
    /// Of a row and the weight.
    Norm(f32),
    /// Of gate and up.
    Gate(Activation),
    /// Of both beside each other.
    Halves(Activation),
}

impl Made {
    /// Makes the input of so many `columns`; gives it and the inputs that follow.
    fn read<'a, 'i>(self, inputs: &'i [Input<'a>], columns: usize) -> Result<(X<'a>, &'i [Input<'a>])> {
        let (x, others) = inputs.split_first().ok_or_else(misfit)?;
        let x: &[f32] = x.values()?;
        let mut others = others.iter();
        let mut next = || others.next().ok_or_else(misfit);
        let made = match self {
            Made::Plain => x.into(),
            Made::Norm(eps) => norm::rms_norms(x, &vector(next()?)?, eps).into(),
            Made::Gate(activation) => gate::gated_values(activation, x, next()?.values()?)?.into(),
            Made::Halves(activation) => gate::halves(activation, x, columns)?.into(),
        };
        Ok((made, others.as_slice()))
    }
}

/// The products of one input with several matrices.
struct Products {
    precision: Precision,
    made: Made,
    /// Whether the first result is added to an input.
    onto: bool,
    /// Each matrix, and whether it has a bias.
    layouts: Vec<(Layout, bool)>,
}

impl Kernel for Products {
    fn run_many(&self, inputs: &[Input], outputs: &mut [&mut [f32]]) -> Result<()> {
        let columns = self.layouts.first().ok_or_else(misfit)?.0.columns;
        let (x, parts) = self.made.read(inputs, columns)?;
        let (onto, mut parts) = parts.split_at_checked(usize::from(self.onto)).ok_or_else(misfit)?;
        let mut products = vec![];
        let mut biases = vec![];
        if outputs.len() != self.layouts.len() {
            return Err(misfit());
        }
        for (&(layout, biased), output) in self.layouts.iter().zip(&mut *outputs) {
            let Layout { rows, columns, .. } = layout;
            let (own, others) = parts.split_at_checked(layout.parts()).ok_or_else(misfit)?;
            let w = layout.read(own)?.matrix(0).ok_or_else(misfit)?;
            if !x.len().is_multiple_of(columns) || output.len() != x.len() / columns * rows {
                return Err(misfit());
            }
            products.push(tasks(w, self.precision, &x, output));
            let (bias, others) = others.split_at_checked(usize::from(biased)).ok_or_else(misfit)?;
            biases.push(bias.first().map(floats).transpose()?);
            parts = others;
        }
        run_all(&products);
        drop(products);
        for (bias, (output, (layout, _))) in biases.into_iter().zip(outputs.iter_mut().zip(&self.layouts)) {
            if let Some(bias) = bias {
                add(&bias, layout.rows, output)?;
            }
        }
        if let ([onto], [output, ..]) = (onto, outputs) {
            let onto: &[f32] = onto.values()?;
            if onto.len() != output.len() {
                return Err(misfit());
            }
            for_each_part(output, 1, |first, part| {
                part.iter_mut().zip(&onto[first..]).for_each(|(y, onto)| *y += onto);
            });
        }
        Ok(())
    }

    /// See [`super::products()`].
    fn gradients(&self, inputs: &[Array], cotangents: &[Array], wanted: &[i32]) -> Result<Vec<Array>> {
        if self.onto || !matches!(self.made, Made::Plain) {
            return Err(Error::Unsupported("gradients through a fused product".into()));
        }
        gradient::of_products(&self.layouts, inputs, cotangents, wanted)
    }
}

/// Adds a bias to every row.
fn add(bias: &Floats, rows: usize, y: &mut [f32]) -> Result<()> {
    let mut floats = vec![0.0; rows];
    bias.part(0, rows).ok_or_else(misfit)?.read(0, &mut floats);
    for_each_part(y, rows, |_, part| {
        for row in part.chunks_exact_mut(rows) {
            row.iter_mut().zip(&floats).for_each(|(y, bias)| *y += bias);
        }
    });
    Ok(())
}

/// Every row of the input with the matrix that its index names.
struct Gather {
    precision: Precision,
    layout: Layout,
}

impl Kernel for Gather {
    fn run(&self, inputs: &[Input], output: &mut [f32]) -> Result<()> {
        let [x, indices, parts @ ..] = inputs else { return Err(misfit()) };
        let Gather { precision, layout: Layout { rows, columns, .. } } = *self;
        let (x, indices): (&[f32], &[u32]) = (x.values()?, indices.values()?);
        let stack = self.layout.read(parts)?;
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
        let mut jobs = vec![];
        for pairs in order.chunk_by(|&a, &b| indices[a] == indices[b]) {
            let index = indices[pairs[0]];
            let w = stack.matrix(index as usize);
            let w = w.ok_or_else(|| Error::Internal(format!("there is no matrix {index}")))?;
            let (input, other_inputs) = x.split_at(pairs.len() * columns);
            let (result, other_results) = y.split_at_mut(pairs.len() * rows);
            jobs.push((w, X::from(input), result));
            (x, y) = (other_inputs, other_results);
        }
        let products: Vec<Tasks> =
            jobs.iter_mut().map(|(w, input, result)| tasks(*w, precision, input, result)).collect();
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

fn tasks<'a>(w: Matrix<'a>, precision: Precision, x: &'a X, y: &'a mut [f32]) -> Tasks<'a> {
    let isa = Isa::best();
    #[cfg(target_arch = "x86_64")]
    if let Matrix::Dense(w) = w
        && precision != Precision::Exact
        && let Some(values) = bfloat::values(isa, &w)
    {
        return bfloat::tasks(values, w.columns, x, y);
    }
    match w {
        Matrix::Packed(w @ Packed { values: Values::Integers { scales, biases }, .. })
            if precision == Precision::Rounded =>
        {
            integer::tasks(isa, w, [scales, biases], x, y)
        }
        w => float::tasks(isa, w, x, y),
    }
}

fn convert(array: &Array, dtype: Dtype) -> Result<Array> {
    if array.dtype() == dtype { Ok(array.clone()) } else { ops::astype(array, dtype) }
}

/// See [`super::products`].
pub(super) fn products<const N: usize>(
    source: Source,
    weights: [(Weight, Option<&Array>); N],
    onto: Option<&Array>,
    precision: Precision,
) -> Result<Option<[Array; N]>> {
    let (x, other, made) = match source {
        Source::Plain(x) => (x, None, Made::Plain),
        Source::Normed { x, weight, eps } => (x, Some(weight), Made::Norm(eps)),
        Source::Gated { activation, gate, up } => (gate, Some(up), Made::Gate(activation)),
        Source::Halves { activation, both } => (both, None, Made::Halves(activation)),
    };
    let Some((&width, outer)) = x.shape().split_last() else { return Ok(None) };
    let columns = if matches!(made, Made::Halves(_)) { width / 2 } else { width };
    let other_fits = match (made, other) {
        (Made::Norm(_), Some(weight)) => weight.shape() == [columns] && weight.dtype().is_float(),
        (Made::Gate(_), Some(up)) => up.shape() == x.shape() && up.dtype() == Dtype::F32,
        _ => true,
    };
    // What is not in float32 is rounded between the operations that are one here.
    let plain = matches!(made, Made::Plain) && onto.is_none();
    if !plain && is_tracing() {
        return Ok(None);
    }
    if !x.dtype().is_float() || !plain && x.dtype() != Dtype::F32 || !other_fits {
        return Ok(None);
    }
    let floats = convert(x, Dtype::F32)?;
    let mut inputs: Vec<&Array> = [&floats].into_iter().chain(other).chain(onto).collect();
    let mut layouts = vec![];
    for (w, bias) in weights {
        let Some((layout, parts)) = w.parts() else { return Ok(None) };
        let fits = |bias: &Array| bias.shape() == [layout.rows as i32] && bias.dtype().is_float();
        if parts[0].shape().len() != 2 || columns as usize != layout.columns || !bias.is_none_or(fits) {
            return Ok(None);
        }
        layouts.push((layout, bias.is_some()));
        inputs.extend(parts.into_iter().chain(bias));
    }
    let shapes: Vec<Vec<i32>> =
        layouts.iter().map(|(layout, _)| [outer, &[layout.rows as i32]].concat()).collect();
    if onto.is_some_and(|onto| onto.dtype() != Dtype::F32 || shapes.first().is_none_or(|s| onto.shape() != s))
    {
        return Ok(None);
    }
    let shapes = std::array::from_fn(|index| shapes[index].as_slice());
    let results = primitives(Products { precision, made, onto: onto.is_some(), layouts }, &inputs, shapes)?;
    if x.dtype() == Dtype::F32 {
        return Ok(Some(results));
    }
    let mut converted = vec![];
    for y in &results {
        converted.push(ops::astype(y, x.dtype())?);
    }
    Ok(converted.try_into().ok())
}

/// `x @ w.T` where each row of `x` has a matrix of `w` `[matrices, rows, columns]`: `x` `[.., 1, columns]` for
/// indices `[.., n]`, or `[.., n, 1, columns]`. `None` if it is not for these kernels.
pub(super) fn gather(x: &Array, w: Weight, indices: &Array, precision: Precision) -> Result<Option<Array>> {
    let Some((layout, parts)) = w.parts() else { return Ok(None) };
    let columns = x.shape().last().copied().unwrap_or(0);
    if parts[0].shape().len() != 3 || columns as usize != layout.columns || !x.dtype().is_float() {
        return Ok(None);
    }
    let (floats, indices) = (convert(x, Dtype::F32)?, convert(indices, Dtype::U32)?);
    let mut inputs = vec![&floats, &indices];
    inputs.extend(parts);
    let shape = [indices.shape(), &[1, layout.rows as i32]].concat();
    let y = primitive(Gather { precision, layout }, &inputs, &shape)?;
    convert(&y, x.dtype()).map(Some)
}
