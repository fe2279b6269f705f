//! Normalisation of rows.

use super::isa::{Isa, for_every_isa, sum};
use super::lines::Words;
use super::math::fma;
use super::strided::{Rows, vector};
use super::threads::for_each_part;
use crate::error::{Error, Result};
use crate::mlx::primitive::{Input, Kernel, primitive};
use crate::mlx::{Array, Dtype};

/// Partial sums of a row.
const LANES: usize = 32;

struct Norm {
    eps: f32,
    /// Whether the mean becomes 0.
    centred: bool,
    weight: bool,
    bias: bool,
}

impl Kernel for Norm {
    const AS_THEY_LIE: bool = true;

    fn run(&self, inputs: &[Input], output: &mut [f32]) -> Result<()> {
        let mut inputs = inputs.iter();
        let mut next = || inputs.next().ok_or_else(|| Error::Internal("a norm lacks an input".into()));
        let input = next()?;
        let weight = if self.weight { Some(vector(next()?)?) } else { None };
        let bias = if self.bias { Some(vector(next()?)?) } else { None };
        let (rows, isa) = (Rows::new(input)?, Isa::best());
        let columns = input.shape().last().map_or(0, |&columns| columns as usize);
        for_each_part(output, columns, |first, part| {
            for (row, out) in part.chunks_exact_mut(columns).enumerate() {
                let x = rows.row(first + row);
                normalise(isa, &x, weight.as_deref(), bias.as_deref(), self.centred, self.eps, out);
            }
        });
        Ok(())
    }
}

/// [`rms_norm`] of rows behind each other, as long as `weight`.
pub(super) fn rms_norms(x: &[f32], weight: &[f32], eps: f32) -> Words {
    let (columns, isa) = (weight.len(), Isa::best());
    let mut out = Words::room(x.len());
    for_each_part(out.floats_mut(), columns, |first, part| {
        let rows = x[first * columns..].chunks_exact(columns);
        for (out, x) in part.chunks_exact_mut(columns).zip(rows) {
            normalise(isa, x, Some(weight), None, false, eps, out);
        }
    });
    out
}

for_every_isa! {
    /// `out = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias`, with 0 for the mean unless `centred`.
    fn normalise = normalise_with(
        x: &[f32],
        weight: Option<&[f32]>,
        bias: Option<&[f32]>,
        centred: bool,
        eps: f32,
        out: &mut [f32],
    )
}

#[inline(always)]
fn normalise_with<const FMA: bool>(
    x: &[f32],
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    centred: bool,
    eps: f32,
    out: &mut [f32],
) {
    let count = x.len() as f32;
    let mean = if centred { sum_of(x) / count } else { 0.0 };
    let scale = 1.0 / (sum_of_squares::<FMA>(x, mean) / count + eps).sqrt();
    let values = out.iter_mut().zip(x);
    match (weight, bias) {
        (None, _) => values.for_each(|(y, x)| *y = (x - mean) * scale),
        (Some(weight), None) => {
            values.zip(weight).for_each(|((y, x), weight)| *y = (x - mean) * scale * weight);
        }
        (Some(weight), Some(bias)) => {
            for (((y, x), weight), bias) in values.zip(weight).zip(bias) {
                *y = (x - mean) * scale * weight + bias;
            }
        }
    }
}

#[inline(always)]
fn sum_of(x: &[f32]) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += chunk[lane];
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum += x;
    }
    sum(sums)
}

/// Of `x - mean`.
#[inline(always)]
fn sum_of_squares<const FMA: bool>(x: &[f32], mean: f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            let x = chunk[lane] - mean;
            sums[lane] = fma::<FMA>(x, x, sums[lane]);
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum = fma::<FMA>(x - mean, x - mean, *sum);
    }
    sum(sums)
}

fn norm(
    x: &Array,
    weight: Option<&Array>,
    bias: Option<&Array>,
    centred: bool,
    eps: f32,
) -> Result<Option<Array>> {
    let Some(columns) = x.shape().last() else { return Ok(None) };
    let fits = |factor: &Array| factor.dtype().is_float() && factor.shape() == [*columns];
    let factors: Vec<&Array> = weight.into_iter().chain(bias).collect();
    if !super::compute()? || x.dtype() != Dtype::F32 || !factors.iter().all(|factor| fits(factor)) {
        return Ok(None);
    }
    let kernel = Norm { eps, centred, weight: weight.is_some(), bias: bias.is_some() };
    primitive(kernel, &[&[x], &factors[..]].concat(), x.shape()).map(Some)
}

/// `x / rms(x) * weight` over the last axis, with `eps` added to the mean square, for `x` in float32. `weight`
/// is in any float type.
pub fn rms_norm(x: &Array, weight: Option<&Array>, eps: f32) -> Result<Option<Array>> {
    norm(x, weight, None, false, eps)
}

/// `(x - mean(x)) / sqrt(var(x) + eps) * weight + bias` over the last axis, as [`rms_norm`].
pub fn layer_norm(x: &Array, weight: &Array, bias: Option<&Array>, eps: f32) -> Result<Option<Array>> {
    norm(x, Some(weight), bias, true, eps)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{normal, relative_error};
    use super::*;
    use crate::mlx::{Device, ops, use_device};
    use rand::SeedableRng;
    use rand_pcg::Pcg64;

    fn random(rng: &mut Pcg64, shape: &[i32]) -> Array {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_: i32| 3.0 * normal(rng) + 1.0).collect();
        Array::from_f32(&values, shape).unwrap()
    }

    #[test]
    fn norms_are_mlxs() {
        use_device(Device::Cpu).unwrap();
        let mut rng = Pcg64::seed_from_u64(8);
        for shape in [&[1, 1, 896][..], &[1, 5, 3, 128], &[7, 33], &[3, 2], &[2, 31], &[40, 4096]] {
            let (x, columns) = (random(&mut rng, shape), shape[shape.len() - 1]);
            for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
                let mut factor = || ops::astype(&random(&mut rng, &[columns]), dtype).unwrap();
                let (weight, bias) = (factor(), factor());
                for weight in [None, Some(&weight)] {
                    let ours = rms_norm(&x, weight, 1e-5).unwrap().unwrap();
                    assert_eq!((ours.shape(), ours.dtype()), (shape, Dtype::F32));
                    let theirs = ops::rms_norm(&x, weight, 1e-5).unwrap();
                    let error = relative_error(&ours.to_vec_f32().unwrap(), &theirs.to_vec_f32().unwrap());
                    assert!(error < 3e-6, "{shape:?}, {dtype}: {error}");
                }
                for bias in [None, Some(&bias)] {
                    let ours = layer_norm(&x, &weight, bias, 1e-5).unwrap().unwrap();
                    let theirs = ops::layer_norm(&x, &weight, bias, 1e-5).unwrap();
                    let error = relative_error(&ours.to_vec_f32().unwrap(), &theirs.to_vec_f32().unwrap());
                    assert!(error < 3e-6, "{shape:?}, {dtype}: {error}");
                }
            }
        }
    }

    #[test]
    fn every_isa_computes_the_norm() {
        let mut rng = Pcg64::seed_from_u64(9);
        for columns in [1, 31, 64, 200, 4096] {
            let x: Vec<f32> = (0..columns).map(|_| normal(&mut rng) + 5.0).collect();
            for centred in [false, true] {
                let exact: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
                let count = columns as f64;
                let mean = if centred { exact.iter().sum::<f64>() / count } else { 0.0 };
                let square = exact.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count + 1e-6;
                let exact: Vec<f32> = exact.iter().map(|x| ((x - mean) / square.sqrt()) as f32).collect();
                // A mean of 5 is rounded, too.
                let tolerance = if centred { 1e-6 } else { 4e-7 };
                let mut fused = None;
                for isa in Isa::available() {
                    let mut out = vec![f32::NAN; columns];
                    normalise(isa, &x, None, None, centred, 1e-6, &mut out);
                    let near =
                        exact.iter().zip(&out).all(|(a, b)| (a - b).abs() < tolerance * a.abs().max(1.0));
                    assert!(near, "{isa:?}, {columns}, {centred}");
                    if isa != Isa::Portable {
                        assert!(*fused.get_or_insert_with(|| out.clone()) == out, "{isa:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_lies_anywhere_and_depends_on_nothing_beside_it() {
        use_device(Device::Cpu).unwrap();
        let mut rng = Pcg64::seed_from_u64(10);
        let values = |x: &Array| x.to_vec_f32().unwrap();
        let x = random(&mut rng, &[3, 300, 100]);
        let weight = random(&mut rng, &[200]);
        let weight = ops::transpose(&ops::reshape(&weight, &[100, 2]).unwrap(), &[1, 0]).unwrap();
        let weight = ops::reshape(&ops::slice(&weight, 0, 1, 2).unwrap(), &[100]).unwrap();
        let norm = |x: &Array| rms_norm(x, Some(&weight), 1e-6).unwrap().unwrap();
        let all = values(&norm(&x));
        for (axis, start) in [(0, 2), (1, 299)] {
            let part = ops::slice(&x, axis, start, start + 1).unwrap();
            let row = values(&norm(&part));
            let first = if axis == 0 { 2 * 300 * 100 } else { 299 * 100 };
            assert_eq!(row[..100], all[first..][..100]);
        }
        let turned = ops::transpose(&x, &[1, 0, 2]).unwrap();
        let back = ops::transpose(&norm(&turned), &[1, 0, 2]).unwrap();
        assert_eq!(values(&ops::contiguous(&back).unwrap()), all);
        let columns_first = ops::contiguous(&ops::transpose(&x, &[2, 0, 1]).unwrap()).unwrap();
        let strided = ops::transpose(&columns_first, &[1, 2, 0]).unwrap();
        assert_eq!(values(&norm(&strided)), all);
    }

    #[test]
    fn what_has_no_kernel_is_mlxs() {
        use_device(Device::Cpu).unwrap();
        let x = Array::from_f32(&[1.0; 8], &[2, 4]).unwrap();
        let weight = Array::from_f32(&[1.0; 3], &[3]).unwrap();
        assert!(rms_norm(&x, Some(&weight), 0.0).unwrap().is_none());
        assert!(rms_norm(&ops::astype(&x, Dtype::BF16).unwrap(), None, 0.0).unwrap().is_none());
        assert!(rms_norm(&Array::scalar(1.0).unwrap(), None, 0.0).unwrap().is_none());
        let empty = Array::from_f32(&[], &[0, 4]).unwrap();
        assert!(rms_norm(&empty, None, 0.0).unwrap().unwrap().to_vec_f32().unwrap().is_empty());
    }
}
