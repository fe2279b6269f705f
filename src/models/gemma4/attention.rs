//! Gemma 4's attention: values are normed, keys may be values, and late layers look at earlier ones'
//! keys and values.

use super::super::{Config, Dims};
use super::{Args, Kind};
use crate::error::{Error, Result};
use crate::mlx::{Array, ops};
use crate::nn::{Batch, Cache, Linear, Module, Recall, RmsNorm, Rope, Scores, Weights, rms_norm};

/// The maps to keys and values of a layer that has its own.
struct Projections {
    k: Linear,
    /// `None`: the keys, before their norm, are the values too.
    v: Option<Linear>,
    k_norm: RmsNorm,
    kv_heads: i32,
    eps: f32,
}

/// Attention of one layer.
pub(super) struct Attention {
    q: Linear,
    q_norm: RmsNorm,
    output: Linear,
    heads: i32,
    head_dim: i32,
    rope: Rope,
    window: Option<i32>,
    own: Option<Projections>,
    /// The layer whose keys and values are attended to: this one, or an earlier one of its kind.
    source: usize,
}

/// `[batch, length, heads * head_dim]` to `[batch, length, heads, head_dim]`.
fn split(x: &Array, heads: i32, head_dim: i32) -> Result<Array> {
    ops::reshape(x, &[x.dim(0), x.dim(1), heads, head_dim])
}

impl Attention {
    pub fn load(
        config: &Config,
        args: &Args,
        kinds: &[Kind],
        index: usize,
        weights: &mut Weights,
        prefix: &str,
    ) -> Result<Self> {
        let (kind, eps) = (kinds[index], args.rms_norm_eps);
        let Dims { hidden_size: width, num_heads: heads, num_kv_heads, head_dim, .. } = args.dims_of(kind);
        let owners = kinds.len() - args.num_kv_shared_layers as usize;
        let source =
            if index < owners { Some(index) } else { kinds[..owners].iter().rposition(|&k| k == kind) };
        let source = source.ok_or_else(|| {
            config.bad("num_kv_shared_layers", format!("a layer like layer {index} before the shared ones"))
        })?;
        let mut linear = |name: &str, input, output| {
            Linear::load(weights, &format!("{prefix}.{name}_proj"), input, output, false)
        };
        let q = linear("q", width, heads * head_dim)?;
        let output = linear("o", heads * head_dim, width)?;
        let own = if source == index {
            let shared = args.attention_k_eq_v && kind == Kind::FullAttention;
            Some(Projections {
                k: linear("k", width, num_kv_heads * head_dim)?,
                v: if shared { None } else { Some(linear("v", width, num_kv_heads * head_dim)?) },
                k_norm: RmsNorm::load(weights, &format!("{prefix}.k_norm"), head_dim, eps)?,
                kv_heads: num_kv_heads,
                eps,
            })
        } else {
            None
        };
        Ok(Attention {
            q,
            q_norm: RmsNorm::load(weights, &format!("{prefix}.q_norm"), head_dim, eps)?,
            output,
            heads,
            head_dim,
            rope: args.rope(kind)?,
            window: (kind == Kind::SlidingAttention).then_some(args.sliding_window),
            own,
            source,
        })
    }

    /// Adds the new positions of `x` to each sequence's cache.
    fn remember(&self, own: &Projections, x: &Array, batch: &mut Batch) -> Result<Recall> {
        let keys = split(&own.k.forward(x)?, own.kv_heads, self.head_dim)?;
        let values = match &own.v {
            Some(v) => split(&v.forward(x)?, own.kv_heads, self.head_dim)?,
            None => keys.clone(),
        };
        let keys = ops::flatten(&own.k_norm.forward(&keys)?, 2, 3)?;
        let [keys] = self.rope.turn([&keys], self.head_dim, batch.packing())?;
        let values = ops::flatten(&rms_norm(&values, None, own.eps)?, 2, 3)?;
        batch.layer(self.source)?.remember(&keys, &values, own.kv_heads)
    }

    /// `memories` are those of the layers before, to which this adds its own.
    pub fn forward(&self, x: &Array, batch: &mut Batch, memories: &mut Vec<Recall>) -> Result<Array> {
        if let Some(own) = &self.own {
            memories.push(self.remember(own, x, batch)?);
        }
        let memory = memories.get(self.source);
        let memory = memory.ok_or_else(|| Error::Internal("a layer without keys and values".into()))?;
        let q = self.q_norm.forward(&split(&self.q.forward(x)?, self.heads, self.head_dim)?)?;
        let [q] = self.rope.turn([&ops::flatten(&q, 2, 3)?], self.head_dim, batch.packing())?;
        // The norms make up for the usual scale.
        let scores =
            Scores { heads: self.heads, scale: 1.0, window: self.window, softcap: None, sinks: None };
        self.output.forward(&memory.attend(&q, batch.packing(), &scores)?)
    }

    /// Whether the layer has keys and values of its own.
    pub fn is_owner(&self) -> bool {
        self.own.is_some()
    }

    /// An empty cache for an owner.
    pub fn new_cache(&self) -> Option<Cache> {
        self.own.as_ref().map(|_| Cache::attention(self.window))
    }
}
