//! Granite 3 (IBM 2024): Llama with a factor on embeddings, scores, residual branches and logits
//! (maximal update parametrisation, Yang et al. 2022).

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
    max_position_embeddings: i32,
    logits_scaling: f32,
    attention_multiplier: f32,
    embedding_multiplier: f32,
    residual_multiplier: f32,
    attention_bias: bool,
    mlp_bias: bool,
    rope_theta: Option<f32>,
    rope_scaling: Option<RopeScaling>,
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
}

fn yes() -> bool {
    true
}

/// Loads a `granite` checkpoint.
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
    let theta = rope_theta.ok_or_else(|| config.bad("rope_theta", "a number"))?;
    let rope = Rope::new(dims.head_dim, theta, false, rope_scaling.as_ref(), dims.context_length)?;
    let spec = AttentionSpec {
        scale: args.attention_multiplier,
        qkv_bias: args.attention_bias,
        output_bias: args.attention_bias,
        ..dims.attention(Some(rope))
    };
    let (width, eps) = (dims.hidden_size, args.rms_norm_eps);
    // Their values are too small for the scales of few-bit floats.
    weights.keep_precise(&["self_attn.o_proj", "mlp.down_proj", "lm_head"]);
    let norm = RmsNorm::load(weights, "model.norm", width, eps)?;
    let mut decoder = Decoder::load(weights, dims, args.tie_word_embeddings, norm, |weights, _, prefix| {
        let name = format!("{prefix}.mlp");
        let mlp = Mlp::load(weights, &name, width, args.intermediate_size, args.mlp_bias, Activation::Silu)?;
        let mut block = PreNorm::load(weights, prefix, spec.clone(), eps, mlp)?;
        block.residual_scale = args.residual_multiplier;
        Ok(block)
    })?;
    decoder.embedding_scale = args.embedding_multiplier;
    decoder.logit_divisor = args.logits_scaling;
    Ok(Box::new(decoder))
}
