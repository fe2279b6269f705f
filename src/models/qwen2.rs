//! Qwen 2 and 2.5 (Yang et al. 2024), and the DeepSeek R1 distills made from them.

use super::decoder::Decoder;
use super::pre_norm::PreNorm;
use super::{Config, Dims, Model};
use crate::error::Result;
use crate::nn::{Activation, AttentionSpec, Mlp, RmsNorm, Rope, RopeScaling, Weights};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Args {
    hidden_size: i32,
    num_hidden_layers: i32,
    intermediate_size: i32,
    num_attention_heads: i32,
    num_key_value_heads: i32,
    rms_norm_eps: f32,
    vocab_size: i32,
    #[serde(default = "default_context")]
    max_position_embeddings: i32,
    rope_theta: Option<f32>,
    #[serde(default)]
    rope_traditional: bool,
    rope_scaling: Option<RopeScaling>,
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
}

fn default_context() -> i32 {
    32_768
}

fn yes() -> bool {
    true
}

/// Loads a `qwen2` checkpoint.
pub(super) fn load(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    let args: Args = config.args()?;
    let (rope_theta, rope_scaling) = config.rope(args.rope_theta, args.rope_scaling)?;
    let dims = Dims {
        vocab_size: args.vocab_size,
        num_layers: args.num_hidden_layers,
        hidden_size: args.hidden_size,
        num_heads: args.num_attention_heads,
        num_kv_heads: args.num_key_value_heads,
        head_dim: args.hidden_size / args.num_attention_heads.max(1),
        context_length: args.max_position_embeddings,
    };
    config.check_dims(&dims, args.intermediate_size)?;
    let theta = rope_theta.unwrap_or(1_000_000.0);
    let rope =
        Rope::new(dims.head_dim, theta, args.rope_traditional, rope_scaling.as_ref(), dims.context_length)?;
    let spec = AttentionSpec { qkv_bias: true, ..dims.attention(Some(rope)) };
    let (width, eps) = (dims.hidden_size, args.rms_norm_eps);
    let norm = RmsNorm::load(weights, "model.norm", width, eps)?;
    let decoder = Decoder::load(weights, dims, args.tie_word_embeddings, norm, |weights, _, prefix| {
        let name = format!("{prefix}.mlp");
        let mlp = Mlp::load(weights, &name, width, args.intermediate_size, false, Activation::Silu)?;
        PreNorm::load(weights, prefix, spec.clone(), eps, mlp)
    })?;
    Ok(Box::new(decoder))
}
