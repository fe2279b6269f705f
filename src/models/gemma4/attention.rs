//! Gemma 4's attention: values are normed, keys may be values, and late layers look at earlier ones'
//! keys and values.

use super::super::{Config, Dims};
use super::{Args, Kind};
use crate::error::{Error, Result};
use crate::mlx::{Array, ops};
use crate::nn::{Batch, Cache, Linear, Masks, Module, RmsNorm, Rope, Weights, rms_norm};

/// The keys and values that a layer attends to, and the position of its first query, of one sequence.
pub(super) struct KeysAndValues {
    keys: Array,
    values: Array,
    offset: i32,
}

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

/// Exchanges length and heads.
fn heads_first(x: &Array) -> Result<Array> {
    ops::transpose(x, &[0, 2, 1, 3])
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
    fn remember(&self, own: &Projections, x: &Array, batch: &mut Batch) -> Result<Vec<KeysAndValues>> {
        let keys = split(&own.k.forward(x)?, own.kv_heads, self.head_dim)?;
        let values = match &own.v {
            Some(v) => split(&v.forward(x)?, own.kv_heads, self.head_dim)?,
            None => keys.clone(),
        };
        let keys = heads_first(&own.k_norm.forward(&keys)?)?;
        let values = heads_first(&rms_norm(&values, None, own.eps)?)?;
        let new = batch.packing().split(2, [&keys, &values])?;
        let mut memory = batch.layer(self.source)?;
        let caches = memory.caches();
        let update = |([keys, values], cache): ([Array; 2], &mut Cache)| {
            let cache = cache.kv()?;
            let offset = cache.offset();
            let (keys, values) = cache.update(self.rope.forward(&keys, offset)?, values)?;
            Ok(KeysAndValues { keys, values, offset })
        };
        new.into_iter().zip(caches).map(update).collect()
    }

    /// `memories` are those of the layers before, one a sequence, to which this adds its own.
    pub fn forward(
        &self,
        x: &Array,
        batch: &mut Batch,
        memories: &mut Vec<Vec<KeysAndValues>>,
    ) -> Result<Array> {
        if let Some(own) = &self.own {
            memories.push(self.remember(own, x, batch)?);
        }
        let memories = memories.get(self.source);
        let memories = memories.ok_or_else(|| Error::Internal("a layer without keys and values".into()))?;
        let q = self.q_norm.forward(&split(&self.q.forward(x)?, self.heads, self.head_dim)?)?;
        let packing = batch.packing();
        let queries = packing.split(2, [&heads_first(&q)?])?;
        let attend = |(([q], memory), masks): (([Array; 1], &KeysAndValues), &Masks)| {
            let q = self.rope.forward(&q, memory.offset)?;
            // The norms make up for the usual scale.
            ops::attention(&q, &memory.keys, &memory.values, 1.0, masks.of(self.window)?, None)
        };
        let attended = queries.into_iter().zip(memories).zip(packing.masks()).map(attend);
        let attended = packing.join(2, attended.collect::<Result<_>>()?)?;
        self.output.forward(&ops::flatten(&heads_first(&attended)?, 2, 3)?)
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
