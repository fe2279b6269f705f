//! OLMo 3 (OLMo Team 2025): OLMo 2 with sliding windows but in every fourth layer, which alone takes
//! part in the stretching of positions.

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
    max_position_embeddings: i32,
    sliding_window: i32,
    layer_types: Option<Vec<String>>,
    #[serde(default)]
    attention_bias: bool,
    rope_theta: Option<f32>,
    rope_scaling: Option<RopeScaling>,
    #[serde(default)]
    tie_word_embeddings: bool,
}

/// Loads an `olmo3` checkpoint.
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
        context_length: args.max_position_embeddings,
    };
    config.check_dims(&dims, args.intermediate_size)?;
    config.check_sizes(&[("sliding_window", args.sliding_window)])?;
    let window = Some(args.sliding_window);
    let types = args.layer_types.as_deref();
    let windows = types.map(|types| config.windows(types, dims.num_layers, window)).transpose()?;

    let theta = rope_theta.ok_or_else(|| config.bad("rope_theta", "a number"))?;
    let rope = |scaling| Rope::new(dims.head_dim, theta, false, scaling, dims.context_length);
    let (near, far) = (rope(None)?, rope(rope_scaling.as_ref())?);
    let (width, eps) = (dims.hidden_size, args.rms_norm_eps);
    let norm = RmsNorm::load(weights, "model.norm", width, eps)?;
    let decoder = Decoder::load(weights, dims, args.tie_word_embeddings, norm, |weights, layer, prefix| {
        let window = match &windows {
            Some(windows) => windows[layer as usize],
            None => window.filter(|_| (layer + 1) % 4 != 0),
        };
        let rope = if window.is_some() { &near } else { &far };
        let spec = AttentionSpec {
            qkv_bias: args.attention_bias,
            output_bias: args.attention_bias,
            norms: QkNorms::Whole(eps),
            window,
            ..dims.attention(Some(rope.clone()))
        };
        let name = format!("{prefix}.mlp");
        let mlp = Mlp::load(weights, &name, width, args.intermediate_size, false, Activation::Silu)?;
        PostNorm::load(weights, prefix, spec, eps, mlp)
    })?;
    Ok(Box::new(decoder))
}
