//! Command R7B and Command A (Cohere 2024, 2025): attention and feed-forward part side by side behind
//! one layer norm; three layers with a sliding window and rotary positions, then one that sees
//! everything and has no positions; tied, scaled logits.

use super::parts::decoder::{Block, Decoder};
use super::{Config, Dims, Model};
use crate::error::Result;
use crate::mlx::Array;
use crate::nn::{
    Activation, Attention, AttentionSpec, Cache, LayerNorm, Memory, Mlp, Module, Rope, Weights, add,
};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Args {
    hidden_size: i32,
    head_dim: i32,
    num_hidden_layers: i32,
    intermediate_size: i32,
    num_attention_heads: i32,
    num_key_value_heads: i32,
    rope_theta: Option<f32>,
    vocab_size: i32,
    layer_norm_eps: f32,
    logit_scale: f32,
    attention_bias: bool,
    layer_norm_bias: bool,
    sliding_window: i32,
    sliding_window_pattern: i32,
    max_position_embeddings: i32,
}

impl Default for Args {
    /// Command R7B.
    fn default() -> Self {
        Args {
            hidden_size: 4096,
            head_dim: 128,
            num_hidden_layers: 32,
            intermediate_size: 14_336,
            num_attention_heads: 32,
            num_key_value_heads: 8,
            rope_theta: None,
            vocab_size: 256_000,
            layer_norm_eps: 1e-5,
            logit_scale: 0.0625,
            attention_bias: false,
            layer_norm_bias: false,
            sliding_window: 4096,
            sliding_window_pattern: 4,
            max_position_embeddings: 8192,
        }
    }
}

struct Layer {
    norm: LayerNorm,
    attention: Attention,
    mlp: Mlp,
}

impl Block for Layer {
    fn forward(&self, x: &Array, memory: &mut Memory) -> Result<Array> {
        let h = self.norm.forward(x)?;
        let attended = self.attention.forward(&h, memory)?;
        add(&add(&attended, &self.mlp.forward(&h)?)?, x)
    }

    fn new_cache(&self) -> Cache {
        self.attention.new_cache()
    }
}

/// Loads a `cohere2` checkpoint.
pub(super) fn load(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    let args: Args = config.args()?;
    let dims = Dims {
        vocab_size: args.vocab_size,
        num_layers: args.num_hidden_layers,
        hidden_size: args.hidden_size,
        num_heads: args.num_attention_heads,
        num_kv_heads: args.num_key_value_heads,
        head_dim: args.head_dim,
        context_length: args.max_position_embeddings,
    };
    config.check_dims(&dims, args.intermediate_size)?;
    config.check_sizes(&[
        ("sliding_window", args.sliding_window),
        ("sliding_window_pattern", args.sliding_window_pattern),
    ])?;
    let theta = config.rope(args.rope_theta, None)?.0.unwrap_or(50_000.0);
    let rope = Rope::new(dims.head_dim, theta, true, None, dims.context_length)?;
    let full = AttentionSpec {
        qkv_bias: args.attention_bias,
        output_bias: args.attention_bias,
        widen_f16: true,
        ..dims.attention(None)
    };
    let sliding = AttentionSpec { rope: Some(rope), window: Some(args.sliding_window), ..full.clone() };

    let (width, hidden) = (args.hidden_size, args.intermediate_size);
    let layer_norm = |weights: &mut Weights, name: &str| {
        LayerNorm::load(weights, name, width, args.layer_norm_eps, args.layer_norm_bias)
    };
    let norm = layer_norm(weights, "model.norm")?;
    let mut decoder = Decoder::load(weights, dims, true, norm, |weights, index, prefix| {
        let spec = if (index + 1) % args.sliding_window_pattern == 0 { &full } else { &sliding };
        Ok(Layer {
            norm: layer_norm(weights, &format!("{prefix}.input_layernorm"))?,
            attention: Attention::load(weights, &format!("{prefix}.self_attn"), spec.clone())?,
            mlp: Mlp::load(weights, &format!("{prefix}.mlp"), width, hidden, false, Activation::Silu)?,
        })
    })?;
    decoder.logit_scale = args.logit_scale;
    Ok(Box::new(decoder))
}
