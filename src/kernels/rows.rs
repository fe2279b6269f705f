//! Rows of a matrix by their indices.

use super::Weight;
use super::float::unpack;
use super::stack::Layout;
use super::threads::for_each_part;
use crate::error::{Error, Result};
use crate::mlx::primitive::{Input, Kernel, primitive};
use crate::mlx::{Array, Dtype};

struct Rows(Layout);

impl Kernel for Rows {
    fn run(&self, inputs: &[Input], output: &mut [f32]) -> Result<()> {
        let [indices, parts @ ..] = inputs else { return Err(misfit()) };
        let Layout { rows, columns, .. } = self.0;
        let w = self.0.read(parts)?.matrix(0).ok_or_else(misfit)?;
        let check = |index: i64| {
            let index = usize::try_from(index).ok().filter(|index| *index < rows);
            index.ok_or_else(|| Error::Internal(format!("an index is not one of {rows} rows")))
        };
        let indices: Vec<usize> = match indices.dtype() {
            Dtype::U32 => {
                indices.values::<u32>()?.iter().map(|&index| check(index.into())).collect::<Result<_>>()?
            }
            _ => indices.values::<i32>()?.iter().map(|&index| check(index.into())).collect::<Result<_>>()?,
        };
        if output.len() != indices.len() * columns {
            return Err(misfit());
        }
        for_each_part(output, columns, |first, part| {
            for (out, &row) in part.chunks_exact_mut(columns).zip(&indices[first..]) {
                unpack(&w, row, out);
            }
        });
        Ok(())
    }
}

fn misfit() -> Error {
    Error::Internal("indices and a matrix do not fit together".into())
}

/// The rows of `w` `[rows, columns]` with the given indices, int32 or uint32 `[..]`: float32
/// `[.., columns]`, an integer as `q * scale + bias`. An index that is no row's is an error when the result
/// is evaluated.
pub(super) fn rows(w: Weight, indices: &Array) -> Result<Option<Array>> {
    let (layout, parts) = match w.parts() {
        Some(found) if matches!(indices.dtype(), Dtype::I32 | Dtype::U32) && super::compute()? => found,
        _ => return Ok(None),
    };
    let columns = layout.columns as i32;
    let inputs = [&[indices], &parts[..]].concat();
    primitive(Rows(layout), &inputs, &[indices.shape(), &[columns]].concat()).map(Some)
}

#[cfg(test)]
mod tests {
    use super::super::interleave::{can_interleave, tests::interleaved};
    use super::super::tests::{Case, affine, floats};
    use super::*;
    use crate::kernels::rows;
    use crate::mlx::ops::{self, Quantized};
    use crate::mlx::{Device, use_device};
    use rand::SeedableRng;
    use rand_pcg::Pcg64;

    fn bits(x: &Array) -> Vec<u32> {
        x.to_vec_f32().unwrap().into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn rows_are_mlxs_bit_for_bit() {
        use_device(Device::Cpu).unwrap();
        let mut rng = Pcg64::seed_from_u64(14);
        let indices = Array::from_i32(&[8, 0, 8, 3, 1, 7], &[2, 3]).unwrap();
        let unsigned = ops::astype(&indices, Dtype::U32).unwrap();
        for quantization in affine().chain(floats()) {
            let case = Case::new(&mut rng, [1, 16, 384], quantization);
            let theirs = ops::dequantize(&case.w, Dtype::F32).unwrap();
            let theirs = ops::take(&theirs, &indices).unwrap();
            let narrow = |groups: &Array| {
                if groups.dtype().is_float() {
                    ops::astype(groups, Dtype::BF16).unwrap()
                } else {
                    groups.clone()
                }
            };
            let narrow = Quantized {
                packed: case.w.packed.clone(),
                scales: narrow(&case.w.scales),
                biases: case.w.biases.as_ref().map(narrow),
                quantization,
            };
            for (w, indices) in [(&case.w, &indices), (&narrow, &indices), (&narrow, &unsigned)] {
                let ours = rows(Weight::Quantized(w), indices).unwrap().unwrap();
                assert_eq!((ours.shape(), ours.dtype()), (&[2, 3, 384][..], Dtype::F32));
                assert!(bits(&ours) == bits(&theirs), "{quantization:?}");
            }
            if can_interleave(16, quantization) {
                for w in [interleaved(&case.w), interleaved(&narrow)] {
                    let ours = rows(Weight::Interleaved(&w), &indices).unwrap().unwrap();
                    assert!(bits(&ours) == bits(&theirs), "{quantization:?}, interleaved");
                }
            }
        }
    }

    #[test]
    fn dense_rows_are_widened() {
        use_device(Device::Cpu).unwrap();
        let values: Vec<f32> = (0..7 * 33).map(|i| (i as f32).sin()).collect();
        let w = Array::from_f32(&values, &[7, 33]).unwrap();
        let indices: Vec<i32> = (0..3000).map(|i| i * 5 % 7).collect();
        let indices = Array::from_i32(&indices, &[3000]).unwrap();
        for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            let w = ops::astype(&w, dtype).unwrap();
            let theirs = ops::astype(&ops::take(&w, &indices).unwrap(), Dtype::F32).unwrap();
            let ours = rows(Weight::Dense(&w), &indices).unwrap().unwrap();
            assert_eq!(ours.shape(), [3000, 33]);
            assert!(bits(&ours) == bits(&theirs), "{dtype}");
        }
        assert!(rows(Weight::Dense(&w), &Array::scalar(1.0).unwrap()).unwrap().is_none());
    }

    #[test]
    fn an_index_beyond_the_rows_is_an_error() {
        use_device(Device::Cpu).unwrap();
        let w = Array::from_f32(&[1.0; 12], &[4, 3]).unwrap();
        for index in [4, -1, i32::MIN, i32::MAX] {
            let indices = Array::from_i32(&[0, index], &[2]).unwrap();
            let failed = rows(Weight::Dense(&w), &indices).unwrap_err().to_string();
            assert!(failed.contains("not one of 4 rows"), "{failed}");
        }
    }
}
