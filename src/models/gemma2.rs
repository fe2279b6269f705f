//! Gemma 2 (Gemma Team 2024): norms before and after each part, stored as `weight - 1`; scores and
//! logits soft-capped; embeddings scaled by the root of their width. The published models let every
//! other layer see the last 4096 positions only. Like mlx-lm, this lets all layers see all, which is
//! the same up to that length.

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
    num_key_value_heads: i32,
    head_dim: i32,
    rms_norm_eps: f32,
    vocab_size: i32,
    rope_theta: Option<f32>,
    #[serde(default)]
    rope_traditional: bool,
    #[serde(default = "fifty")]
    attn_logit_softcapping: f32,
    #[serde(default = "thirty")]
    final_logit_softcapping: f32,
    query_pre_attn_scalar: Option<f32>,
    max_position_embeddings: Option<i32>,
}

fn fifty() -> f32 {
    50.0
}

fn thirty() -> f32 {
    30.0
}

/// Loads a `gemma2` checkpoint.
pub(super) fn load(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    let args: Args = config.args()?;
    let dims = Dims {
        vocab_size: args.vocab_size,
        num_layers: args.num_hidden_layers,
        hidden_size: args.hidden_size,
        num_heads: args.num_attention_heads,
        num_kv_heads: args.num_key_value_heads,
        head_dim: args.head_dim,
        context_length: args.max_position_embeddings.unwrap_or(8192),
    };
    config.check_dims(&dims, args.intermediate_size)?;
    let theta = config.rope(args.rope_theta, None)?.0.unwrap_or(10_000.0);
    let rope = Rope::new(dims.head_dim, theta, args.rope_traditional, None, dims.context_length)?;
    let spec = AttentionSpec {
        scale: args.query_pre_attn_scalar.unwrap_or(144.0).powf(-0.5),
        softcap: Some(args.attn_logit_softcapping),
        ..dims.attention(Some(rope))
    };
    let (width, eps) = (dims.hidden_size, args.rms_norm_eps);
    let norm = RmsNorm::load_offset(weights, "model.norm", width, eps)?;
    let mut decoder = Decoder::load(weights, dims, true, norm, |weights, _, prefix| {
        let name = format!("{prefix}.mlp");
        let mlp = Mlp::load(weights, &name, width, args.intermediate_size, false, Activation::GeluTanh)?;
        Sandwich::load(weights, prefix, SandwichNorms::gemma(eps), spec.clone(), mlp)
    })?;
    decoder.embedding_scale = (width as f32).sqrt();
    decoder.logit_softcap = Some(args.final_logit_softcapping);
    Ok(Box::new(decoder))
}
