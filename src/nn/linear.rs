//! Linear layers and embeddings, dense or quantised.

use super::{Module, Weights};
use crate::error::Result;
use crate::kernels;
use crate::mlx::ops::{self, Quantized};
use crate::mlx::{Array, Device, Dtype, thread_device};

/// A weight matrix `[out, in]`, or one for each expert or head `[experts, out, in]`.
#[derive(Debug)]
pub(super) enum Matrix {
    /// `dtype`: what its rows are computed in, which on the CPU need not be the type it is stored in.
    Dense { weight: Array, dtype: Dtype },
    /// `dtype`: what it stands for when it is dequantised.
    Quantized { weight: Quantized, dtype: Dtype },
}

impl Matrix {
    /// `x @ self.T`.
    pub(super) fn forward(&self, x: &Array) -> Result<Array> {
        match (self.ours(x, None)?, self) {
            (Some(y), _) => Ok(y),
            (None, Matrix::Dense { weight, .. }) => ops::matmul(x, &ops::swap_axes(weight, -1, -2)?),
            (None, Matrix::Quantized { weight, .. }) => ops::quantized_matmul(x, weight, true),
        }
    }

    /// `x @ self.T + bias` by our own kernels.
    fn ours(&self, x: &Array, bias: Option<&Array>) -> Result<Option<Array>> {
        match self {
            Matrix::Dense { weight, .. } => kernels::matmul(x, weight, bias),
            Matrix::Quantized { weight, .. } => kernels::quantized_matmul(x, weight, bias),
        }
    }

    /// `x @ self`.
    pub(super) fn backward(&self, x: &Array) -> Result<Array> {
        match self {
            Matrix::Dense { weight, .. } => ops::matmul(x, weight),
            // MLX's CUDA backend has this product for some shapes only.
            Matrix::Quantized { weight, dtype }
                if cfg!(not(target_os = "macos")) && thread_device()? == Device::Gpu =>
            {
                ops::matmul(x, &ops::dequantize(weight, *dtype)?)
            }
            Matrix::Quantized { weight, .. } => ops::quantized_matmul(x, weight, false),
        }
    }

    /// The rows with the given indices.
    fn rows(&self, indices: &Array) -> Result<Array> {
        let ours = match self {
            Matrix::Dense { weight, dtype: Dtype::F32 } => kernels::rows(weight, indices)?,
            Matrix::Quantized { weight, dtype: Dtype::F32 } => kernels::quantized_rows(weight, indices)?,
            _ => None,
        };
        if let Some(rows) = ours {
            return Ok(rows);
        }
        match self {
            Matrix::Dense { weight, dtype } => {
                let rows = ops::take(weight, indices)?;
                if rows.dtype() == *dtype { Ok(rows) } else { ops::astype(&rows, *dtype) }
            }
            Matrix::Quantized { weight, dtype } => {
                // MLX dequantises in the scales' type.
                let take = |groups: &Array| {
                    let rows = ops::take(groups, indices)?;
                    if rows.dtype().is_float() { ops::astype(&rows, *dtype) } else { Ok(rows) }
                };
                let rows = Quantized {
                    packed: ops::take(&weight.packed, indices)?,
                    scales: take(&weight.scales)?,
                    biases: weight.biases.as_ref().map(take).transpose()?,
                    quantization: weight.quantization,
                };
                ops::dequantize(&rows, *dtype)
            }
        }
    }
}

/// `x @ weight.T + bias`.
#[derive(Debug)]
pub struct Linear {
    matrix: Matrix,
    bias: Option<Array>,
}

impl Linear {
    /// Takes `<prefix>.weight` of shape `[output, input]`, with `.scales` and `.biases` where it is
    /// quantised, and `<prefix>.bias` if the layer has one.
    pub fn load(weights: &mut Weights, prefix: &str, input: i32, output: i32, bias: bool) -> Result<Self> {
        let matrix = weights.take_matrix(prefix, &[output, input])?;
        let bias = if bias { Some(weights.take(&format!("{prefix}.bias"), &[output])?) } else { None };
        Ok(Linear { matrix, bias })
    }

    /// Takes `<prefix>.weight` of a layer that is never quantised and has no bias.
    pub fn load_dense(weights: &mut Weights, prefix: &str, input: i32, output: i32) -> Result<Self> {
        let weight = weights.take(&format!("{prefix}.weight"), &[output, input])?;
        let dtype = weight.dtype();
        Ok(Linear { matrix: Matrix::Dense { weight, dtype }, bias: None })
    }
}

impl Module for Linear {
    fn forward(&self, x: &Array) -> Result<Array> {
        let Some(bias) = &self.bias else { return self.matrix.forward(x) };
        match (self.matrix.ours(x, Some(bias))?, &self.matrix) {
            (Some(y), _) => Ok(y),
            (None, Matrix::Dense { weight, .. }) => ops::addmm(bias, x, &ops::transpose(weight, &[1, 0])?),
            (None, matrix) => ops::add(&matrix.forward(x)?, bias),
        }
    }
}

/// A table of token vectors, which may serve as the output layer too.
#[derive(Debug)]
pub struct Embedding(Matrix);

impl Embedding {
    /// Takes `<prefix>.weight` of shape `[vocabulary, width]`, quantised or not.
    pub fn load(weights: &mut Weights, prefix: &str, vocabulary: i32, width: i32) -> Result<Self> {
        weights.take_matrix(prefix, &[vocabulary, width]).map(Embedding)
    }

    /// The vectors of token ids: `[..]` to `[.., width]`.
    pub fn forward(&self, ids: &Array) -> Result<Array> {
        self.0.rows(ids)
    }

    /// The table as a linear layer to the vocabulary.
    pub fn logits(&self, x: &Array) -> Result<Array> {
        self.0.forward(x)
    }
}
