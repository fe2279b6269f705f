//! Root mean square normalisation (Zhang and Sennrich 2019).

use super::Weights;
use crate::error::Result;
use crate::mlx::{Array, ops};

/// `x / rms(x) * weight` over the last axis.
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
        let one = ops::astype(&Array::scalar(1.0)?, weight.dtype())?;
        Ok(RmsNorm { weight: weights.derived(ops::add(&weight, &one)?), eps })
    }

    /// Normalises the last axis.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        ops::rms_norm(x, &self.weight, self.eps)
    }
}
