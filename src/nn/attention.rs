//! Grouped-query attention (Ainslie et al. 2023) with rotary positions and a cache.

use super::{KvCache, Linear, RmsNorm, Rope, Weights};
use crate::error::Result;
use crate::mlx::Array;
use crate::mlx::ops::{self, Mask};

/// The shape of an attention block.
#[derive(Debug, Clone, Copy)]
pub struct AttentionSpec {
    /// Width of the residual stream.
    pub width: i32,
    /// Query heads.
    pub heads: i32,
    /// Key and value heads: a divisor of `heads`.
    pub kv_heads: i32,
    /// Width of a head.
    pub head_dim: i32,
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Whether the output has one.
    pub output_bias: bool,
    /// Factor on the scores.
    pub scale: f32,
}

/// An attention block.
#[derive(Debug)]
pub struct Attention {
    spec: AttentionSpec,
    q: Linear,
    k: Linear,
    v: Linear,
    output: Linear,
    /// Norms of each query and key head, before the rotation.
    norms: Option<(RmsNorm, RmsNorm)>,
    rope: Rope,
}

impl Attention {
    /// Takes `<prefix>.{q,k,v,o}_proj`.
    pub fn load(weights: &mut Weights, prefix: &str, spec: AttentionSpec, rope: Rope) -> Result<Self> {
        let AttentionSpec { width, heads, kv_heads, head_dim, qkv_bias, output_bias, .. } = spec;
        let mut linear = |name: &str, input, output, bias| {
            Linear::load(weights, &format!("{prefix}.{name}_proj"), input, output, bias)
        };
        Ok(Attention {
            spec,
            q: linear("q", width, heads * head_dim, qkv_bias)?,
            k: linear("k", width, kv_heads * head_dim, qkv_bias)?,
            v: linear("v", width, kv_heads * head_dim, qkv_bias)?,
            output: linear("o", heads * head_dim, width, output_bias)?,
            norms: None,
            rope,
        })
    }

    /// Adds norms of each query and key head.
    pub fn with_norms(mut self, q: RmsNorm, k: RmsNorm) -> Self {
        self.norms = Some((q, k));
        self
    }

    /// Attends from the new positions of `x` to those in the cache and to each other as `mask` lets
    /// them, and adds the new ones to the cache.
    pub fn forward(&self, x: &Array, mask: &Mask, cache: &mut KvCache) -> Result<Array> {
        let (batch, length) = (x.dim(0), x.dim(1));
        let AttentionSpec { heads, kv_heads, head_dim, scale, .. } = self.spec;
        let split = |y: &Array, heads: i32| ops::reshape(y, &[batch, length, heads, head_dim]);
        let heads_first = |y: &Array| ops::transpose(y, &[0, 2, 1, 3]);

        let mut q = split(&self.q.forward(x)?, heads)?;
        let mut k = split(&self.k.forward(x)?, kv_heads)?;
        let v = heads_first(&split(&self.v.forward(x)?, kv_heads)?)?;
        if let Some((q_norm, k_norm)) = &self.norms {
            q = q_norm.forward(&q)?;
            k = k_norm.forward(&k)?;
        }
        let offset = cache.offset();
        let q = self.rope.forward(&heads_first(&q)?, offset)?;
        let k = self.rope.forward(&heads_first(&k)?, offset)?;

        let (k, v) = cache.update(k, v)?;
        let attended = ops::attention(&q, &k, &v, scale, mask)?;
        let joined = ops::reshape(&heads_first(&attended)?, &[batch, length, heads * head_dim])?;
        self.output.forward(&joined)
    }
}
