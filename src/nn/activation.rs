//! Activation functions.

use crate::error::Result;
use crate::kernels::{self, CLIP, SLOPE};
use crate::mlx::{Array, Dtype, ops};

pub use kernels::Activation;

impl Activation {
    /// Applies the function; the result has x's type.
    pub fn apply(self, x: &Array) -> Result<Array> {
        match self {
            Activation::Silu => ops::multiply(x, &ops::sigmoid(x)?),
            Activation::GeluTanh => gelu_tanh(x),
            Activation::ClippedSwish => {
                let x = ops::minimum(x, &ops::constant(CLIP, x)?)?;
                ops::multiply(&x, &ops::sigmoid(&ops::scale(&x, SLOPE)?)?)
            }
        }
    }

    /// `activation(gate) * up`, what gated blocks compute.
    pub fn gated(self, gate: &Array, up: &Array) -> Result<Array> {
        if let Some(gated) = kernels::gated(self, gate, up)? {
            return Ok(gated);
        }
        let gate = self.apply(gate)?;
        if self != Activation::ClippedSwish {
            return ops::multiply(&gate, up);
        }
        let clipped = ops::clip(up, &ops::constant(-CLIP, up)?, &ops::constant(CLIP, up)?)?;
        ops::multiply(&ops::add(&clipped, &ops::constant(1.0, up)?)?, &gate)
    }

    /// The same of rows that hold gate and up beside each other, `[.., 2 * hidden]` to `[.., hidden]`.
    pub fn gated_halves(self, both: &Array) -> Result<Array> {
        if let Some(gated) = kernels::gated_halves(self, both)? {
            return Ok(gated);
        }
        let parts = ops::split(both, &[both.dim(-1) / 2], -1)?;
        self.gated(&parts[0], &parts[1])
    }
}

/// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))`.
fn gelu_tanh(x: &Array) -> Result<Array> {
    let constant = |value: f32| ops::constant(value, x);
    // Two products would round twice in 16 bits; pow is slow, which float32 need not pay for.
    let cube = match x.dtype() {
        Dtype::F32 => ops::multiply(&ops::square(x)?, x)?,
        _ => ops::power(x, &constant(3.0)?)?,
    };
    let inner = ops::add(x, &ops::multiply(&cube, &constant(0.044715)?)?)?;
    let root = (2.0 / std::f32::consts::PI).sqrt();
    let tanh = ops::tanh(&ops::multiply(&inner, &constant(root)?)?)?;
    let half = ops::multiply(x, &constant(0.5)?)?;
    ops::multiply(&half, &ops::add(&tanh, &constant(1.0)?)?)
}

/// `cap * tanh(x / cap)`: x, bent so that it stays between plus and minus `cap` (Bello et al. 2016).
pub fn soft_cap(x: &Array, cap: f32) -> Result<Array> {
    let cap = ops::constant(cap, x)?;
    ops::multiply(&ops::tanh(&ops::divide(x, &cap)?)?, &cap)
}
