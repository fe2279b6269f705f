//! SmolLM 3 (Bakouch et al. 2025): Llama, with every `no_rope_layer_interval`th layer left without
//! positions (Yang et al. 2025).

use super::{Config, Model, llama};
use crate::error::Result;
use crate::nn::Weights;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Args {
    num_hidden_layers: i32,
    #[serde(default = "four")]
    no_rope_layer_interval: i32,
    /// 0: the layer has no positions.
    no_rope_layers: Option<Vec<i32>>,
}

fn four() -> i32 {
    4
}

/// Loads a `smollm3` checkpoint.
pub(super) fn load(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    let Args { num_hidden_layers: layers, no_rope_layer_interval: interval, no_rope_layers } =
        config.args()?;
    config.check_sizes(&[("no_rope_layer_interval", interval)])?;
    if no_rope_layers.as_ref().is_some_and(|listed| i32::try_from(listed.len()) != Ok(layers)) {
        return Err(config.bad("no_rope_layers", format!("`num_hidden_layers` ({layers}) numbers")));
    }
    llama::load_variant(config, weights, |layer, attention| {
        let turns = match &no_rope_layers {
            Some(listed) => listed.get(layer as usize).is_some_and(|&turns| turns != 0),
            None => (layer + 1) % interval != 0,
        };
        if !turns {
            attention.rope = None;
        }
    })
}
