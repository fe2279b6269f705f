//! A linear layer of its own for every head.

use super::Weights;
use super::linear::Matrix;
use crate::error::Result;
use crate::mlx::Array;

/// Weight `[heads, out, in]`.
#[derive(Debug)]
pub struct HeadLinear(Matrix);

impl HeadLinear {
    /// Takes `<prefix>.weight` of shape `[heads, output, input]`, quantised or not.
    pub fn load(weights: &mut Weights, prefix: &str, heads: i32, input: i32, output: i32) -> Result<Self> {
        weights.take_converted_matrix(prefix, &[heads, output, input]).map(HeadLinear)
    }

    /// `x @ weight.T` head by head: `[batch, heads or 1, length, in]` to `[batch, heads, length, out]`.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        self.0.forward(x)
    }

    /// `x @ weight` head by head: `[batch, heads or 1, length, out]` to `[batch, heads, length, in]`.
    pub fn backward(&self, x: &Array) -> Result<Array> {
        self.0.backward(x)
    }
}
