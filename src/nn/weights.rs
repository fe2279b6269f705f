//! Named tensors on their way from a checkpoint into layers.

use super::linear::Matrix;
use crate::error::{Error, Result};
use crate::mlx::ops::{self, Quantization};
use crate::mlx::{Array, Dtype};
use std::collections::HashMap;
use std::path::PathBuf;

/// `quantization` of config.json: one setting for all matrices, and exceptions by layer name.
#[derive(Debug, Clone, Default)]
pub struct QuantizationConfig {
    /// What holds where no exception does. `None`: the checkpoint is not quantised.
    pub default: Option<Quantization>,
    /// Exceptions.
    pub layers: HashMap<String, Quantization>,
}

/// The tensors of a checkpoint. Layers take theirs by name; shapes and types are checked here, so
/// that a broken file is an error that names tensor and file.
pub struct Weights {
    tensors: HashMap<String, (Array, PathBuf)>,
    /// Where a missing tensor was looked for.
    source: PathBuf,
    quantization: QuantizationConfig,
    /// What floating-point tensors are converted to; `None` keeps their own type.
    dtype: Option<Dtype>,
    prefix: String,
    /// All tensors that layers hold, not yet evaluated.
    taken: Vec<Array>,
    parameters: u64,
}

impl Weights {
    /// Wraps tensors with the files they come from. `source` names the checkpoint in messages.
    pub fn new(
        tensors: HashMap<String, (Array, PathBuf)>,
        source: PathBuf,
        quantization: QuantizationConfig,
        dtype: Option<Dtype>,
    ) -> Self {
        let (prefix, taken) = (String::new(), vec![]);
        Weights { tensors, source, quantization, dtype, prefix, taken, parameters: 0 }
    }

    /// From here on names are looked up behind `prefix`, such as "language_model.".
    pub fn set_prefix(&mut self, prefix: &str) {
        self.prefix = prefix.to_string();
    }

    /// Whether a tensor is there.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(&format!("{}{name}", self.prefix))
    }

    /// Takes a floating-point tensor of the given shape.
    pub fn take(&mut self, name: &str, shape: &[i32]) -> Result<Array> {
        let tensor = self.take_float(name, shape)?;
        self.parameters += tensor.size() as u64;
        Ok(tensor)
    }

    /// Takes the matrix `<prefix>.weight` of shape `[rows, columns]`, quantised if `<prefix>.scales` is
    /// there.
    pub(super) fn take_matrix(&mut self, prefix: &str, rows: i32, columns: i32) -> Result<Matrix> {
        let name = |part: &str| format!("{prefix}.{part}");
        if !self.has(&name("scales")) {
            return self.take(&name("weight"), &[rows, columns]).map(Matrix::Dense);
        }
        let full = format!("{}{prefix}", self.prefix);
        let settings = self.quantization.layers.get(&full).or(self.quantization.default.as_ref());
        let quantization = *settings.ok_or_else(|| {
            Error::BadModel(format!(
                "config.json: `quantization` is missing, but the checkpoint holds `{full}.scales`"
            ))
        })?;
        let Quantization { group_size, bits } = quantization;
        if columns % group_size != 0 {
            return Err(Error::BadModel(format!(
                "config.json: `quantization.group_size` is {group_size}, which does not divide the {columns} \
                 columns of `{full}.weight`"
            )));
        }
        let packed = self.take_raw(&name("weight"), &[rows, columns * bits / 32])?;
        if packed.dtype() != Dtype::U32 {
            return Err(self.wrong_dtype(&name("weight"), &packed, "uint32 (packed)"));
        }
        self.taken.push(packed.clone());
        self.parameters += rows as u64 * columns as u64;
        let groups = [rows, columns / group_size];
        let scales = self.take_float(&name("scales"), &groups)?;
        let biases = self.take_float(&name("biases"), &groups)?;
        Ok(Matrix::Quantized { packed, scales, biases, quantization })
    }

    /// Remembers an array that a layer computes from its tensors and keeps.
    pub fn derived(&mut self, array: Array) -> Array {
        self.taken.push(array.clone());
        array
    }

    /// Everything that was taken, for evaluation, and the number of parameters.
    pub fn into_taken(self) -> (Vec<Array>, u64) {
        (self.taken, self.parameters)
    }

    fn take_float(&mut self, name: &str, shape: &[i32]) -> Result<Array> {
        let tensor = self.take_raw(name, shape)?;
        if !tensor.dtype().is_float() {
            return Err(self.wrong_dtype(name, &tensor, "float32, float16 or bfloat16"));
        }
        let tensor = match self.dtype {
            Some(dtype) if dtype != tensor.dtype() => ops::astype(&tensor, dtype)?,
            _ => tensor,
        };
        self.taken.push(tensor.clone());
        Ok(tensor)
    }

    fn take_raw(&mut self, name: &str, shape: &[i32]) -> Result<Array> {
        let full = format!("{}{name}", self.prefix);
        let Some((tensor, file)) = self.tensors.get(&full) else {
            return Err(Error::bad_file(&self.source, format!("tensor `{full}` is missing")));
        };
        if tensor.shape() != shape {
            return Err(Error::bad_file(
                file,
                format!("tensor `{full}` has shape {:?}, expected {shape:?}", tensor.shape()),
            ));
        }
        Ok(tensor.clone())
    }

    fn wrong_dtype(&self, name: &str, tensor: &Array, expected: &str) -> Error {
        let full = format!("{}{name}", self.prefix);
        let file = self.tensors.get(&full).map_or(&self.source, |(_, file)| file);
        Error::bad_file(file, format!("tensor `{full}` is {}, expected {expected}", tensor.dtype()))
    }
}
