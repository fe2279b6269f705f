//! Qwen 3 (Yang et al. 2025): Llama with norms on every query and key head.

use super::parts::dense::{Defaults, Dense};
use super::{Config, Model};
use crate::error::Result;
use crate::nn::{QkNorms, Weights};

const DEFAULTS: Defaults = Defaults {
    required: &["num_key_value_heads", "head_dim", "max_position_embeddings", "tie_word_embeddings"],
    theta: None,
    ..Defaults::LLAMA
};

/// Loads a `qwen3` checkpoint.
pub(super) fn load(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    let mut dense = Dense::read(config, DEFAULTS)?;
    dense.attention.norms = QkNorms::PerHead(dense.eps);
    dense.load_pre_norm(weights, |_, _| {})
}
