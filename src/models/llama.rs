//! Llama 2 and 3 (Touvron et al. 2023, Grattafiori et al. 2024), 3.1's rope scaling included, and Mistral
//! (Jiang et al. 2023). Layers that `layer_types` calls sliding see the last `sliding_window` positions.

use super::parts::dense::{Defaults, Dense};
use super::{Config, Model};
use crate::error::Result;
use crate::nn::{AttentionSpec, Weights};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Args {
    layer_types: Option<Vec<String>>,
    sliding_window: Option<i32>,
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
    let dense = Dense::read(config, Defaults::LLAMA)?;
    let types = args.layer_types.as_deref();
    let windows = config.windows(types, dense.dims.num_layers, args.sliding_window, |_| false)?;
    dense.load_pre_norm(weights, |layer, attention| {
        attention.window = windows[layer as usize];
        vary(layer, attention);
    })
}
