//! The pre-norm decoder that Llama made common: RMS norms, grouped-query attention with rotary
//! positions, a gated MLP. Llama, Qwen 2 and Qwen 3 are this with a few switches.

use super::{Dims, Model};
use crate::error::Result;
use crate::mlx::Array;
use crate::mlx::ops;
use crate::nn::{Activation, Attention, AttentionSpec, Embedding, KvCache, Linear, Mlp, Pass, RmsNorm, Rope};
use crate::nn::{RopeScaling, Weights};

/// The switches and sizes.
#[derive(Debug, Clone)]
pub(super) struct DecoderArgs {
    pub dims: Dims,
    pub intermediate_size: i32,
    pub rms_norm_eps: f32,
    pub rope_theta: f32,
    pub rope_traditional: bool,
    pub rope_scaling: Option<RopeScaling>,
    pub tie_word_embeddings: bool,
    pub qkv_bias: bool,
    pub output_bias: bool,
    pub mlp_bias: bool,
    /// Norms on each query and key head.
    pub qk_norm: bool,
}

struct Layer {
    attention_norm: RmsNorm,
    attention: Attention,
    mlp_norm: RmsNorm,
    mlp: Mlp,
}

impl Layer {
    fn load(args: &DecoderArgs, rope: Rope, weights: &mut Weights, prefix: &str) -> Result<Self> {
        let Dims { hidden_size: width, num_heads: heads, num_kv_heads: kv_heads, head_dim, .. } = args.dims;
        let spec = AttentionSpec {
            width,
            heads,
            kv_heads,
            head_dim,
            qkv_bias: args.qkv_bias,
            output_bias: args.output_bias,
            scale: (head_dim as f32).powf(-0.5),
        };
        let mut norm =
            |name: &str, width| RmsNorm::load(weights, &format!("{prefix}.{name}"), width, args.rms_norm_eps);
        let attention_norm = norm("input_layernorm", width)?;
        let mlp_norm = norm("post_attention_layernorm", width)?;
        let head_norms = if args.qk_norm {
            Some((norm("self_attn.q_norm", head_dim)?, norm("self_attn.k_norm", head_dim)?))
        } else {
            None
        };
        let mut attention = Attention::load(weights, &format!("{prefix}.self_attn"), spec, rope)?;
        if let Some((q, k)) = head_norms {
            attention = attention.with_norms(q, k);
        }
        let mlp = Mlp::load(
            weights,
            &format!("{prefix}.mlp"),
            width,
            args.intermediate_size,
            args.mlp_bias,
            Activation::Silu,
        )?;
        Ok(Layer { attention_norm, attention, mlp_norm, mlp })
    }

    fn forward(&self, x: &Array, mask: &ops::Mask, cache: &mut KvCache) -> Result<Array> {
        let h = ops::add(x, &self.attention.forward(&self.attention_norm.forward(x)?, mask, cache)?)?;
        ops::add(&h, &self.mlp.forward(&self.mlp_norm.forward(&h)?)?)
    }
}

/// The whole model.
pub(super) struct Decoder {
    dims: Dims,
    embedding: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    /// `None`: the embedding serves as the output layer.
    head: Option<Linear>,
}

impl Decoder {
    pub fn load(args: DecoderArgs, weights: &mut Weights) -> Result<Self> {
        let Dims { hidden_size: width, vocab_size, head_dim, num_layers, .. } = args.dims;
        let rope = Rope::new(head_dim, args.rope_theta, args.rope_traditional, args.rope_scaling.as_ref())?;
        let embedding = Embedding::load(weights, "model.embed_tokens", vocab_size, width)?;
        let layers = (0..num_layers)
            .map(|i| Layer::load(&args, rope.clone(), weights, &format!("model.layers.{i}")))
            .collect::<Result<_>>()?;
        let norm = RmsNorm::load(weights, "model.norm", width, args.rms_norm_eps)?;
        let head = match args.tie_word_embeddings {
            true => None,
            false => Some(Linear::load(weights, "lm_head", width, vocab_size, false)?),
        };
        Ok(Decoder { dims: args.dims, embedding, layers, norm, head })
    }
}

impl Model for Decoder {
    fn forward(&self, ids: &Array, caches: &mut [KvCache], pass: &Pass) -> Result<Array> {
        let mut h = self.embedding.forward(ids)?;
        let mask = caches[0].mask(ids.dim(1))?;
        for (layer, cache) in self.layers.iter().zip(caches) {
            h = layer.forward(&h, &mask, cache)?;
            pass.layer_done(&h)?;
        }
        self.norm.forward(&h)
    }

    fn logits(&self, hidden: &Array) -> Result<Array> {
        match &self.head {
            Some(head) => head.forward(hidden),
            None => self.embedding.logits(hidden),
        }
    }

    fn new_caches(&self) -> Vec<KvCache> {
        self.layers.iter().map(|_| KvCache::full()).collect()
    }

    fn dims(&self) -> Dims {
        self.dims
    }
}
