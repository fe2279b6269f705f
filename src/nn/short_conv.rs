//! The short causal convolution of recurrent layers: each channel's last few positions, weighted.

use super::{StateCache, Weights};
use crate::error::Result;
use crate::mlx::{Array, Dtype, ops};

/// A depthwise convolution that sees `kernel - 1` positions before its own.
#[derive(Debug)]
pub struct ShortConv {
    /// `[channels, kernel, 1]`.
    weight: Array,
    bias: Option<Array>,
}

impl ShortConv {
    /// Takes `<prefix>.weight` `[channels, kernel, 1]`, or `[channels, 1, kernel]` as PyTorch has it,
    /// and `<prefix>.bias` if there is to be one.
    pub fn load(weights: &mut Weights, prefix: &str, channels: i32, kernel: i32, bias: bool) -> Result<Self> {
        let name = format!("{prefix}.weight");
        weights.map(&name, |weight| match weight.shape() {
            [_, 1, _] => ops::swap_axes(&weight, 1, 2),
            _ => Ok(weight),
        })?;
        let weight = weights.take(&name, &[channels, kernel, 1])?;
        let bias = if bias { Some(weights.take(&format!("{prefix}.bias"), &[channels])?) } else { None };
        Ok(ShortConv { weight, bias })
    }

    /// Convolves new positions `x` `[batch, length, channels]` behind those that `slot` of the cache
    /// remembers; zeros stand before the first one.
    pub fn forward(&self, x: &Array, cache: &mut StateCache, slot: usize) -> Result<Array> {
        let (batch, channels) = (x.dim(0), x.dim(2));
        let past = self.weight.dim(1) - 1;
        let padded = match cache.get(slot) {
            Some(state) => ops::concatenate(&[state, x], 1)?,
            None => ops::concatenate(&[&ops::zeros(&[batch, past, channels], x.dtype())?, x], 1)?,
        };
        let end = padded.dim(1);
        // A copy: a view would keep all of `padded`.
        cache.set(slot, ops::contiguous(&ops::slice(&padded, 1, end - past, end)?)?);
        // Every recurrent layer has one convolution, which sees all positions: it counts them.
        cache.advance(x.dim(1));
        let y = self.convolve(&padded)?;
        match &self.bias {
            Some(bias) => ops::add(&y, bias),
            None => Ok(y),
        }
    }

    /// MLX's depthwise convolution takes several times as long on the CPU as the few products that it
    /// consists of, so where those round no differently they are computed one by one.
    fn convolve(&self, padded: &Array) -> Result<Array> {
        let (channels, kernel) = (self.weight.dim(0), self.weight.dim(1));
        if padded.dtype() != Dtype::F32 {
            return ops::conv1d(padded, &self.weight, channels);
        }
        let length = padded.dim(1) - kernel + 1;
        let tap = |i: i32| {
            let weight = ops::reshape(&ops::slice(&self.weight, 1, i, i + 1)?, &[channels])?;
            ops::multiply(&ops::slice(padded, 1, i, i + length)?, &weight)
        };
        (1..kernel).try_fold(tap(0)?, |sum, i| ops::add(&sum, &tap(i)?))
    }
}
