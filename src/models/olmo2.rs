//! OLMo 2 (OLMo Team 2025): norms behind each block instead of before, and over all queries and keys
//! of a position together.

use super::parts::dense::{Defaults, Dense};
use super::parts::post_norm::PostNorm;
use super::{Config, Model};
use crate::error::Result;
use crate::nn::{QkNorms, Weights};

/// Loads an `olmo2` checkpoint.
pub(super) fn load(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    let mut dense = Dense::read(config, Defaults::LLAMA)?;
    dense.attention.norms = QkNorms::Whole(dense.eps);
    let decoder = dense.load(weights, |weights, _, prefix, mlp| {
        PostNorm::load(weights, prefix, dense.attention.clone(), dense.eps, mlp)
    })?;
    Ok(Box::new(decoder))
}
