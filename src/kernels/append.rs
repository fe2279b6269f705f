//! New keys or values behind those that a cache holds.

use super::strided::Rows;
use crate::error::{Error, Result};
use crate::mlx::primitive::{Input, Kernel, update};
use crate::mlx::{Array, Dtype};
use std::ops::Range;

struct Append {
    rows: Range<usize>,
    at: usize,
    capacity: usize,
    dim: usize,
}

impl Kernel for Append {
    const AS_THEY_LIE: bool = true;

    fn run(&self, inputs: &[Input], buffer: &mut [f32]) -> Result<()> {
        let [new] = inputs else { return Err(Error::Internal("nothing to append".into())) };
        let rows = Rows::new(new)?;
        for (position, row) in self.rows.clone().enumerate() {
            let row = rows.row(row);
            let heads = buffer.chunks_exact_mut(self.capacity * self.dim);
            for (head, new) in heads.zip(row.chunks_exact(self.dim)) {
                head[(self.at + position) * self.dim..][..self.dim].copy_from_slice(new);
            }
        }
        Ok(())
    }
}

/// Whether [`append`] takes such arrays.
pub fn appends(buffer: &Array, new: &Array) -> Result<bool> {
    Ok(super::compute()? && buffer.dtype() == Dtype::F32 && new.dtype() == Dtype::F32)
}

/// `buffer` `[1, heads, capacity, dim]` with rows `rows` of `new` `[1, length, heads * dim]`, whose heads lie
/// beside each other, at positions `at..`: in the buffer's own memory if nothing else uses it. Both are
/// float32. An error if the rows or the positions do not exist; the buffer is gone then.
pub fn append(buffer: Array, new: &Array, rows: Range<i32>, at: i32) -> Result<Array> {
    let misfit =
        || Error::Internal(format!("rows {rows:?} of {new:?} cannot be put at position {at} of {buffer:?}"));
    let (&[1, heads, capacity, dim], &[1, length, columns]) = (buffer.shape(), new.shape()) else {
        return Err(misfit());
    };
    let exists = 0 <= rows.start && rows.start <= rows.end && rows.end <= length;
    if !exists || columns != heads * dim || at < 0 || at > capacity || rows.end - rows.start > capacity - at {
        return Err(misfit());
    }
    let kernel = Append {
        rows: rows.start as usize..rows.end as usize,
        at: at as usize,
        capacity: capacity as usize,
        dim: dim as usize,
    };
    update(kernel, buffer, &[new])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mlx::{Device, ops, use_device};

    fn counted(from: f32, shape: &[i32]) -> Array {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i: i32| from + i as f32).collect();
        Array::from_f32(&values, shape).unwrap()
    }

    #[test]
    fn rows_get_behind_those_of_their_heads() {
        use_device(Device::Cpu).unwrap();
        let buffer = counted(0.0, &[1, 2, 5, 3]);
        let new = counted(100.0, &[1, 4, 8]);
        // A part of each row, and transposed memory.
        let part = ops::slice(&new, 2, 1, 7).unwrap();
        let down = ops::contiguous(&ops::transpose(&part, &[0, 2, 1]).unwrap()).unwrap();
        let turned = ops::transpose(&down, &[0, 2, 1]).unwrap();
        let buffer_down = ops::contiguous(&ops::transpose(&buffer, &[0, 2, 1, 3]).unwrap()).unwrap();
        let buffer_turned = ops::transpose(&buffer_down, &[0, 2, 1, 3]).unwrap();
        for buffer in [&buffer, &buffer_turned] {
            for new in [&part, &turned, &ops::contiguous(&part).unwrap()] {
                let got = append(buffer.clone(), new, 1..4, 2).unwrap();
                assert_eq!(got.shape(), buffer.shape());
                let got = got.to_vec_f32().unwrap();
                for (index, got) in got.into_iter().enumerate() {
                    let (head, position, column) = (index / 15, index / 3 % 5, index % 3);
                    let new = 100 + (position as i32 - 2 + 1) * 8 + 1 + head as i32 * 3 + column as i32;
                    let want = if position < 2 { index as i32 } else { new };
                    assert_eq!(got, want as f32, "{index}");
                }
            }
        }
        let all = append(buffer.clone(), &part, 0..0, 5).unwrap();
        assert_eq!(all.to_vec_f32().unwrap(), buffer.to_vec_f32().unwrap());
    }

    #[test]
    fn a_buffer_keeps_its_memory() {
        use_device(Device::Cpu).unwrap();
        let mut buffer = ops::zeros(&[1, 4, 1000, 16], Dtype::F32).unwrap();
        buffer = ops::add(&buffer, &Array::scalar(0.0).unwrap()).unwrap();
        buffer.eval().unwrap();
        let place = |x: &Array| x.with_bytes(|bytes| bytes.as_ptr() as usize).unwrap();
        let before = place(&buffer);
        for at in 0..10 {
            let new = counted(at as f32, &[1, 1, 64]);
            buffer = append(buffer, &new, 0..1, at).unwrap();
            buffer.eval().unwrap();
        }
        assert_eq!(place(&buffer), before);
        let values = buffer.to_vec_f32().unwrap();
        assert_eq!([values[9 * 16], values[16_000 + 3 * 16 + 1], values[160]], [9.0, 3.0 + 17.0, 0.0]);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        use_device(Device::Cpu).unwrap();
        let (buffer, new) = (counted(0.0, &[1, 2, 5, 3]), counted(0.0, &[1, 4, 6]));
        for (rows, at) in [
            (0..5, 0),
            (-1..2, 0),
            (0..4, 2),
            (0..1, -1),
            (0..1, 5),
            (0..1, i32::MAX),
            (i32::MIN..i32::MAX, 0),
        ] {
            let failed = append(buffer.clone(), &new, rows.clone(), at).unwrap_err().to_string();
            assert!(failed.contains("cannot be put"), "{rows:?}, {at}: {failed}");
        }
        assert!(append(buffer.clone(), &counted(0.0, &[1, 4, 5]), 0..1, 0).is_err());
        assert!(append(buffer.clone(), &counted(0.0, &[4, 6]), 0..1, 0).is_err());
    }
}
