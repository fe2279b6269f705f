//! Llama 2 and 3 (Touvron et al. 2023, Grattafiori et al. 2024), 3.1's rope scaling included, and Mistral
//! (Jiang et al. 2023). Layers that `layer_types` calls sliding see the last `sliding_window` positions.

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
    layer_types: Option<Vec<String>>,
    sliding_window: Option<i32>,
}

fn yes() -> bool {
    true
}

/// Loads a `llama` or `mistral` checkpoint.
pub(super) fn load(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    load_variant(config, weights, |_, _| {})
}

/// Loads a family whose attention alone differs from Llama's: `vary` changes that of a layer.
pub(super) fn load_variant(
    config: &Config,
    weights: &mut Weights,
    vary: impl Fn(i32, &mut AttentionSpec),
) -> Result<Box<dyn Model>> {
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
    let windows = match &args.layer_types {
        Some(types) => config.windows(types, dims.num_layers, args.sliding_window)?,
        None => vec![],
    };
    let theta = rope_theta.unwrap_or(10_000.0);
    let rope =
        Rope::new(dims.head_dim, theta, args.rope_traditional, rope_scaling.as_ref(), dims.context_length)?;
    let spec = AttentionSpec {
        qkv_bias: args.attention_bias,
        output_bias: args.attention_bias,
        ..dims.attention(Some(rope))
    };
    let (width, eps) = (dims.hidden_size, args.rms_norm_eps);
    let norm = RmsNorm::load(weights, "model.norm", width, eps)?;
    let decoder = Decoder::load(weights, dims, args.tie_word_embeddings, norm, |weights, layer, prefix| {
        let window = windows.get(layer as usize).copied().flatten();
        let mut spec = AttentionSpec { window, ..spec.clone() };
        vary(layer, &mut spec);
        let name = format!("{prefix}.mlp");
        let mlp = Mlp::load(weights, &name, width, args.intermediate_size, args.mlp_bias, Activation::Silu)?;
        PreNorm::load(weights, prefix, spec, eps, mlp)
    })?;
    Ok(Box::new(decoder))
}
