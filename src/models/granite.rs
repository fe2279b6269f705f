//! Granite 3 (IBM 2024): Llama with a factor on embeddings, scores, residual branches and logits
//! (maximal update parametrisation, Yang et al. 2022).

use super::parts::dense::{Defaults, Dense};
use super::parts::pre_norm::PreNorm;
use super::{Config, Model};
use crate::error::Result;
use crate::nn::Weights;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Args {
    logits_scaling: f32,
    attention_multiplier: f32,
    embedding_multiplier: f32,
    residual_multiplier: f32,
}

const DEFAULTS: Defaults = Defaults {
    required: &["num_key_value_heads", "max_position_embeddings", "attention_bias", "mlp_bias"],
    theta: None,
    ..Defaults::LLAMA
};

/// Loads a `granite` checkpoint.
pub(super) fn load(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    let args: Args = config.args()?;
    let mut dense = Dense::read(config, DEFAULTS)?;
    dense.attention.scale = args.attention_multiplier;
    // Their values are too small for the scales of few-bit floats.
    weights.keep_precise(&["self_attn.o_proj", "mlp.down_proj", "lm_head"]);
    let mut decoder = dense.load(weights, |weights, _, prefix, mlp| {
        let mut block = PreNorm::load(weights, prefix, dense.attention.clone(), dense.eps, mlp)?;
        block.residual_scale = args.residual_multiplier;
        Ok(block)
    })?;
    decoder.embedding_scale = args.embedding_multiplier;
    decoder.logit_divisor = args.logits_scaling;
    Ok(Box::new(decoder))
}
