//! OLMo 3 (OLMo Team 2025): OLMo 2 with sliding windows but in every fourth layer, which alone takes
//! part in the stretching of positions.

use super::parts::dense::{Defaults, Dense};
use super::parts::post_norm::PostNorm;
use super::{Config, Model};
use crate::error::Result;
use crate::nn::{AttentionSpec, QkNorms, Rope, Weights};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Args {
    sliding_window: i32,
    layer_types: Option<Vec<String>>,
}

const DEFAULTS: Defaults =
    Defaults { required: &["max_position_embeddings"], theta: None, tied: false, ..Defaults::LLAMA };

/// Loads an `olmo3` checkpoint.
pub(super) fn load(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    let args: Args = config.args()?;
    let mut dense = Dense::read(config, DEFAULTS)?;
    dense.attention.norms = QkNorms::Whole(dense.eps);
    config.check_sizes(&[("sliding_window", args.sliding_window)])?;
    let (types, window) = (args.layer_types.as_deref(), Some(args.sliding_window));
    let windows = config.windows(types, dense.dims.num_layers, window, |layer| (layer + 1) % 4 != 0)?;
    let near = Rope::new(dense.dims.head_dim, dense.theta, false, None, dense.dims.context_length)?;
    let far = &dense.attention;
    let decoder = dense.load(weights, |weights, layer, prefix, mlp| {
        let spec = match windows[layer as usize] {
            Some(window) => AttentionSpec { window: Some(window), rope: Some(near.clone()), ..far.clone() },
            None => far.clone(),
        };
        PostNorm::load(weights, prefix, spec, dense.eps, mlp)
    })?;
    Ok(Box::new(decoder))
}
