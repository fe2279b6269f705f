//! Rotary position embedding (Su et al. 2021) and the ways to stretch it over longer contexts.

use crate::error::{Error, Result};
use crate::mlx::Array;
use crate::mlx::ops::{self, RopeFrequencies};
use serde::Deserialize;

/// `rope_scaling` (or `rope_parameters`) of config.json.
#[derive(Debug, Clone, Deserialize)]
pub struct RopeScaling {
    /// Which way.
    #[serde(alias = "type", default = "default_kind")]
    pub rope_type: String,
    /// By how much the context is stretched.
    pub factor: Option<f32>,
    /// llama3: wavelengths above `original / low_freq_factor` are stretched fully.
    #[serde(default = "one")]
    pub low_freq_factor: f32,
    /// llama3: wavelengths below `original / high_freq_factor` are not stretched.
    #[serde(default = "four")]
    pub high_freq_factor: f32,
    /// llama3: the context that the model was first trained on.
    #[serde(default = "context_8192")]
    pub original_max_position_embeddings: f32,
    /// factors: what each period is multiplied with, as GGUF stores llama3's outcome.
    pub factors: Option<Vec<f32>>,
    /// The base, where newer configs keep it here.
    pub rope_theta: Option<f32>,
}

fn default_kind() -> String {
    "default".into()
}
fn one() -> f32 {
    1.0
}
fn four() -> f32 {
    4.0
}
fn context_8192() -> f32 {
    8192.0
}

/// Rotates queries and keys by their positions.
#[derive(Debug, Clone)]
pub struct Rope {
    dims: i32,
    traditional: bool,
    frequencies: RopeFrequencies,
    /// Multiplies positions.
    scale: f32,
}

impl Rope {
    /// Rotation of the first `dims` dimensions of each head with base `theta`. `traditional` pairs
    /// neighbouring dimensions, otherwise dimension i goes with `i + dims / 2`.
    pub fn new(dims: i32, theta: f32, traditional: bool, scaling: Option<&RopeScaling>) -> Result<Self> {
        let plain = Rope { dims, traditional, frequencies: RopeFrequencies::Base(theta), scale: 1.0 };
        let Some(scaling) = scaling else { return Ok(plain) };
        let factor = || {
            scaling.factor.filter(|f| f.is_finite() && *f > 0.0).ok_or_else(|| {
                Error::BadModel("config.json: `rope_scaling.factor`: expected a positive number".into())
            })
        };
        match scaling.rope_type.as_str() {
            "default" | "mrope" => Ok(plain),
            "linear" => Ok(Rope { scale: 1.0 / factor()?, ..plain }),
            "llama3" => {
                let periods = llama3_periods(dims, theta, factor()?, scaling);
                let table = Array::from_f32(&periods, &[periods.len() as i32])?;
                Ok(Rope { frequencies: RopeFrequencies::Table(table), ..plain })
            }
            "factors" => {
                let factors = scaling.factors.as_deref().unwrap_or_default();
                let sound = factors.iter().all(|factor| factor.is_finite() && *factor > 0.0);
                if !sound || factors.len() != dims as usize / 2 {
                    let expected = format!("{} positive numbers", dims / 2);
                    return Err(Error::BadModel(format!("`rope_scaling.factors`: expected {expected}")));
                }
                let periods: Vec<f32> = (0..dims / 2)
                    .zip(factors)
                    .map(|(pair, factor)| theta.powf(2.0 * pair as f32 / dims as f32) * factor)
                    .collect();
                let table = Array::from_f32(&periods, &[periods.len() as i32])?;
                Ok(Rope { frequencies: RopeFrequencies::Table(table), ..plain })
            }
            other => Err(Error::Unsupported(format!(
                "config.json: `rope_scaling.rope_type` is \"{other}\"; known are default, linear, llama3"
            ))),
        }
    }

    /// Rotates `x` (`[batch, heads, length, head_dim]`) for positions `offset..offset + length`.
    pub fn forward(&self, x: &Array, offset: i32) -> Result<Array> {
        ops::rope(x, self.dims, self.traditional, &self.frequencies, self.scale, offset)
    }
}

/// Llama 3.1's periods: long wavelengths stretched by `factor`, short ones kept, those between
/// interpolated (the Llama 3 report, section 3.4, and Meta's reference code).
fn llama3_periods(dims: i32, theta: f32, factor: f32, scaling: &RopeScaling) -> Vec<f32> {
    let context = scaling.original_max_position_embeddings;
    let (low, high) = (scaling.low_freq_factor, scaling.high_freq_factor);
    let stretch = |pair: i32| {
        let period = theta.powf(2.0 * pair as f32 / dims as f32);
        let wavelength = 2.0 * std::f32::consts::PI * period;
        if wavelength > context / low {
            period * factor
        } else if wavelength > context / high {
            let smooth = (context / wavelength - low) / (high - low);
            period / ((1.0 - smooth) / factor + smooth)
        } else {
            period
        }
    };
    (0..dims / 2).map(stretch).collect()
}
