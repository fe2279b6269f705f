//! Multi-head latent attention (DeepSeek-AI 2024, DeepSeek-V2, section 2.1). A position's keys and values
//! are linear in one latent vector, which the cache holds next to one rotated key for all heads.

use super::decoder::Block;
use crate::error::{Error, Result};
use crate::mlx::ops::{self, Mask};
use crate::mlx::{Array, Dtype};
use crate::nn::{Cache, HeadLinear, KvCache, Linear, Memory, Module, RmsNorm, Rope, Weights};

/// The shape of such a block.
#[derive(Debug, Clone)]
pub struct LatentSpec {
    /// Width of the residual stream.
    pub width: i32,
    pub heads: i32,
    /// Width of the latent vector of keys and values.
    pub latent_dim: i32,
    /// Width of the queries' latent vector; `None`: they have none.
    pub q_latent_dim: Option<i32>,
    /// The part of queries and keys without positions.
    pub nope_dim: i32,
    /// The part with rotary positions.
    pub rope_dim: i32,
    pub value_dim: i32,
    /// Whether the maps to latent vectors and to the output have biases.
    pub bias: bool,
    pub rope: Rope,
    /// Factor on the scores.
    pub scale: f32,
}

/// An attention block.
pub struct LatentAttention {
    spec: LatentSpec,
    /// To the queries' latent vector.
    q_latent: Option<(Linear, RmsNorm)>,
    q: Linear,
    /// To the latent vector and the rotated key.
    kv: Linear,
    kv_norm: RmsNorm,
    /// From keys to the latent space: `[heads, latent_dim, nope_dim]`.
    keys: HeadLinear,
    /// From the latent space to values.
    values: HeadLinear,
    output: Linear,
}

/// The norms of latent vectors do not follow `rms_norm_eps`.
const LATENT_EPS: f32 = 1e-6;

impl LatentAttention {
    /// Takes `<prefix>.q_proj` or `.q_{a,b}_proj` and `.q_a_layernorm`, `.kv_a_proj_with_mqa`,
    /// `.kv_a_layernorm`, `.kv_b_proj` or `.embed_q` and `.unembed_out`, and `.o_proj`.
    pub fn load(weights: &mut Weights, prefix: &str, spec: LatentSpec) -> Result<Self> {
        let LatentSpec { width, heads, latent_dim, nope_dim, rope_dim, value_dim, bias, .. } = spec;
        split_keys_and_values(weights, prefix, &spec)?;
        let name = |layer: &str| format!("{prefix}.{layer}");
        let q_dim = heads * (nope_dim + rope_dim);
        let (q_latent, q) = match spec.q_latent_dim {
            None => (None, Linear::load(weights, &name("q_proj"), width, q_dim, false)?),
            Some(dim) => {
                let down = Linear::load(weights, &name("q_a_proj"), width, dim, bias)?;
                let norm = RmsNorm::load(weights, &name("q_a_layernorm"), dim, LATENT_EPS)?;
                (Some((down, norm)), Linear::load(weights, &name("q_b_proj"), dim, q_dim, false)?)
            }
        };
        let kv_dim = latent_dim + rope_dim;
        Ok(LatentAttention {
            q_latent,
            q,
            kv: Linear::load(weights, &name("kv_a_proj_with_mqa"), width, kv_dim, bias)?,
            kv_norm: RmsNorm::load(weights, &name("kv_a_layernorm"), latent_dim, LATENT_EPS)?,
            keys: HeadLinear::load(weights, &name("embed_q"), heads, nope_dim, latent_dim)?,
            values: HeadLinear::load(weights, &name("unembed_out"), heads, latent_dim, value_dim)?,
            output: Linear::load(weights, &name("o_proj"), heads * value_dim, width, bias)?,
            spec,
        })
    }
}

impl Block for LatentAttention {
    /// Attends from the new positions of `x` to those in its sequence's cache and to each other, and adds
    /// the new ones to the cache.
    fn forward(&self, x: &Array, memory: &mut Memory) -> Result<Array> {
        let (batch, length) = (x.dim(0), x.dim(1));
        let LatentSpec { heads, nope_dim, rope_dim, value_dim, latent_dim, .. } = self.spec;
        let heads_first = |y: &Array| ops::transpose(y, &[0, 2, 1, 3]);
        let split = |y: &Array, at: i32| {
            let last = y.shape().len() - 1;
            Ok::<_, Error>((ops::slice(y, last, 0, at)?, ops::slice(y, last, at, y.dim(-1))?))
        };

        let q = match &self.q_latent {
            None => self.q.forward(x)?,
            Some((down, norm)) => self.q.forward(&norm.forward(&down.forward(x)?)?)?,
        };
        let q = ops::reshape(&q, &[batch, length, heads, nope_dim + rope_dim])?;
        let (q, q_rotated) = split(&heads_first(&q)?, nope_dim)?;
        let (latent, key) = split(&self.kv.forward(x)?, latent_dim)?;
        let latent = ops::expand_dims(&self.kv_norm.forward(&latent)?, 1)?;
        let key = ops::expand_dims(&key, 1)?;
        let attended = memory.each(2, [&q, &q_rotated, &latent, &key], |new, cache, masks| {
            self.attend(new, cache.kv()?, masks.of(None)?)
        })?;
        let joined = ops::reshape(&heads_first(&attended)?, &[batch, length, heads * value_dim])?;
        self.output.forward(&joined)
    }

    fn new_cache(&self) -> Cache {
        Cache::full()
    }
}

impl LatentAttention {
    /// What one sequence's new queries read, `[1, heads, length, value_dim]`. `new`: the two parts of the
    /// queries, latent vectors and keys. One query is mapped to the latent space; for many it is cheaper
    /// to compute keys and values from it.
    fn attend(&self, new: [Array; 4], cache: &mut KvCache, mask: &Mask) -> Result<Array> {
        let [q, q_rotated, latent, key] = new;
        let (length, past) = (q.dim(2), cache.offset());
        let LatentSpec { scale, rope, .. } = &self.spec;
        let scale = *scale;
        let q_rotated = rope.forward(&q_rotated, past)?;
        let key = rope.forward(&key, past)?;
        let (latent, key) = cache.update(latent, key)?;

        // What the rotated parts give to the scores goes to attention as its mask.
        let scores = ops::matmul(&ops::scale(&q_rotated, scale)?, &ops::swap_axes(&key, -1, -2)?)?;
        let attend = |q: &Array, k: &Array, v: &Array, scores: Array| {
            ops::attention(q, k, v, scale, &Mask::Array(scores), None)
        };
        if length == 1 {
            let q = self.keys.forward(&q)?;
            self.values.forward(&attend(&q, &latent, &latent, scores)?)
        } else {
            let lowest = ops::constant(lowest(scores.dtype()), &scores)?;
            let scores = match mask.to_array(length, key.dim(2))? {
                Some(seen) => ops::select(&seen, &scores, &lowest)?,
                None => scores,
            };
            attend(&q, &self.keys.backward(&latent)?, &self.values.forward(&latent)?, scores)
        }
    }
}

/// The most negative number of a type.
fn lowest(dtype: Dtype) -> f32 {
    match dtype {
        Dtype::F16 => -65_504.0,
        Dtype::BF16 => f32::from_bits(0xff7f_0000),
        _ => f32::MIN,
    }
}

/// Publishers store both maps from the latent space in one, `kv_b_proj`, for every head the rows of its
/// keys and then those of its values.
fn split_keys_and_values(weights: &mut Weights, prefix: &str, spec: &LatentSpec) -> Result<()> {
    let LatentSpec { heads, nope_dim, value_dim, latent_dim, .. } = *spec;
    let rows = nope_dim + value_dim;
    let stored = weights.remove_matrix(&format!("{prefix}.kv_b_proj"), &[heads * rows, latent_dim])?;
    let Some(stored) = stored else { return Ok(()) };
    let matrix = ops::reshape(&stored.matrix, &[heads, rows, latent_dim])?;
    let keys = ops::swap_axes(&ops::slice(&matrix, 1, 0, nope_dim)?, -1, -2)?;
    let values = ops::slice(&matrix, 1, nope_dim, rows)?;
    weights.insert_matrix(&format!("{prefix}.embed_q"), &keys, &stored)?;
    weights.insert_matrix(&format!("{prefix}.unembed_out"), &values, &stored)
}
