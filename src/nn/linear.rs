//! Linear layers and embeddings, dense or quantised.

use super::{Module, Weights, add, rms_norm};
use crate::error::Result;
use crate::kernels::{self, Source, Weight};
use crate::mlx::ops::{self, Quantized};
use crate::mlx::{Array, Device, Dtype, thread_device};
use std::borrow::Cow;

/// A weight matrix `[out, in]`, or one for each expert or head `[experts, out, in]`.
#[derive(Debug)]
pub(super) enum Matrix {
    /// `dtype`: what its rows are computed in, which on the CPU need not be the type it is stored in.
    Dense { weight: Array, dtype: Dtype },
    /// `dtype`: what it stands for when it is dequantised. `interleaved`: see [`kernels::interleave()`].
    Quantized { weight: Quantized, dtype: Dtype, interleaved: bool },
}

impl Matrix {
    /// `x @ self.T`.
    pub(super) fn forward(&self, x: &Array) -> Result<Array> {
        match kernels::products(Source::Plain(x), [(self.weight(), None)], None)? {
            Some([y]) => Ok(y),
            None => self.by_mlx(x),
        }
    }

    fn by_mlx(&self, x: &Array) -> Result<Array> {
        match self {
            Matrix::Dense { weight, .. } => ops::matmul(x, &ops::swap_axes(weight, -1, -2)?),
            Matrix::Quantized { weight, interleaved, .. } => {
                ops::quantized_matmul(x, &*in_rows(weight, *interleaved)?, true)
            }
        }
    }

    /// For kernels.
    pub(super) fn weight(&self) -> Weight<'_> {
        match self {
            Matrix::Dense { weight, .. } => Weight::Dense(weight),
            Matrix::Quantized { weight, interleaved, .. } => Weight::quantized(weight, *interleaved),
        }
    }

    /// `x @ self`.
    pub(super) fn backward(&self, x: &Array) -> Result<Array> {
        match self {
            Matrix::Dense { weight, .. } => ops::matmul(x, weight),
            Matrix::Quantized { weight, dtype, interleaved } => {
                let weight = in_rows(weight, *interleaved)?;
                // MLX's CUDA backend has this product for some shapes only.
                if cfg!(not(target_os = "macos")) && thread_device()? == Device::Gpu {
                    return ops::matmul(x, &ops::dequantize(&weight, *dtype)?);
                }
                ops::quantized_matmul(x, &weight, false)
            }
        }
    }

    /// The rows with the given indices.
    fn rows(&self, indices: &Array) -> Result<Array> {
        let (Matrix::Dense { dtype, .. } | Matrix::Quantized { dtype, .. }) = self;
        if *dtype == Dtype::F32
            && let Some(rows) = kernels::rows(self.weight(), indices)?
        {
            return Ok(rows);
        }
        match self {
            Matrix::Dense { weight, dtype } => {
                let rows = ops::take(weight, indices)?;
                if rows.dtype() == *dtype { Ok(rows) } else { ops::astype(&rows, *dtype) }
            }
            Matrix::Quantized { weight, dtype, interleaved } => {
                let weight = in_rows(weight, *interleaved)?;
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

/// A quantised matrix as MLX takes it.
pub(super) fn in_rows(weight: &Quantized, interleaved: bool) -> Result<Cow<'_, Quantized>> {
    if interleaved { kernels::in_rows(weight).map(Cow::Owned) } else { Ok(Cow::Borrowed(weight)) }
}

impl Source<'_> {
    /// As an operation of its own.
    fn compute(&self) -> Result<Cow<'_, Array>> {
        Ok(match *self {
            Source::Plain(x) => Cow::Borrowed(x),
            Source::Normed { x, weight, eps } => Cow::Owned(rms_norm(x, Some(weight), eps)?),
            Source::Gated { activation, gate, up } => Cow::Owned(activation.gated(gate, up)?),
            Source::Halves { activation, both } => Cow::Owned(activation.gated_halves(both)?),
        })
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

impl Linear {
    /// Several layers of the same input: on the CPU they are computed together.
    pub fn forward_all<const N: usize>(layers: [&Linear; N], x: Source) -> Result<[Array; N]> {
        let weights = layers.map(|layer| (layer.matrix.weight(), layer.bias.as_ref()));
        if let Some(results) = kernels::products(x, weights, None)? {
            return Ok(results);
        }
        let made = x.compute()?;
        // What is not in float32 is made by an operation of its own.
        if !matches!(x, Source::Plain(_))
            && let Some(results) = kernels::products(Source::Plain(&made), weights, None)?
        {
            return Ok(results);
        }
        let results: Vec<Array> = layers.iter().map(|layer| layer.by_mlx(&made)).collect::<Result<_>>()?;
        Ok(results.try_into().expect("one of each"))
    }

    /// `onto`, if given, plus the layer's result.
    pub fn forward_onto(&self, x: Source, onto: Option<&Array>) -> Result<Array> {
        let Some(onto) = onto else { return Linear::forward_all([self], x).map(|[y]| y) };
        let weights = [(self.matrix.weight(), self.bias.as_ref())];
        if let Some([y]) = kernels::products(x, weights, Some(onto))? {
            return Ok(y);
        }
        let [y] = Linear::forward_all([self], x)?;
        add(onto, &y)
    }

    fn by_mlx(&self, x: &Array) -> Result<Array> {
        match (&self.bias, &self.matrix) {
            (None, matrix) => matrix.by_mlx(x),
            (Some(bias), Matrix::Dense { weight, .. }) => {
                ops::addmm(bias, x, &ops::transpose(weight, &[1, 0])?)
            }
            (Some(bias), matrix) => ops::add(&matrix.by_mlx(x)?, bias),
        }
    }
}

impl Module for Linear {
    fn forward(&self, x: &Array) -> Result<Array> {
        self.forward_onto(Source::Plain(x), None)
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
