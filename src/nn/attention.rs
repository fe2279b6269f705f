//! Grouped-query attention (Ainslie et al. 2023) with rotary positions and a cache.

use super::{Cache, Linear, Memory, Module, Packing, Recall, RmsNorm, Rope, Scores, Weights};
use crate::error::Result;
use crate::kernels::Source;
use crate::mlx::{Array, Dtype, ops};

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
    /// Scores stay between plus and minus this, by tanh.
    pub softcap: Option<f32>,
    /// Whether a float16 model attends in float32.
    pub widen_f16: bool,
    /// Whether the checkpoint holds q, k and v in one matrix.
    pub fused_qkv: bool,
    /// A factor on queries after the rotation.
    pub query_gain: Option<QueryGain>,
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
            softcap: None,
            widen_f16: false,
            fused_qkv: false,
            query_gain: None,
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

/// A factor on queries that grows with their position, so that attention stays sharp in long contexts:
/// `1 + strength * ln(1 + floor(position / context))` (Llama 4, Meta AI 2025).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueryGain {
    /// How fast it grows.
    pub strength: f32,
    /// The positions before it does.
    pub context: f32,
}

impl QueryGain {
    /// `q` `[1, tokens, heads * head_dim]`.
    fn apply(self, q: Array, packing: &Packing) -> Result<Array> {
        let sequences = packing.offsets().iter().zip(packing.lengths());
        let positions: Vec<i32> = sequences.flat_map(|(&offset, &length)| offset..offset + length).collect();
        if positions.iter().all(|&position| (position as f32) < self.context) {
            return Ok(q);
        }
        let gain = |&position: &i32| 1.0 + self.strength * (position as f32 / self.context).floor().ln_1p();
        let gains: Vec<f32> = positions.iter().map(gain).collect();
        let gains = Array::from_f32(&gains, &[1, q.dim(1), 1])?;
        ops::multiply(&q, &ops::astype(&gains, q.dtype())?)
    }
}

/// The maps to queries, keys and values.
#[derive(Debug)]
enum Qkv {
    Separate([Linear; 3]),
    Fused(Linear),
}

/// An attention block.
#[derive(Debug)]
pub struct Attention {
    spec: AttentionSpec,
    qkv: Qkv,
    output: Linear,
    norms: Option<(RmsNorm, RmsNorm)>,
    sinks: Option<Array>,
}

impl Attention {
    /// Takes `<prefix>.{q,k,v,o}_proj` (or `.qkv_proj` for the first three), `.{q,k}_norm` and `.sinks`, as
    /// the spec says.
    pub fn load(weights: &mut Weights, prefix: &str, spec: AttentionSpec) -> Result<Self> {
        let AttentionSpec { width, heads, kv_heads, head_dim, qkv_bias, output_bias, .. } = spec;
        let mut linear = |name: &str, input, output, bias| {
            Linear::load(weights, &format!("{prefix}.{name}_proj"), input, output, bias)
        };
        let qkv = if spec.fused_qkv {
            Qkv::Fused(linear("qkv", width, (heads + 2 * kv_heads) * head_dim, qkv_bias)?)
        } else {
            Qkv::Separate([
                linear("q", width, heads * head_dim * if spec.output_gate { 2 } else { 1 }, qkv_bias)?,
                linear("k", width, kv_heads * head_dim, qkv_bias)?,
                linear("v", width, kv_heads * head_dim, qkv_bias)?,
            ])
        };
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
        Ok(Attention { spec, qkv, output, norms, sinks })
    }

    /// An empty cache for this block.
    pub fn new_cache(&self) -> Cache {
        Cache::attention(self.spec.window)
    }

    /// Attends from the new positions of `x` to those in its sequence's cache and to each other, and adds
    /// the new ones to the cache.
    pub fn forward(&self, x: &Array, memory: &mut Memory) -> Result<Array> {
        self.run(Source::Plain(x), memory, None)
    }

    /// `x + forward(norm(x))`.
    pub fn forward_residual(&self, x: &Array, norm: &RmsNorm, memory: &mut Memory) -> Result<Array> {
        self.run(norm.of(x), memory, Some(x))
    }

    fn run(&self, x: Source, memory: &mut Memory, onto: Option<&Array>) -> Result<Array> {
        let AttentionSpec { heads, kv_heads, head_dim, .. } = self.spec;
        let split = |y: &Array| ops::reshape(y, &[1, y.dim(1), y.dim(2) / head_dim, head_dim]);
        let join = |y: &Array| ops::flatten(y, 2, 3);

        let (mut q, mut k, v) = self.project(x)?;
        if let (Some((q_norm, k_norm)), QkNorms::Whole(_)) = (&self.norms, self.spec.norms) {
            (q, k) = (q_norm.forward(&q)?, k_norm.forward(&k)?);
        }
        let mut gate = None;
        if self.spec.output_gate {
            let both = ops::reshape(&q, &[1, q.dim(1), heads, 2 * head_dim])?;
            q = join(&ops::slice(&both, 3, 0, head_dim)?)?;
            gate = Some(join(&ops::slice(&both, 3, head_dim, 2 * head_dim)?)?);
        }
        if let (Some((q_norm, k_norm)), QkNorms::PerHead(_) | QkNorms::PerHeadOffset(_)) =
            (&self.norms, self.spec.norms)
        {
            (q, k) = (join(&q_norm.forward(&split(&q)?)?)?, join(&k_norm.forward(&split(&k)?)?)?);
        }
        if let Some(rope) = &self.spec.rope {
            [q, k] = rope.turn([&q, &k], head_dim, memory.packing())?;
        }
        if let Some(gain) = self.spec.query_gain {
            q = gain.apply(q, memory.packing())?;
        }
        let recall = memory.remember(&k, &v, kv_heads)?;
        let mut attended = self.attend(q, &recall, memory)?;
        if let Some(gate) = gate {
            attended = ops::multiply(&attended, &ops::sigmoid(&gate)?)?;
        }
        self.output.forward_onto(Source::Plain(&attended), onto)
    }

    /// What the new queries read, both `[1, tokens, heads * head_dim]`.
    fn attend(&self, mut q: Array, recall: &Recall, memory: &Memory) -> Result<Array> {
        let AttentionSpec { heads, scale, window, softcap, .. } = self.spec;
        let dtype = q.dtype();
        let widen = self.spec.widen_f16 && dtype == Dtype::F16;
        if widen {
            q = ops::astype(&q, Dtype::F32)?;
        }
        let scores = Scores { heads, scale, window, softcap, sinks: self.sinks.as_ref() };
        let attended = recall.attend(&q, memory.packing(), &scores)?;
        if widen { ops::astype(&attended, dtype) } else { Ok(attended) }
    }

    /// Queries, keys and values, the heads side by side.
    fn project(&self, x: Source) -> Result<(Array, Array, Array)> {
        match &self.qkv {
            Qkv::Separate([q, k, v]) => Linear::forward_all([q, k, v], x).map(|[q, k, v]| (q, k, v)),
            Qkv::Fused(qkv) => {
                let AttentionSpec { heads, kv_heads, head_dim, .. } = self.spec;
                let (keys, values) = (heads * head_dim, (heads + kv_heads) * head_dim);
                let [qkv] = Linear::forward_all([qkv], x)?;
                let part = |start, end| ops::slice(&qkv, 2, start, end);
                Ok((part(0, keys)?, part(keys, values)?, part(values, qkv.dim(-1))?))
            }
        }
    }
}
