//! Gemma 3, the text part (Gemma Team 2025): local layers with a sliding window and a small rotary
//! base, every `sliding_window_pattern`th layer global; norms before and after each block, stored
//! as `weight - 1`; embeddings scaled by the root of their width.

use super::{Config, Dims, Model};
use crate::error::Result;
use crate::mlx::ops::{self, Mask};
use crate::mlx::{Array, Dtype};
use crate::nn::{Activation, Attention, AttentionSpec, Embedding, KvCache, Linear, Mlp, Pass, RmsNorm, Rope};
use crate::nn::{RopeScaling, Weights};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Args {
    hidden_size: i32,
    num_hidden_layers: i32,
    intermediate_size: i32,
    num_attention_heads: i32,
    num_key_value_heads: i32,
    head_dim: i32,
    rms_norm_eps: f32,
    vocab_size: i32,
    rope_theta: f32,
    rope_local_base_freq: f32,
    rope_scaling: Option<RopeScaling>,
    query_pre_attn_scalar: f32,
    sliding_window: i32,
    sliding_window_pattern: i32,
    max_position_embeddings: i32,
}

impl Default for Args {
    /// Gemma 3 1B: published configs leave out what equals it.
    fn default() -> Self {
        Args {
            hidden_size: 1152,
            num_hidden_layers: 26,
            intermediate_size: 6912,
            num_attention_heads: 4,
            num_key_value_heads: 1,
            head_dim: 256,
            rms_norm_eps: 1e-6,
            vocab_size: 262_144,
            rope_theta: 1_000_000.0,
            rope_local_base_freq: 10_000.0,
            rope_scaling: None,
            query_pre_attn_scalar: 256.0,
            sliding_window: 512,
            sliding_window_pattern: 6,
            max_position_embeddings: 32_768,
        }
    }
}

impl Args {
    fn is_global(&self, layer: i32) -> bool {
        (layer + 1) % self.sliding_window_pattern == 0
    }
}

struct Layer {
    attention_norm: RmsNorm,
    attention: Attention,
    after_attention_norm: RmsNorm,
    mlp_norm: RmsNorm,
    mlp: Mlp,
    after_mlp_norm: RmsNorm,
}

impl Layer {
    fn load(args: &Args, index: i32, weights: &mut Weights) -> Result<Self> {
        let prefix = format!("model.layers.{index}");
        let rope = if args.is_global(index) {
            Rope::new(args.head_dim, args.rope_theta, false, args.rope_scaling.as_ref())?
        } else {
            Rope::new(args.head_dim, args.rope_local_base_freq, false, None)?
        };
        let spec = AttentionSpec {
            width: args.hidden_size,
            heads: args.num_attention_heads,
            kv_heads: args.num_key_value_heads,
            head_dim: args.head_dim,
            qkv_bias: false,
            output_bias: false,
            scale: args.query_pre_attn_scalar.powf(-0.5),
        };
        let mut norm = |name: &str, width| {
            RmsNorm::load_offset(weights, &format!("{prefix}.{name}"), width, args.rms_norm_eps)
        };
        let width = args.hidden_size;
        let attention_norm = norm("input_layernorm", width)?;
        let after_attention_norm = norm("post_attention_layernorm", width)?;
        let mlp_norm = norm("pre_feedforward_layernorm", width)?;
        let after_mlp_norm = norm("post_feedforward_layernorm", width)?;
        let q_norm = norm("self_attn.q_norm", args.head_dim)?;
        let k_norm = norm("self_attn.k_norm", args.head_dim)?;
        let attention =
            Attention::load(weights, &format!("{prefix}.self_attn"), spec, rope)?.with_norms(q_norm, k_norm);
        let mlp = Mlp::load(
            weights,
            &format!("{prefix}.mlp"),
            width,
            args.intermediate_size,
            false,
            Activation::GeluTanh,
        )?;
        Ok(Layer { attention_norm, attention, after_attention_norm, mlp_norm, mlp, after_mlp_norm })
    }

    fn forward(&self, x: &Array, mask: &Mask, cache: &mut KvCache) -> Result<Array> {
        let attended = self.attention.forward(&self.attention_norm.forward(x)?, mask, cache)?;
        let h = add_clipped(x, &self.after_attention_norm.forward(&attended)?)?;
        let mapped = self.mlp.forward(&self.mlp_norm.forward(&h)?)?;
        add_clipped(&h, &self.after_mlp_norm.forward(&mapped)?)
    }
}

/// The residual sum. Gemma's stream leaves float16's range, so there it is clipped.
fn add_clipped(x: &Array, y: &Array) -> Result<Array> {
    if x.dtype() != Dtype::F16 {
        return ops::add(x, y);
    }
    let sum = ops::add(&ops::astype(x, Dtype::F32)?, &ops::astype(y, Dtype::F32)?)?;
    let bound = 65_504.0;
    let clipped = ops::clip(&sum, &Array::scalar(-bound)?, &Array::scalar(bound)?)?;
    ops::astype(&clipped, Dtype::F16)
}

struct Gemma3 {
    args: Args,
    embedding: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    /// `None`: the embedding serves as the output layer.
    head: Option<Linear>,
}

/// Loads a `gemma3_text` checkpoint.
pub(super) fn load(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    let args: Args = config.args()?;
    config.check_sizes(&[
        ("sliding_window", args.sliding_window),
        ("sliding_window_pattern", args.sliding_window_pattern),
    ])?;
    let (width, vocabulary) = (args.hidden_size, args.vocab_size);
    config.check_dims(&dims(&args), args.intermediate_size)?;
    let embedding = Embedding::load(weights, "model.embed_tokens", vocabulary, width)?;
    let layers =
        (0..args.num_hidden_layers).map(|i| Layer::load(&args, i, weights)).collect::<Result<_>>()?;
    let norm = RmsNorm::load_offset(weights, "model.norm", width, args.rms_norm_eps)?;
    let head = match weights.has("lm_head.weight") {
        true => Some(Linear::load(weights, "lm_head", width, vocabulary, false)?),
        false => None,
    };
    Ok(Box::new(Gemma3 { args, embedding, layers, norm, head }))
}

/// Loads the text part of a multimodal `gemma3` checkpoint.
pub(super) fn load_multimodal(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    let mut text = config.nested("text_config")?;
    // These stand outside text_config or are left out where they equal the 4B model's.
    let vocabulary = config.get("vocab_size").cloned().unwrap_or(262_208.into());
    text = text.with("vocab_size", vocabulary);
    for (key, default) in [("num_attention_heads", 8), ("num_key_value_heads", 4)] {
        if text.get(key).is_none() {
            text = text.with(key, default.into());
        }
    }
    weights.set_prefix("language_model.");
    load(&text, weights)
}

fn dims(args: &Args) -> Dims {
    Dims {
        vocab_size: args.vocab_size,
        num_layers: args.num_hidden_layers,
        hidden_size: args.hidden_size,
        num_heads: args.num_attention_heads,
        num_kv_heads: args.num_key_value_heads,
        head_dim: args.head_dim,
        context_length: args.max_position_embeddings,
    }
}

impl Model for Gemma3 {
    fn forward(&self, ids: &Array, caches: &mut [KvCache], pass: &Pass) -> Result<Array> {
        let mut h = self.embedding.forward(ids)?;
        // Gemma was trained with the factor rounded to bfloat16.
        let factor = Array::scalar((self.args.hidden_size as f32).sqrt())?;
        let factor = ops::astype(&ops::astype(&factor, Dtype::BF16)?, h.dtype())?;
        h = ops::multiply(&h, &factor)?;

        let length = ids.dim(1);
        let local_mask = KvCache::mask_of(caches, length, |i| !self.args.is_global(i))?;
        let global_mask = KvCache::mask_of(caches, length, |i| self.args.is_global(i))?;
        for (index, (layer, cache)) in (0..).zip(self.layers.iter().zip(caches)) {
            let mask = if self.args.is_global(index) { &global_mask } else { &local_mask };
            h = layer.forward(&h, mask, cache)?;
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
        let cache = |layer| match self.args.is_global(layer) {
            true => KvCache::full(),
            false => KvCache::sliding(self.args.sliding_window),
        };
        (0..self.args.num_hidden_layers).map(cache).collect()
    }

    fn dims(&self) -> Dims {
        dims(&self.args)
    }
}
