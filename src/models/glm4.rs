//! GLM-4 of April 2025 (GLM Team, Zeng et al. 2024): norms before and after each part, rotary positions
//! on a part of each head, gate and up projection in one matrix.

use super::parts::decoder::Decoder;
use super::parts::sandwich::{Sandwich, SandwichNorms};
use super::{Config, Dims, Model};
use crate::error::Result;
use crate::nn::{Activation, AttentionSpec, Mlp, RmsNorm, Rope, Weights};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Args {
    hidden_size: i32,
    num_hidden_layers: i32,
    intermediate_size: i32,
    num_attention_heads: i32,
    attention_bias: bool,
    head_dim: i32,
    rms_norm_eps: f32,
    vocab_size: i32,
    num_key_value_heads: i32,
    partial_rotary_factor: Option<f32>,
    rope_theta: Option<f32>,
    rope_traditional: Option<bool>,
    max_position_embeddings: Option<i32>,
}

/// Loads a `glm4` checkpoint.
pub(super) fn load(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    let args: Args = config.args()?;
    let dims = Dims {
        vocab_size: args.vocab_size,
        num_layers: args.num_hidden_layers,
        hidden_size: args.hidden_size,
        num_heads: args.num_attention_heads,
        num_kv_heads: args.num_key_value_heads,
        head_dim: args.head_dim,
        context_length: args.max_position_embeddings.unwrap_or(32_768),
    };
    config.check_dims(&dims, args.intermediate_size)?;
    let (theta, parameters) = config.rope(args.rope_theta, None)?;
    let theta = theta.ok_or_else(|| config.bad("rope_theta", "a number"))?;
    let part = args.partial_rotary_factor.or(parameters.and_then(|p| p.partial_rotary_factor));
    let turning = part.map(|part| (dims.head_dim as f32 * part) as i32);
    let turning = turning
        .filter(|dims| (2..=args.head_dim).contains(dims) && dims % 2 == 0)
        .ok_or_else(|| config.bad("partial_rotary_factor", "a part of `head_dim` that is an even number"))?;
    let rope = Rope::new(turning, theta, args.rope_traditional.unwrap_or(true), None, dims.context_length)?;
    let spec = AttentionSpec { qkv_bias: args.attention_bias, ..dims.attention(Some(rope)) };
    let (width, eps) = (dims.hidden_size, args.rms_norm_eps);
    let norms = SandwichNorms {
        names: [
            "input_layernorm",
            "post_self_attn_layernorm",
            "post_attention_layernorm",
            "post_mlp_layernorm",
        ],
        offset: false,
        eps,
    };
    let norm = RmsNorm::load(weights, "model.norm", width, eps)?;
    let decoder = Decoder::load(weights, dims, false, norm, |weights, _, prefix| {
        let name = format!("{prefix}.mlp");
        let mlp = Mlp::load_fused(weights, &name, width, args.intermediate_size, Activation::Silu)?;
        Sandwich::load(weights, prefix, norms, spec.clone(), mlp)
    })?;
    Ok(Box::new(decoder))
}
