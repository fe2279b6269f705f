//! Inputs that lie in memory with something between their elements.

use super::stack::floats;
use crate::error::{Error, Result};
use crate::mlx::primitive::Input;
use std::borrow::Cow;

/// The rows along the last axis of an input of any shape.
pub(super) struct Rows<'a> {
    values: &'a [f32],
    columns: usize,
    /// Between neighbours of a row.
    step: usize,
    /// Size and stride of each other axis; none if the rows lie behind each other.
    outer: Vec<(usize, usize)>,
}

impl<'a> Rows<'a> {
    /// The input's, which must be float32 of one axis or more.
    pub fn new(input: &Input<'a>) -> Result<Self> {
        let axes = input.shape().iter().zip(input.strides());
        let mut outer: Vec<(usize, usize)> =
            axes.map(|(&size, &stride)| (size as usize, stride as usize)).collect();
        let Some((columns, step)) = outer.pop() else {
            return Err(Error::Internal("a scalar has no rows".into()));
        };
        let mut next = columns;
        let follows = outer.iter().rev().all(|&(size, stride)| {
            let follows = stride == next || size == 1;
            next *= size;
            follows
        });
        if follows && step == 1 {
            outer.clear();
        }
        Ok(Rows { values: input.values()?, columns, step, outer })
    }

    /// The row with this index.
    #[inline]
    pub fn row(&self, index: usize) -> Cow<'a, [f32]> {
        if self.outer.is_empty() && self.step == 1 {
            return self.values[index * self.columns..][..self.columns].into();
        }
        let (mut rest, mut start) = (index, 0);
        for &(size, stride) in self.outer.iter().rev() {
            start += rest % size * stride;
            rest /= size;
        }
        if self.step == 1 {
            return self.values[start..][..self.columns].into();
        }
        (0..self.columns).map(|column| self.values[start + column * self.step]).collect()
    }
}

/// The elements of an input of one axis, of any float type.
pub(super) fn vector<'a>(input: &Input<'a>) -> Result<Cow<'a, [f32]>> {
    if let (Ok(values), &[1]) = (input.values(), input.strides()) {
        return Ok(values.into());
    }
    let (&[size], &[stride]) = (input.shape(), input.strides()) else {
        return Err(Error::Internal("not a vector".into()));
    };
    let mut values = vec![0.0; (size as usize).saturating_sub(1) * stride as usize + 1];
    floats(input)?.read(0, &mut values);
    if stride != 1 {
        values = (0..size as usize).map(|index| values[index * stride as usize]).collect();
    }
    Ok(values.into())
}
