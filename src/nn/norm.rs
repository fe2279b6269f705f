//! Normalisation of the last axis.

use super::{Module, Weights};
use crate::error::Result;
use crate::kernels::{self, Source};
use crate::mlx::{Array, ops};

/// `x / rms(x) * weight` over the last axis, with `eps` added to the mean square.
pub fn rms_norm(x: &Array, weight: Option<&Array>, eps: f32) -> Result<Array> {
    match kernels::rms_norm(x, weight, eps)? {
        Some(y) => Ok(y),
        None => ops::rms_norm(x, weight, eps),
    }
}

/// `x / rms(x) * weight` (Zhang and Sennrich 2019).
#[derive(Debug)]
pub struct RmsNorm {
    weight: Array,
    eps: f32,
}

impl RmsNorm {
    /// Takes `<prefix>.weight` of `width` values.
    pub fn load(weights: &mut Weights, prefix: &str, width: i32, eps: f32) -> Result<Self> {
        let weight = weights.take(&format!("{prefix}.weight"), &[width])?;
        Ok(RmsNorm { weight, eps })
    }

    /// The same for families that store `weight - 1` (Gemma).
    pub fn load_offset(weights: &mut Weights, prefix: &str, width: i32, eps: f32) -> Result<Self> {
        let weight = weights.take(&format!("{prefix}.weight"), &[width])?;
        let one = ops::constant(1.0, &weight)?;
        Ok(RmsNorm { weight: weights.derived(ops::add(&weight, &one)?), eps })
    }
}

impl RmsNorm {
    /// The norm of `x` as a linear layer's input.
    pub fn of<'a>(&'a self, x: &'a Array) -> Source<'a> {
        Source::Normed { x, weight: &self.weight, eps: self.eps }
    }
}

impl Module for RmsNorm {
    fn forward(&self, x: &Array) -> Result<Array> {
        rms_norm(x, Some(&self.weight), self.eps)
    }
}

/// `(x - mean(x)) / std(x) * weight + bias` (Ba et al. 2016).
#[derive(Debug)]
pub struct LayerNorm {
    weight: Array,
    bias: Option<Array>,
    eps: f32,
}

impl LayerNorm {
    /// Takes `<prefix>.weight` of `width` values, and `<prefix>.bias` if there is to be one.
    pub fn load(weights: &mut Weights, prefix: &str, width: i32, eps: f32, bias: bool) -> Result<Self> {
        let weight = weights.take(&format!("{prefix}.weight"), &[width])?;
        let bias = if bias { Some(weights.take(&format!("{prefix}.bias"), &[width])?) } else { None };
        Ok(LayerNorm { weight, bias, eps })
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Array) -> Result<Array> {
        let bias = self.bias.as_ref();
        match kernels::layer_norm(x, &self.weight, bias, self.eps)? {
            Some(y) => Ok(y),
            None => ops::layer_norm(x, &self.weight, bias, self.eps),
        }
    }
}
