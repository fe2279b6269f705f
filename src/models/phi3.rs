//! Phi 3 and Phi 4 (Abdin et al. 2024): Llama with q, k and v in one matrix, gate and up in another,
//! and LongRoPE, which may turn a part of each head only.

use super::parts::decoder::Decoder;
use super::parts::pre_norm::PreNorm;
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
    num_key_value_heads: Option<i32>,
    rms_norm_eps: f32,
    vocab_size: i32,
    rope_theta: Option<f32>,
    #[serde(default)]
    rope_traditional: bool,
    rope_scaling: Option<RopeScaling>,
    partial_rotary_factor: Option<f32>,
    max_position_embeddings: Option<i32>,
    original_max_position_embeddings: Option<f32>,
    #[serde(default)]
    tie_word_embeddings: bool,
}

/// Loads a `phi3` checkpoint.
pub(super) fn load(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    let args: Args = config.args()?;
    let dims = Dims {
        vocab_size: args.vocab_size,
        num_layers: args.num_hidden_layers,
        hidden_size: args.hidden_size,
        num_heads: args.num_attention_heads,
        num_kv_heads: args.num_key_value_heads.unwrap_or(args.num_attention_heads),
        head_dim: args.hidden_size / args.num_attention_heads.max(1),
        context_length: args.max_position_embeddings.unwrap_or(131_072),
    };
    config.check_dims(&dims, args.intermediate_size)?;
    let spec = AttentionSpec { fused_qkv: true, ..dims.attention(Some(rope(config, &args, &dims)?)) };
    let (width, eps) = (dims.hidden_size, args.rms_norm_eps);
    let norm = RmsNorm::load(weights, "model.norm", width, eps)?;
    let decoder = Decoder::load(weights, dims, args.tie_word_embeddings, norm, |weights, _, prefix| {
        let name = format!("{prefix}.mlp");
        let mlp = Mlp::load_fused(weights, &name, width, args.intermediate_size, Activation::Silu)?;
        PreNorm::load(weights, prefix, spec.clone(), eps, mlp)
    })?;
    Ok(Box::new(decoder))
}

fn rope(config: &Config, args: &Args, dims: &Dims) -> Result<Rope> {
    let (theta, mut scaling) = config.rope(args.rope_theta, args.rope_scaling.clone())?;
    let part = args.partial_rotary_factor.or(scaling.as_ref().and_then(|s| s.partial_rotary_factor));
    let turning = (dims.head_dim as f32 * part.unwrap_or(1.0)) as i32;
    if turning % 2 != 0 || !(2..=dims.head_dim).contains(&turning) {
        let expected = format!("a factor that makes an even number of {}, at most 1", dims.head_dim);
        return Err(config.bad("partial_rotary_factor", expected));
    }
    // Of other kinds than longrope and linear mlx-lm warns and drops them; here they hold as config.json
    // has them. Phi keeps the original context beside the scaling.
    if let Some(scaling) = &mut scaling {
        let nested = scaling.original_max_position_embeddings;
        scaling.original_max_position_embeddings =
            args.original_max_position_embeddings.or(nested).or(Some(4096.0));
    }
    let theta = theta.unwrap_or(10_000.0);
    Rope::new(turning, theta, args.rope_traditional, scaling.as_ref(), dims.context_length)
}
