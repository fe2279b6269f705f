//! OLMo 2 (OLMo Team 2025): norms behind each block instead of before, and over all queries and keys
//! of a position together.

use super::decoder::Decoder;
use super::post_norm::PostNorm;
use super::{Config, Dims, Model};
use crate::error::Result;
use crate::nn::{Activation, AttentionSpec, Mlp, QkNorms, RmsNorm, Rope, RopeScaling, Weights};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Args {
    hidden_size: i32,
    num_hidden_layers: i32,
    intermediate_size: i32,
    num_attention_heads: i32,
    num_key_value_heads: Option<i32>,
    head_dim: Option<i32>,
    rms_norm_eps: f32,
    vocab_size: i32,
    max_position_embeddings: Option<i32>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    rope_theta: Option<f32>,
    #[serde(default)]
    rope_traditional: bool,
    rope_scaling: Option<RopeScaling>,
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
}

fn yes() -> bool {
    true
}

/// Loads an `olmo2` checkpoint.
pub(super) fn load(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    let args: Args = config.args()?;
    let (rope_theta, rope_scaling) = config.rope(args.rope_theta, args.rope_scaling)?;
    let dims = Dims {
        vocab_size: args.vocab_size,
        num_layers: args.num_hidden_layers,
        hidden_size: args.hidden_size,
        num_heads: args.num_attention_heads,
        num_kv_heads: args.num_key_value_heads.unwrap_or(args.num_attention_heads),
        head_dim: args.head_dim.unwrap_or(args.hidden_size / args.num_attention_heads.max(1)),
        context_length: args.max_position_embeddings.unwrap_or(2048),
    };
    config.check_dims(&dims, args.intermediate_size)?;
    let theta = rope_theta.unwrap_or(10_000.0);
    let rope =
        Rope::new(dims.head_dim, theta, args.rope_traditional, rope_scaling.as_ref(), dims.context_length)?;
    let (width, eps) = (dims.hidden_size, args.rms_norm_eps);
    let spec = AttentionSpec {
        qkv_bias: args.attention_bias,
        output_bias: args.attention_bias,
        norms: QkNorms::Whole(eps),
        ..dims.attention(Some(rope))
    };
    let norm = RmsNorm::load(weights, "model.norm", width, eps)?;
    let decoder = Decoder::load(weights, dims, args.tie_word_embeddings, norm, |weights, _, prefix| {
        let name = format!("{prefix}.mlp");
        let mlp = Mlp::load(weights, &name, width, args.intermediate_size, args.mlp_bias, Activation::Silu)?;
        PostNorm::load(weights, prefix, spec.clone(), eps, mlp)
    })?;
    Ok(Box::new(decoder))
}
