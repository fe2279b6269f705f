//! Linear layers and embeddings, dense or affinely quantised.

use super::Weights;
use crate::error::Result;
use crate::mlx::ops::{self, Quantization};
use crate::mlx::{Array, Device, Dtype, thread_device};

/// A weight matrix `[out, in]`.
#[derive(Debug)]
pub(super) enum Matrix {
    Dense(Array),
    Quantized { packed: Array, scales: Array, biases: Array, quantization: Quantization },
}

/// From this many rows on, MLX's CPU backend is faster at dequantising the matrix and calling BLAS
/// than at its own quantised product (`bench/quantized_rows.rs` measures it).
const CPU_DEQUANTIZE_ROWS: usize = 8;

impl Matrix {
    /// `x @ self.T`.
    fn forward(&self, x: &Array) -> Result<Array> {
        match self {
            Matrix::Dense(weight) => ops::matmul(x, &ops::transpose(weight, &[1, 0])?),
            Matrix::Quantized { packed, scales, biases, quantization } => {
                let rows = x.size() / x.dim(-1) as usize;
                let blas = scales.dtype() == Dtype::F32 && thread_device()? == Device::Cpu;
                if blas && rows >= CPU_DEQUANTIZE_ROWS {
                    let weight = ops::dequantize(packed, scales, biases, *quantization)?;
                    return ops::matmul(x, &ops::transpose(&weight, &[1, 0])?);
                }
                ops::quantized_matmul(x, packed, scales, biases, *quantization)
            }
        }
    }

    /// The rows with the given indices.
    fn rows(&self, indices: &Array) -> Result<Array> {
        match self {
            Matrix::Dense(weight) => ops::take(weight, indices),
            Matrix::Quantized { packed, scales, biases, quantization } => ops::dequantize(
                &ops::take(packed, indices)?,
                &ops::take(scales, indices)?,
                &ops::take(biases, indices)?,
                *quantization,
            ),
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
        let matrix = weights.take_matrix(prefix, output, input)?;
        let bias = if bias { Some(weights.take(&format!("{prefix}.bias"), &[output])?) } else { None };
        Ok(Linear { matrix, bias })
    }

    /// Maps the last axis.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        match (&self.matrix, &self.bias) {
            (Matrix::Dense(weight), Some(bias)) => ops::addmm(bias, x, &ops::transpose(weight, &[1, 0])?),
            (matrix, Some(bias)) => ops::add(&matrix.forward(x)?, bias),
            (matrix, None) => matrix.forward(x),
        }
    }
}

/// A table of token vectors, which may serve as the output layer too.
#[derive(Debug)]
pub struct Embedding(Matrix);

impl Embedding {
    /// Takes `<prefix>.weight` of shape `[vocabulary, width]`, quantised or not.
    pub fn load(weights: &mut Weights, prefix: &str, vocabulary: i32, width: i32) -> Result<Self> {
        weights.take_matrix(prefix, vocabulary, width).map(Embedding)
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
