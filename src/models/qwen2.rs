//! Qwen 2 and 2.5 (Yang et al. 2024), and the DeepSeek R1 distills made from them: Llama with biases on
//! queries, keys and values.

use super::parts::dense::{Defaults, Dense};
use super::{Config, Model};
use crate::error::Result;
use crate::nn::Weights;

const DEFAULTS: Defaults = Defaults {
    required: &["num_key_value_heads"],
    theta: Some(1_000_000.0),
    context: 32_768,
    ..Defaults::LLAMA
};

/// Loads a `qwen2` checkpoint.
pub(super) fn load(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    let mut dense = Dense::read(config, DEFAULTS)?;
    (dense.attention.qkv_bias, dense.attention.output_bias) = (true, false);
    dense.load_pre_norm(weights, |_, _| {})
}
