//! Qwen 3 (Yang et al. 2025): no biases, norms on every query and key head.

use super::decoder::Decoder;
use super::pre_norm::PreNorm;
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
    num_key_value_heads: i32,
    head_dim: i32,
    rms_norm_eps: f32,
    vocab_size: i32,
    max_position_embeddings: i32,
    rope_theta: Option<f32>,
    rope_scaling: Option<RopeScaling>,
    tie_word_embeddings: bool,
}

/// Loads a `qwen3` checkpoint.
pub(super) fn load(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    let args: Args = config.args()?;
    let (rope_theta, rope_scaling) = config.rope(args.rope_theta, args.rope_scaling)?;
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
    let theta = rope_theta.ok_or_else(|| config.bad("rope_theta", "a number"))?;
    let rope = Rope::new(dims.head_dim, theta, false, rope_scaling.as_ref(), dims.context_length)?;
    let (width, eps) = (dims.hidden_size, args.rms_norm_eps);
    let spec = AttentionSpec { norms: QkNorms::PerHead(eps), ..dims.attention(Some(rope)) };
    let norm = RmsNorm::load(weights, "model.norm", width, eps)?;
    let decoder = Decoder::load(weights, dims, args.tie_word_embeddings, norm, |weights, _, prefix| {
        let name = format!("{prefix}.mlp");
        let mlp = Mlp::load(weights, &name, width, args.intermediate_size, false, Activation::Silu)?;
        PreNorm::load(weights, prefix, spec.clone(), eps, mlp)
    })?;
    Ok(Box::new(decoder))
}
