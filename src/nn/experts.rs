//! A layer's experts, the feed-forward blocks of which each token uses a few (Shazeer et al. 2017).

use super::linear::Matrix;
use super::{Activation, Weights};
use crate::error::{Error, Result};
use crate::mlx::{Array, Device, Dtype, ops, thread_device};

/// The same linear layer of every expert: weight `[experts, out, in]`.
#[derive(Debug)]
struct ExpertLinear {
    matrices: Matrix,
    /// `[experts, out]`.
    bias: Option<Array>,
}

impl ExpertLinear {
    fn load(
        weights: &mut Weights,
        prefix: &str,
        [experts, output, input]: [i32; 3],
        bias: bool,
    ) -> Result<Self> {
        let matrices = weights.take_matrix(prefix, &[experts, output, input])?;
        if let Matrix::Dense { weight, .. } = &matrices
            && weight.dtype() != Dtype::F32
            && thread_device()? == Device::Cpu
        {
            return Err(Error::Unsupported(format!(
                "`{prefix}` in {}: on the CPU MLX computes unquantised experts in float32 only",
                weight.dtype()
            )));
        }
        let bias =
            if bias { Some(weights.take(&format!("{prefix}.bias"), &[experts, output])?) } else { None };
        Ok(ExpertLinear { matrices, bias })
    }

    /// `x` `[.., 1, in]` by the experts of `indices` `[..]`.
    fn forward(&self, x: &Array, indices: &Array, sorted: bool) -> Result<Array> {
        let y = match &self.matrices {
            Matrix::Dense { weight, .. } => {
                ops::gather_matmul(x, &ops::swap_axes(weight, -1, -2)?, indices, sorted)?
            }
            Matrix::Quantized { weight, .. } => ops::gather_quantized_matmul(x, weight, indices, sorted)?,
        };
        match &self.bias {
            Some(bias) => ops::add(&y, &ops::expand_dims(&ops::take(bias, indices)?, -2)?),
            None => Ok(y),
        }
    }
}

/// Gated feed-forward blocks, `[experts]` of each matrix in one tensor.
#[derive(Debug)]
pub struct Experts {
    gate: ExpertLinear,
    up: ExpertLinear,
    down: ExpertLinear,
    activation: Activation,
}

/// From this many rows on they are sorted by expert, so that each expert's weights are read once.
const SORT_ROWS: usize = 64;

impl Experts {
    /// Takes `<prefix>.{gate,up,down}_proj`, `width` to `hidden` and back, each `[experts, out, in]`.
    pub fn load(
        weights: &mut Weights,
        prefix: &str,
        experts: i32,
        [width, hidden]: [i32; 2],
        bias: bool,
        activation: Activation,
    ) -> Result<Self> {
        let mut linear = |name: &str, output, input| {
            ExpertLinear::load(weights, &format!("{prefix}.{name}_proj"), [experts, output, input], bias)
        };
        Ok(Experts {
            gate: linear("gate", hidden, width)?,
            up: linear("up", hidden, width)?,
            down: linear("down", width, hidden)?,
            activation,
        })
    }

    /// `x` `[batch, length, width]` by the experts `indices` `[batch, length, k]`: `[batch, length, k,
    /// width]`.
    pub fn forward(&self, x: &Array, indices: &Array) -> Result<Array> {
        let shape = indices.shape().to_vec();
        let k = indices.dim(-1);
        if indices.size() < SORT_ROWS {
            let x = ops::expand_dims(&ops::expand_dims(x, -2)?, -2)?;
            return ops::squeeze(&self.run(&x, indices, false)?, -2);
        }
        let flat = ops::reshape(indices, &[-1])?;
        let order = ops::argsort(&flat, 0)?;
        let back = ops::argsort(&order, 0)?;
        let per_token = Array::from_i32(&[k], &[])?;
        let tokens = ops::floor_divide(&order, &ops::astype(&per_token, order.dtype())?)?;
        let rows = ops::reshape(x, &[-1, 1, x.dim(-1)])?;
        let y = self.run(&ops::take(&rows, &tokens)?, &ops::take(&flat, &order)?, true)?;
        let y = ops::take(&y, &back)?;
        ops::reshape(&y, &[&shape[..], &[y.dim(-1)]].concat())
    }

    fn run(&self, x: &Array, indices: &Array, sorted: bool) -> Result<Array> {
        let up = self.up.forward(x, indices, sorted)?;
        let gate = self.gate.forward(x, indices, sorted)?;
        self.down.forward(&self.activation.gated(&gate, &up)?, indices, sorted)
    }
}

/// The sum of experts' outputs `[.., k, width]`, each times its weight `[.., k]`, in the outputs' type.
pub fn weighted_sum(outputs: &Array, weights: &Array) -> Result<Array> {
    let product = ops::multiply(outputs, &ops::expand_dims(weights, -1)?)?;
    ops::astype(&ops::sum(&product, -2, false)?, outputs.dtype())
}
