//! A layer's experts, the feed-forward blocks of which each token uses a few (Shazeer et al. 2017).

use super::linear::{Matrix, in_rows};
use super::{Activation, Weights};
use crate::error::Result;
use crate::kernels;
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
        let bias =
            if bias { Some(weights.take(&format!("{prefix}.bias"), &[experts, output])?) } else { None };
        Ok(ExpertLinear { matrices, bias })
    }

    /// `x` `[.., 1, in]` by the experts of `indices` `[..]`.
    fn forward(&self, x: &Array, indices: &Array, sorted: bool) -> Result<Array> {
        let y = match (kernels::gather_product(x, self.matrices.weight(), indices)?, &self.matrices) {
            (Some(y), _) => y,
            (None, Matrix::Dense { weight, .. }) => match x.dtype() {
                Dtype::F16 | Dtype::BF16 if thread_device()? == Device::Cpu => {
                    widened_matmul(x, weight, indices, sorted)?
                }
                _ => ops::gather_matmul(x, &ops::swap_axes(weight, -1, -2)?, indices, sorted)?,
            },
            (None, Matrix::Quantized { weight, interleaved, .. }) => {
                ops::gather_quantized_matmul(x, &*in_rows(weight, *interleaved)?, indices, sorted)?
            }
        };
        match &self.bias {
            Some(bias) => ops::add(&y, &ops::expand_dims(&ops::take(bias, indices)?, -2)?),
            None => Ok(y),
        }
    }
}

/// The product of 16-bit experts in float32, the only type that MLX's CPU backend has it in. Where fewer
/// matrices are used than there are, only those are widened.
fn widened_matmul(x: &Array, weight: &Array, indices: &Array, sorted: bool) -> Result<Array> {
    let widen = |array: &Array| ops::astype(array, Dtype::F32);
    let product = |weight: &Array, indices: &Array| {
        ops::gather_matmul(&widen(x)?, &ops::swap_axes(&widen(weight)?, -1, -2)?, indices, sorted)
    };
    let rows = indices.size() as i32;
    let y = if rows < weight.dim(0) {
        let used = ops::take(weight, &ops::flatten(indices, 0, -1)?)?;
        product(&used, &ops::reshape(&ops::arange(0, rows)?, indices.shape())?)
    } else {
        product(weight, indices)
    };
    ops::astype(&y?, x.dtype())
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
    /// Experts that publishers store one by one, `<from>.<e>.<name>` with the names that they have for
    /// gate, up and down, become `<to>.{gate,up,down}_proj`.
    pub fn stack(weights: &mut Weights, from: &str, to: &str, count: i32, names: [&str; 3]) -> Result<()> {
        for (name, own) in names.iter().zip(["gate_proj", "up_proj", "down_proj"]) {
            weights.stack(&format!("{to}.{own}"), count, |expert| format!("{from}.{expert}.{name}"))?;
        }
        Ok(())
    }

    /// The publishers' `<from>.gate_up_proj` `[experts, 2 * hidden, width]` and `<from>.down_proj` become
    /// `<to>.{gate,up,down}_proj`.
    pub fn split(
        weights: &mut Weights,
        from: &str,
        to: &str,
        [experts, hidden, width]: [i32; 3],
    ) -> Result<()> {
        let both = weights.remove_shaped(&format!("{from}.gate_up_proj"), &[experts, 2 * hidden, width])?;
        if let Some((both, file)) = both {
            for (name, start) in [("gate", 0), ("up", hidden)] {
                let part = ops::contiguous(&ops::slice(&both, 1, start, start + hidden)?)?;
                weights.insert(&format!("{to}.{name}_proj.weight"), part, &file);
            }
        }
        if let Some((down, file)) = weights.remove(&format!("{from}.down_proj")) {
            weights.insert(&format!("{to}.down_proj.weight"), down, &file);
        }
        Ok(())
    }

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
        // Our kernels sort by themselves.
        if indices.size() < SORT_ROWS || kernels::compute()? {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::QuantizationConfig;

    #[test]
    fn gate_and_up_of_another_shape_are_refused() {
        let both = ops::zeros(&[2, 3, 4], Dtype::F32).unwrap();
        let tensors = [("mlp.experts.gate_up_proj".to_string(), (both, "file".into()))].into();
        let mut weights = Weights::new(tensors, "folder".into(), QuantizationConfig::default(), None);
        let split = Experts::split(&mut weights, "mlp.experts", "mlp.switch_mlp", [2, 2, 4]);
        let message = split.unwrap_err().to_string();
        assert!(message.contains("gate_up_proj` has shape [2, 3, 4], expected [2, 4, 4]"), "{message}");
    }
}
