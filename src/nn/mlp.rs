//! The gated feed-forward block (Shazeer 2020).

use super::{Activation, Linear, Module, Weights};
use crate::error::Result;
use crate::mlx::Array;

/// `down(activation(gate(x)) * up(x))`.
#[derive(Debug)]
pub struct Mlp {
    gate: Linear,
    up: Linear,
    down: Linear,
    activation: Activation,
}

impl Mlp {
    /// Takes `<prefix>.{gate,up,down}_proj`, `width` to `hidden` and back.
    pub fn load(
        weights: &mut Weights,
        prefix: &str,
        width: i32,
        hidden: i32,
        bias: bool,
        activation: Activation,
    ) -> Result<Self> {
        Ok(Mlp {
            gate: Linear::load(weights, &format!("{prefix}.gate_proj"), width, hidden, bias)?,
            up: Linear::load(weights, &format!("{prefix}.up_proj"), width, hidden, bias)?,
            down: Linear::load(weights, &format!("{prefix}.down_proj"), hidden, width, bias)?,
            activation,
        })
    }
}

impl Module for Mlp {
    fn forward(&self, x: &Array) -> Result<Array> {
        self.down.forward(&self.activation.gated(&self.gate.forward(x)?, &self.up.forward(x)?)?)
    }
}
