//! Rotary position embedding (Su et al. 2021) and the ways to stretch it over longer contexts.

use super::Packing;
use crate::error::{Error, Result};
use crate::kernels::{self, Rotation};
use crate::mlx::Array;
use crate::mlx::ops::{self, RopeFrequencies};
use serde::Deserialize;
use std::f32::consts::PI;

/// `rope_scaling` (or `rope_parameters`) of config.json.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct RopeScaling {
    /// Which way; `None`: not stretched.
    pub rope_type: Option<String>,
    /// The older name of `rope_type`. Some configs have both.
    pub r#type: Option<String>,
    /// By how much the context is stretched.
    pub factor: Option<f32>,
    /// llama3: wavelengths above `original / low_freq_factor` are stretched fully.
    pub low_freq_factor: Option<f32>,
    /// llama3: wavelengths below `original / high_freq_factor` are not stretched.
    pub high_freq_factor: Option<f32>,
    /// The context that the model was first trained on.
    pub original_max_position_embeddings: Option<f32>,
    /// yarn: pairs that turn more often than this over the original context are not stretched.
    pub beta_fast: Option<f32>,
    /// yarn: pairs that turn less often than this are stretched fully.
    pub beta_slow: Option<f32>,
    /// yarn: strength of the factor on queries and keys.
    pub mscale: Option<f32>,
    /// yarn: the part of that factor which attention applies to the scores instead.
    pub mscale_all_dim: Option<f32>,
    /// longrope: factor of each pair's period up to the original context.
    pub short_factor: Option<Vec<f32>>,
    /// longrope: factor of each pair's period beyond.
    pub long_factor: Option<Vec<f32>>,
    /// The part of a head's dimensions that turns.
    pub partial_rotary_factor: Option<f32>,
    /// factors: what each period is multiplied with, as GGUF stores llama3's outcome.
    pub factors: Option<Vec<f32>>,
    /// The base, where newer configs keep it here.
    pub rope_theta: Option<f32>,
}

/// Both names of those that have two.
const KINDS: &[&str] = &[
    "default",
    "mrope",
    "linear",
    "dynamic",
    "llama3",
    "yarn",
    "deepseek_yarn",
    "telechat3-yarn",
    "longrope",
    "su",
    "proportional",
    "factors",
];

impl RopeScaling {
    /// Whether it is of a known kind, which can be told before there are weights.
    pub fn check_kind(&self) -> Result<()> {
        match self.kind() {
            kind if KINDS.contains(&kind) => Ok(()),
            other => Err(Error::Unsupported(format!(
                "config.json: `rope_scaling.rope_type` is \"{other}\"; known are {}",
                KINDS.join(", ")
            ))),
        }
    }

    fn kind(&self) -> &str {
        self.r#type.as_deref().or(self.rope_type.as_deref()).unwrap_or("default")
    }

    fn positive(&self, key: &str, value: Option<f32>) -> Result<f32> {
        value.filter(|v| v.is_finite() && *v > 0.0).ok_or_else(|| {
            Error::BadModel(format!("config.json: `rope_scaling.{key}`: expected a positive number"))
        })
    }

    fn required_factor(&self) -> Result<f32> {
        self.positive("factor", self.factor)
    }

    /// yarn: the scale of attention scores with what `mscale_all_dim` leaves to it.
    pub fn attention_scale(&self, scale: f32) -> f32 {
        let (factor, strength) = (self.factor.unwrap_or(1.0), self.mscale_all_dim.unwrap_or(0.0));
        if self.kind() == "default" || strength == 0.0 || factor <= 1.0 {
            return scale;
        }
        scale * yarn_mscale(factor, strength).powi(2)
    }
}

/// Rotates queries and keys by their positions.
#[derive(Debug, Clone)]
pub struct Rope {
    dims: i32,
    traditional: bool,
    frequencies: RopeFrequencies,
    /// Multiplies positions.
    scale: f32,
    /// Multiplies the turning dimensions.
    gain: f32,
    dynamic: Option<Dynamic>,
}

/// A base that grows with the length, once that is beyond the context (NTK-aware scaling, bloc97 and
/// emozilla 2023).
#[derive(Debug, Clone, Copy)]
struct Dynamic {
    theta: f32,
    factor: f32,
    context: i32,
}

impl Dynamic {
    fn base(self, dims: i32, length: i32) -> f32 {
        let stretched = self.factor * length.max(self.context) as f32 / self.context as f32;
        let exponent = dims as f32 / (dims - 2) as f32;
        self.theta * (stretched - (self.factor - 1.0)).powf(exponent)
    }
}

impl Rope {
    /// Rotation of the first `dims` dimensions of each head with base `theta`. `traditional` pairs
    /// neighbouring dimensions, otherwise dimension i goes with `i + dims / 2`. `context`: the positions
    /// that the model was made for.
    pub fn new(
        dims: i32,
        theta: f32,
        traditional: bool,
        scaling: Option<&RopeScaling>,
        context: i32,
    ) -> Result<Self> {
        let frequencies = RopeFrequencies::Base(theta);
        let plain = Rope { dims, traditional, frequencies, scale: 1.0, gain: 1.0, dynamic: None };
        let Some(scaling) = scaling else { return Ok(plain) };
        let table = |periods: Vec<f32>| {
            let table = Array::from_f32(&periods, &[periods.len() as i32])?;
            Ok::<_, Error>(RopeFrequencies::Table(table))
        };
        match scaling.kind() {
            "default" | "mrope" => Ok(plain),
            "linear" => Ok(Rope { scale: 1.0 / scaling.required_factor()?, ..plain }),
            "dynamic" if dims > 2 => {
                let factor = scaling.required_factor()?;
                Ok(Rope { dynamic: Some(Dynamic { theta, factor, context }), ..plain })
            }
            "llama3" => Ok(Rope { frequencies: table(llama3_periods(dims, theta, scaling)?)?, ..plain }),
            "yarn" | "deepseek_yarn" | "telechat3-yarn" => {
                let factor = scaling.required_factor()?;
                let gain = yarn_mscale(factor, scaling.mscale.unwrap_or(1.0))
                    / yarn_mscale(factor, scaling.mscale_all_dim.unwrap_or(0.0));
                Ok(Rope { frequencies: table(yarn_periods(dims, theta, scaling)?)?, gain, ..plain })
            }
            "longrope" | "su" => {
                let (periods, gain) = longrope(dims, theta, scaling, context)?;
                Ok(Rope { frequencies: table(periods)?, gain, ..plain })
            }
            "proportional" => Ok(Rope { frequencies: table(proportional(dims, theta, scaling)?)?, ..plain }),
            "factors" => {
                let factors = pair_factors("factors", scaling.factors.as_deref(), dims)?;
                let scaled = periods(dims, theta).zip(factors).map(|(period, factor)| period * factor);
                Ok(Rope { frequencies: table(scaled.collect())?, ..plain })
            }
            _ => scaling.check_kind().and(Ok(plain)),
        }
    }

    /// Rotates each `x` `[1, tokens, heads * head_dim]` for every token's position.
    pub fn turn<const N: usize>(
        &self,
        all: [&Array; N],
        head_dim: i32,
        packing: &Packing,
    ) -> Result<[Array; N]> {
        if self.dynamic.is_none() {
            let rotation = Rotation {
                head_dim,
                dims: self.dims,
                traditional: self.traditional,
                frequencies: &self.frequencies,
                scale: self.scale,
                gain: self.gain,
            };
            if let Some(turned) = kernels::rope(all, packing.positions(), &rotation)? {
                return Ok(turned);
            }
        }
        let turned: Vec<Array> =
            all.into_iter().map(|x| self.turn_by_mlx(x, head_dim, packing)).collect::<Result<_>>()?;
        Ok(turned.try_into().expect("one of each"))
    }

    fn turn_by_mlx(&self, x: &Array, head_dim: i32, packing: &Packing) -> Result<Array> {
        let (tokens, columns) = (x.dim(1), x.dim(2));
        let swap = |x: &Array| ops::transpose(x, &[0, 2, 1, 3]);
        let together = |x: &Array, offset: i32| {
            let heads = ops::reshape(x, &[1, x.dim(1), columns / head_dim, head_dim])?;
            ops::reshape(&swap(&self.forward(&swap(&heads)?, offset)?)?, &[1, x.dim(1), columns])
        };
        if let [offset] = packing.offsets() {
            return together(x, *offset);
        }
        if self.dynamic.is_some() {
            // Every sequence has a base of its own.
            let pieces = packing.split(1, [x])?.into_iter().zip(packing.offsets());
            let turned = pieces.map(|([x], offset)| together(&x, *offset));
            return packing.join(1, turned.collect::<Result<_>>()?);
        }
        // To MLX each token is a sequence.
        let rows = ops::reshape(x, &[tokens, columns / head_dim, 1, head_dim])?;
        let gained = if self.gain == 1.0 { rows } else { self.multiply_turning(&rows)? };
        let positions = packing.positions();
        let (dims, frequencies) = (self.dims, &self.frequencies);
        let turned = ops::rope_each(&gained, dims, self.traditional, frequencies, self.scale, positions)?;
        ops::reshape(&turned, &[1, tokens, columns])
    }

    /// Rotates `x` (`[batch, heads, length, head_dim]`) for positions `offset..offset + length`.
    pub fn forward(&self, x: &Array, offset: i32) -> Result<Array> {
        let gained = if self.gain == 1.0 { None } else { Some(self.multiply_turning(x)?) };
        let x = gained.as_ref().unwrap_or(x);
        let grown = |dynamic: Dynamic| RopeFrequencies::Base(dynamic.base(self.dims, offset + x.dim(-2)));
        let grown = self.dynamic.map(grown);
        let frequencies = grown.as_ref().unwrap_or(&self.frequencies);
        ops::rope(x, self.dims, self.traditional, frequencies, self.scale, offset)
    }

    fn multiply_turning(&self, x: &Array) -> Result<Array> {
        if x.dim(-1) == self.dims {
            return ops::scale(x, self.gain);
        }
        let parts = ops::split(x, &[self.dims], -1)?;
        ops::concatenate(&[&ops::scale(&parts[0], self.gain)?, &parts[1]], -1)
    }
}

fn periods(dims: i32, theta: f32) -> impl Iterator<Item = f32> {
    (0..dims / 2).map(move |pair| theta.powf(2.0 * pair as f32 / dims as f32))
}

/// Llama 3.1's periods: long wavelengths stretched by `factor`, short ones kept, those between
/// interpolated (the Llama 3 report, section 3.4, and Meta's reference code).
fn llama3_periods(dims: i32, theta: f32, scaling: &RopeScaling) -> Result<Vec<f32>> {
    let factor = scaling.required_factor()?;
    let context = scaling.original_max_position_embeddings.unwrap_or(8192.0);
    let (low, high) = (scaling.low_freq_factor.unwrap_or(1.0), scaling.high_freq_factor.unwrap_or(4.0));
    let stretch = |period: f32| {
        let wavelength = 2.0 * PI * period;
        if wavelength > context / low {
            period * factor
        } else if wavelength > context / high {
            let smooth = (context / wavelength - low) / (high - low);
            period / ((1.0 - smooth) / factor + smooth)
        } else {
            period
        }
    };
    Ok(periods(dims, theta).map(stretch).collect())
}

/// YaRN's factor on queries and keys (Peng et al. 2023, equation 22).
fn yarn_mscale(factor: f32, strength: f32) -> f32 {
    if factor <= 1.0 { 1.0 } else { 0.1 * strength * factor.ln() + 1.0 }
}

/// YaRN's periods: pairs that turn often over the original context are kept, those that turn seldom
/// stretched, with a linear ramp between (Peng et al. 2023, section 3.2).
fn yarn_periods(dims: i32, theta: f32, scaling: &RopeScaling) -> Result<Vec<f32>> {
    let factor = scaling.required_factor()?;
    let context = scaling.original_max_position_embeddings.unwrap_or(4096.0);
    // The dimension whose pair turns so many times over the context.
    let dimension = |turns: f32| dims as f32 * (context / (turns * 2.0 * PI)).ln() / (2.0 * theta.ln());
    let low = dimension(scaling.beta_fast.unwrap_or(32.0)).floor().max(0.0);
    let mut high = dimension(scaling.beta_slow.unwrap_or(1.0)).ceil().min(dims as f32 - 1.0);
    if low == high {
        high += 0.001;
    }
    let blend = |(pair, period): (usize, f32)| {
        let kept = 1.0 - ((pair as f32 - low) / (high - low)).clamp(0.0, 1.0);
        let stretched = factor * period;
        stretched * period / (stretched * kept + period * (1.0 - kept))
    };
    Ok(periods(dims, theta).enumerate().map(blend).collect())
}

/// A factor for each pair of dimensions.
fn pair_factors<'a>(key: &str, factors: Option<&'a [f32]>, dims: i32) -> Result<&'a [f32]> {
    let sound = |factors: &&[f32]| {
        factors.len() == dims as usize / 2 && factors.iter().all(|f| f.is_finite() && *f > 0.0)
    };
    factors.filter(sound).ok_or_else(|| {
        Error::BadModel(format!("config.json: `rope_scaling.{key}`: expected {} positive numbers", dims / 2))
    })
}

/// LongRoPE's periods and factor on queries and keys (Ding et al. 2024). Like mlx-lm, the long factors
/// hold for every length.
fn longrope(dims: i32, theta: f32, scaling: &RopeScaling, context: i32) -> Result<(Vec<f32>, f32)> {
    let factors = pair_factors("long_factor", scaling.long_factor.as_deref(), dims)?;
    let original = scaling.original_max_position_embeddings;
    let original = scaling.positive("original_max_position_embeddings", original)?;
    let stretch = context as f32 / original;
    let gain = if stretch <= 1.0 { 1.0 } else { (1.0 + stretch.ln() / original.ln()).sqrt() };
    Ok((periods(dims, theta).zip(factors).map(|(period, factor)| period * factor).collect(), gain))
}

/// Gemma 4's: the first part of the pairs turns with periods of the whole head, the rest not at all.
fn proportional(dims: i32, theta: f32, scaling: &RopeScaling) -> Result<Vec<f32>> {
    let part = scaling.partial_rotary_factor.unwrap_or(1.0);
    if !(0.0..=1.0).contains(&part) {
        return Err(Error::BadModel(
            "config.json: `rope_parameters.partial_rotary_factor`: expected a number from 0 to 1".into(),
        ));
    }
    let turning = ((dims as f32 * part) as usize).div_ceil(2);
    let factor = scaling.factor.unwrap_or(1.0);
    let period = |(pair, period): (usize, f32)| if pair < turning { factor * period } else { f32::INFINITY };
    Ok(periods(dims, theta).enumerate().map(period).collect())
}
