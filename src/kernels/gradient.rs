//! The gradients of products `y = x @ w.T + bias`: `dy @ w` by `x`, `dy.T @ x` by a dense `w`, `sum(dy)` by the bias.
//! Matrices are unpacked part by part, and the parts multiplied by MLX, which calls BLAS.

use super::float::unpack;
use super::stack::Layout;
use super::threads::for_each_part;
use crate::error::{Error, Result};
use crate::mlx::primitive::{Input, Kernel, primitive};
use crate::mlx::{Array, Dtype, ops};

/// Elements of a part: enough that BLAS works as fast as it can, and little beside a model.
const PART: usize = 8 << 20;

/// Some rows of a matrix, in float32.
struct Unpack {
    layout: Layout,
    first: usize,
}

impl Kernel for Unpack {
    fn run(&self, parts: &[Input], output: &mut [f32]) -> Result<()> {
        let Layout { rows, columns, .. } = self.layout;
        let w = self.layout.read(parts)?.matrix(0).ok_or_else(misfit)?;
        if output.len() / columns > rows - self.first {
            return Err(misfit());
        }
        for_each_part(output, columns, |first, part| {
            for (row, out) in part.chunks_exact_mut(columns).enumerate() {
                unpack(&w, self.first + first + row, out);
            }
        });
        Ok(())
    }
}

fn misfit() -> Error {
    Error::Internal("a product's gradients do not fit its arrays".into())
}

/// `dy @ w` `[n, columns]` for `dy` `[n, rows]`, added to `onto`.
fn backward(dy: &Array, layout: Layout, parts: &[&Array], mut onto: Option<Array>) -> Result<Option<Array>> {
    let Layout { rows, columns, .. } = layout;
    // A stripe that is interleaved stays whole.
    let each = (PART / columns).next_multiple_of(16);
    for first in (0..rows).step_by(each) {
        let count = each.min(rows - first);
        let w = primitive(Unpack { layout, first }, parts, &[count as i32, columns as i32])?;
        let dy = ops::slice(dy, 1, first as i32, (first + count) as i32)?;
        onto = Some(match &onto {
            None => ops::matmul(&dy, &w)?,
            Some(onto) => ops::addmm(onto, &dy, &w)?,
        });
    }
    Ok(onto)
}

/// Of the inputs with the indices `wanted`: `x`, then each matrix's parts and its bias, if it has one.
pub(super) fn of_products(
    layouts: &[(Layout, bool)],
    inputs: &[Array],
    cotangents: &[Array],
    wanted: &[i32],
) -> Result<Vec<Array>> {
    let (x, mut rest) = inputs.split_first().ok_or_else(misfit)?;
    let rows_of = |array: &Array| ops::reshape(array, &[-1, array.dim(-1)]);
    let x_rows = rows_of(x)?;
    // Of each input the gradient, where there is one.
    let mut by_x = None;
    let mut others: Vec<Option<Array>> = vec![];
    for (&(layout, biased), dy) in layouts.iter().zip(cotangents) {
        let dy = rows_of(dy)?;
        let (parts, behind) = rest.split_at_checked(layout.parts()).ok_or_else(misfit)?;
        let (bias, behind) = behind.split_at_checked(usize::from(biased)).ok_or_else(misfit)?;
        rest = behind;
        if wanted.contains(&0) {
            by_x = backward(&dy, layout, &parts.iter().collect::<Vec<_>>(), by_x)?;
        }
        match (layout.quantization, parts) {
            (None, [w]) => {
                let product = || ops::matmul(&ops::transpose(&dy, &[1, 0])?, &x_rows);
                let is_wanted = wanted.contains(&(others.len() as i32 + 1));
                others.push(if is_wanted { Some(ops::astype(&product()?, w.dtype())?) } else { None });
            }
            _ => others.extend(parts.iter().map(|_| None)),
        }
        for bias in bias {
            others.push(Some(ops::astype(&ops::sum(&dy, 0, false)?, bias.dtype())?));
        }
    }
    let gradient = |&index: &i32| match index {
        0 => ops::reshape(by_x.as_ref().ok_or_else(misfit)?, x.shape()),
        _ => match others.get(index as usize - 1) {
            Some(Some(gradient)) => Ok(gradient.clone()),
            Some(None) => Err(Error::Unsupported("gradients by a quantised matrix".into())),
            None => Err(misfit()),
        },
    };
    debug_assert!(x.dtype() == Dtype::F32);
    wanted.iter().map(gradient).collect()
}

#[cfg(test)]
mod tests {
    use super::super::interleave::{can_interleave, tests::interleaved};
    use super::super::tests::{Case, affine, floats, normal, relative_error};
    use super::*;
    use crate::kernels::{self, Source, Weight};
    use crate::mlx::{Device, use_device, value_and_grad};
    use rand::SeedableRng;
    use rand_pcg::Pcg64;

    fn normals(rng: &mut Pcg64, count: usize) -> Vec<f32> {
        (0..count).map(|_| normal(rng)).collect()
    }

    /// What a random loss of `x @ w.T + bias` has for gradients by `x`, the bias, and a dense matrix.
    fn gradients(x: &Array, w: Weight, bias: &Array, by_mlx: bool) -> Vec<Vec<f32>> {
        let dense = if let Weight::Dense(w) = w { Some(w) } else { None };
        let loss = |inputs: &[Array]| {
            let (x, bias) = (&inputs[0], &inputs[1]);
            let w = inputs.get(2).map_or(w, Weight::Dense);
            let y = match (by_mlx, w) {
                (false, _) => {
                    kernels::products(Source::Plain(x), [(w, Some(bias))], None)?.unwrap()[0].clone()
                }
                (true, Weight::Dense(w)) => {
                    let w = ops::astype(w, x.dtype())?;
                    ops::add(&ops::matmul(x, &ops::transpose(&w, &[1, 0])?)?, bias)?
                }
                (true, Weight::Quantized(w) | Weight::Interleaved(w)) => {
                    ops::add(&ops::quantized_matmul(x, w, true)?, bias)?
                }
            };
            // Every element's gradient is another.
            let y = ops::flatten(&ops::astype(&y, Dtype::F32)?, 0, 2)?;
            ops::sum(&ops::multiply(&ops::square(&y)?, &ops::tanh(&y)?)?, 0, false)
        };
        let inputs: Vec<&Array> = [x, bias].into_iter().chain(dense).collect();
        let (value, gradients) = value_and_grad(loss, &inputs).unwrap();
        let all = [vec![value], gradients].concat();
        all.iter().map(|array| array.to_vec_f32().unwrap()).collect()
    }

    #[test]
    fn gradients_are_mlxs() {
        use_device(Device::Cpu).unwrap();
        let mut rng = Pcg64::seed_from_u64(5);
        let (rows, columns) = (48, 384);
        let array = |values: Vec<f32>, shape: &[i32]| Array::from_f32(&values, shape).unwrap();
        let x = array(normals(&mut rng, 2 * 3 * columns), &[2, 3, columns as i32]);
        let bias = array(normals(&mut rng, rows), &[rows as i32]);
        let check = |ours: Vec<Vec<f32>>, theirs: Vec<Vec<f32>>, limit: f32, what: &str| {
            assert_eq!(ours.len(), theirs.len());
            for (index, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
                let error = relative_error(ours, theirs);
                assert!(error < limit, "{what}, {index}: {error}");
            }
        };
        for quantization in affine().chain(floats()) {
            let w = Case::new(&mut rng, [1, rows, columns], quantization).w;
            let theirs = gradients(&x, Weight::Quantized(&w), &bias, true);
            let ours = gradients(&x, Weight::Quantized(&w), &bias, false);
            check(ours, theirs.clone(), 1e-5, &format!("{quantization:?}"));
            if can_interleave(rows as i32, quantization) {
                let lanes = interleaved(&w);
                let ours = gradients(&x, Weight::Interleaved(&lanes), &bias, false);
                check(ours, theirs, 1e-5, &format!("{quantization:?}, interleaved"));
            }
        }
        let w = array(normals(&mut rng, rows * columns), &[rows as i32, columns as i32]);
        for dtype in [Dtype::F32, Dtype::BF16, Dtype::F16] {
            let w = ops::astype(&w, dtype).unwrap();
            let (ours, theirs) = (
                gradients(&x, Weight::Dense(&w), &bias, false),
                gradients(&x, Weight::Dense(&w), &bias, true),
            );
            // A matrix's gradient is rounded to the matrix's type.
            check(ours, theirs, if dtype == Dtype::F32 { 1e-5 } else { 1e-2 }, &dtype.to_string());
        }
    }

    #[test]
    fn a_matrix_in_parts() {
        use_device(Device::Cpu).unwrap();
        let mut rng = Pcg64::seed_from_u64(6);
        // More than one part, the last of a few rows.
        let (rows, columns) = (PART / 512 + 24, 512);
        let values = normals(&mut rng, 1000);
        let values: Vec<f32> = (0..rows * columns).map(|i| values[i * 7 % 1000]).collect();
        let w = Array::from_f32(&values, &[rows as i32, columns as i32]).unwrap();
        let dy = Array::from_f32(&normals(&mut rng, 2 * rows), &[2, rows as i32]).unwrap();
        let layout = Layout { quantization: None, rows, columns, interleaved: false };
        let ours = backward(&dy, layout, &[&w], None).unwrap().unwrap().to_vec_f32().unwrap();
        let theirs = ops::matmul(&dy, &w).unwrap().to_vec_f32().unwrap();
        assert!(relative_error(&ours, &theirs) < 1e-5);
    }
}
