//! The gated feed-forward block (Shazeer 2020).

use super::{Activation, Linear, Module, RmsNorm, Weights};
use crate::error::Result;
use crate::kernels::Source;
use crate::mlx::Array;

/// The maps to gate and up.
#[derive(Debug)]
enum GateUp {
    Separate(Linear, Linear),
    Fused(Linear),
}

/// `down(activation(gate(x)) * up(x))`.
#[derive(Debug)]
pub struct Mlp {
    gate_up: GateUp,
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
        let gate = Linear::load(weights, &format!("{prefix}.gate_proj"), width, hidden, bias)?;
        let up = Linear::load(weights, &format!("{prefix}.up_proj"), width, hidden, bias)?;
        let down = Linear::load(weights, &format!("{prefix}.down_proj"), hidden, width, bias)?;
        Ok(Mlp { gate_up: GateUp::Separate(gate, up), down, activation })
    }

    /// Takes `<prefix>.gate_up_proj`, both in one matrix, and `.down_proj`.
    pub fn load_fused(
        weights: &mut Weights,
        prefix: &str,
        width: i32,
        hidden: i32,
        activation: Activation,
    ) -> Result<Self> {
        let both = Linear::load(weights, &format!("{prefix}.gate_up_proj"), width, 2 * hidden, false)?;
        let down = Linear::load(weights, &format!("{prefix}.down_proj"), hidden, width, false)?;
        Ok(Mlp { gate_up: GateUp::Fused(both), down, activation })
    }
}

impl Mlp {
    fn run(&self, x: Source, onto: Option<&Array>) -> Result<Array> {
        let activation = self.activation;
        match &self.gate_up {
            GateUp::Separate(gate, up) => {
                let [gate, up] = &Linear::forward_all([gate, up], x)?;
                self.down.forward_onto(Source::Gated { activation, gate, up }, onto)
            }
            GateUp::Fused(both) => {
                let [both] = &Linear::forward_all([both], x)?;
                self.down.forward_onto(Source::Halves { activation, both }, onto)
            }
        }
    }
}

impl Module for Mlp {
    fn forward(&self, x: &Array) -> Result<Array> {
        self.run(Source::Plain(x), None)
    }

    fn forward_residual(&self, x: &Array, norm: &RmsNorm) -> Result<Array> {
        self.run(norm.of(x), Some(x))
    }
}
