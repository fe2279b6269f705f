//! Grouped-query attention (Ainslie et al. 2023) with rotary positions and a cache.

use super::{Cache, Linear, Masks, Module, RmsNorm, Rope, Weights};
use crate::error::Result;
use crate::mlx::Array;
use crate::mlx::ops;

/// The shape of an attention block.
#[derive(Debug, Clone)]
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
    /// Norms of queries and keys before the rotation.
    pub norms: QkNorms,
    /// `None`: no positions.
    pub rope: Option<Rope>,
    /// The most positions that a query attends to; `None`: all.
    pub window: Option<i32>,
    /// Whether each head has a sink, a learned score without a value.
    pub sinks: bool,
    /// Whether q computes a gate too, behind each head's query, whose sigmoid multiplies what was
    /// attended (Qiu et al. 2025).
    pub output_gate: bool,
}

impl AttentionSpec {
    /// What most families share: no biases, no norms, no window, scores divided by the root of
    /// `head_dim`.
    pub fn new(width: i32, [heads, kv_heads]: [i32; 2], head_dim: i32, rope: Option<Rope>) -> Self {
        AttentionSpec {
            width,
            heads,
            kv_heads,
            head_dim,
            qkv_bias: false,
            output_bias: false,
            scale: (head_dim as f32).powf(-0.5),
            norms: QkNorms::None,
            rope,
            window: None,
            sinks: false,
            output_gate: false,
        }
    }
}

/// Root mean square norms of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum QkNorms {
    /// None.
    None,
    /// Over each head, with this eps.
    PerHead(f32),
    /// The same for families that store `weight - 1` (Gemma).
    PerHeadOffset(f32),
    /// Over all heads together, with this eps.
    Whole(f32),
}

/// An attention block.
#[derive(Debug)]
pub struct Attention {
    spec: AttentionSpec,
    q: Linear,
    k: Linear,
    v: Linear,
    output: Linear,
    norms: Option<(RmsNorm, RmsNorm)>,
    sinks: Option<Array>,
}

impl Attention {
    /// Takes `<prefix>.{q,k,v,o}_proj`, `.{q,k}_norm` and `.sinks`, as the spec says.
    pub fn load(weights: &mut Weights, prefix: &str, spec: AttentionSpec) -> Result<Self> {
        let AttentionSpec { width, heads, kv_heads, head_dim, qkv_bias, output_bias, .. } = spec;
        let mut linear = |name: &str, input, output, bias| {
            Linear::load(weights, &format!("{prefix}.{name}_proj"), input, output, bias)
        };
        let q = linear("q", width, heads * head_dim * if spec.output_gate { 2 } else { 1 }, qkv_bias)?;
        let k = linear("k", width, kv_heads * head_dim, qkv_bias)?;
        let v = linear("v", width, kv_heads * head_dim, qkv_bias)?;
        let output = linear("o", heads * head_dim, width, output_bias)?;
        let mut norm = |name: &str, heads: i32| {
            let name = format!("{prefix}.{name}_norm");
            match spec.norms {
                QkNorms::None => Ok(None),
                QkNorms::PerHead(eps) => RmsNorm::load(weights, &name, head_dim, eps).map(Some),
                QkNorms::PerHeadOffset(eps) => RmsNorm::load_offset(weights, &name, head_dim, eps).map(Some),
                QkNorms::Whole(eps) => RmsNorm::load(weights, &name, heads * head_dim, eps).map(Some),
            }
        };
        let norms = norm("q", heads)?.zip(norm("k", kv_heads)?);
        let sinks = if spec.sinks { Some(weights.take(&format!("{prefix}.sinks"), &[heads])?) } else { None };
        Ok(Attention { spec, q, k, v, output, norms, sinks })
    }

    /// An empty cache for this block.
    pub fn new_cache(&self) -> Cache {
        Cache::attention(self.spec.window)
    }

    /// Attends from the new positions of `x` to those in the cache and to each other, and adds the new
    /// ones to the cache.
    pub fn forward(&self, x: &Array, masks: &Masks, cache: &mut Cache) -> Result<Array> {
        let cache = cache.kv()?;
        let (batch, length) = (x.dim(0), x.dim(1));
        let AttentionSpec { heads, kv_heads, head_dim, scale, window, .. } = self.spec;
        let split = |y: &Array, heads: i32| ops::reshape(y, &[batch, length, heads, head_dim]);
        let heads_first = |y: &Array| ops::transpose(y, &[0, 2, 1, 3]);

        let (mut q, mut k) = (self.q.forward(x)?, self.k.forward(x)?);
        let v = heads_first(&split(&self.v.forward(x)?, kv_heads)?)?;
        if let (Some((q_norm, k_norm)), QkNorms::Whole(_)) = (&self.norms, self.spec.norms) {
            (q, k) = (q_norm.forward(&q)?, k_norm.forward(&k)?);
        }
        let mut gate = None;
        if self.spec.output_gate {
            let both = ops::reshape(&q, &[batch, length, heads, 2 * head_dim])?;
            q = ops::slice(&both, 3, 0, head_dim)?;
            gate = Some(ops::slice(&both, 3, head_dim, 2 * head_dim)?);
        }
        (q, k) = (split(&q, heads)?, split(&k, kv_heads)?);
        if let (Some((q_norm, k_norm)), QkNorms::PerHead(_) | QkNorms::PerHeadOffset(_)) =
            (&self.norms, self.spec.norms)
        {
            (q, k) = (q_norm.forward(&q)?, k_norm.forward(&k)?);
        }
        (q, k) = (heads_first(&q)?, heads_first(&k)?);
        if let Some(rope) = &self.spec.rope {
            let offset = cache.offset();
            (q, k) = (rope.forward(&q, offset)?, rope.forward(&k, offset)?);
        }

        let (k, v) = cache.update(k, v)?;
        let attended = ops::attention(&q, &k, &v, scale, masks.of(window)?, self.sinks.as_ref())?;
        let mut attended = heads_first(&attended)?;
        if let Some(gate) = gate {
            attended = ops::multiply(&attended, &ops::sigmoid(&gate)?)?;
        }
        self.output.forward(&ops::reshape(&attended, &[batch, length, heads * head_dim])?)
    }
}
