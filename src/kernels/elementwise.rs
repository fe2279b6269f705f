//! Sums and multiples, element by element.

use super::threads::for_each_part;
use crate::error::{Error, Result};
use crate::mlx::primitive::{Input, Kernel, primitive};
use crate::mlx::{Array, Dtype};

struct Add;

impl Kernel for Add {
    fn run(&self, inputs: &[Input], output: &mut [f32]) -> Result<()> {
        let [x, y] = inputs else { return Err(misfit()) };
        let (x, y): (&[f32], &[f32]) = (x.values()?, y.values()?);
        if x.len() != output.len() || y.len() != output.len() {
            return Err(misfit());
        }
        for_each_part(output, 1, |first, part| {
            let both = x[first..].iter().zip(&y[first..]);
            part.iter_mut().zip(both).for_each(|(out, (x, y))| *out = x + y);
        });
        Ok(())
    }
}

struct Scale(f32);

impl Kernel for Scale {
    fn run(&self, inputs: &[Input], output: &mut [f32]) -> Result<()> {
        let [x] = inputs else { return Err(misfit()) };
        let x: &[f32] = x.values()?;
        if x.len() != output.len() {
            return Err(misfit());
        }
        for_each_part(output, 1, |first, part| {
            part.iter_mut().zip(&x[first..]).for_each(|(out, x)| *out = x * self.0);
        });
        Ok(())
    }
}

fn misfit() -> Error {
    Error::Internal("what is added or scaled does not fit its result".into())
}

/// `x + y` of two float32 arrays of one shape.
pub fn add(x: &Array, y: &Array) -> Result<Option<Array>> {
    let fits = x.shape() == y.shape() && x.dtype() == Dtype::F32 && y.dtype() == Dtype::F32;
    if !fits || !super::compute()? {
        return Ok(None);
    }
    primitive(Add, &[x, y], x.shape()).map(Some)
}

/// `x * factor` of a float32 array.
pub fn scale(x: &Array, factor: f32) -> Result<Option<Array>> {
    if x.dtype() != Dtype::F32 || !super::compute()? {
        return Ok(None);
    }
    primitive(Scale(factor), &[x], x.shape()).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mlx::{Device, ops, use_device};

    #[test]
    fn sums_and_multiples_are_mlxs() {
        use_device(Device::Cpu).unwrap();
        for shape in [&[][..], &[7], &[3, 50_001]] {
            let count: i32 = shape.iter().product();
            let values =
                |step: i32| -> Vec<f32> { (0..count).map(|i| (i * step % 1013) as f32 / 7.0).collect() };
            let x = Array::from_f32(&values(37), shape).unwrap();
            let y = Array::from_f32(&values(101), shape).unwrap();
            let pairs = [
                (add(&x, &y).unwrap().unwrap(), ops::add(&x, &y).unwrap()),
                (scale(&x, 0.3).unwrap().unwrap(), ops::scale(&x, 0.3).unwrap()),
            ];
            for (ours, theirs) in pairs {
                assert_eq!(ours.shape(), shape);
                assert!(ours.to_vec_f32().unwrap() == theirs.to_vec_f32().unwrap());
            }
        }
        let (x, y) = (Array::scalar(1.0).unwrap(), Array::from_f32(&[1.0, 2.0], &[2]).unwrap());
        assert!(add(&x, &y).unwrap().is_none(), "one for all");
        assert!(scale(&ops::astype(&y, Dtype::BF16).unwrap(), 2.0).unwrap().is_none());
    }
}
