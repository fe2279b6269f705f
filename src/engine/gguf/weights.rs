//! Which tensors of a GGUF file become which tensors of a model.

use super::architecture::Architecture;
use super::reader::{Gguf, Tensor};
use super::source::{Content, Part, Stored};
use crate::error::{Error, Result};
use crate::mlx::Dtype;
use crate::mlx::ops::{QuantMode, Quantization};

/// The parts that a file's tensors become. `dtype`: of everything but packed weights.
pub(super) fn parts(gguf: &Gguf, architecture: &Architecture, dtype: Dtype) -> Result<Vec<Part>> {
    let mut parts = vec![];
    for tensor in gguf.tensors() {
        // The configuration holds these.
        if tensor.name == super::config::ROPE_FACTORS {
            continue;
        }
        let name = architecture.name_of(tensor.name).ok_or_else(|| {
            Error::Unsupported(format!(
                "{}: tensor `{}` is none of architecture {}",
                gguf.file().display(),
                tensor.name,
                architecture.gguf_name
            ))
        })?;
        match quantization(tensor) {
            Some(quantization) => parts.extend(affine(tensor, &name, quantization, dtype)),
            None => {
                let less_one = architecture.norms_plus_one && name.ends_with("norm.weight");
                let content = if less_one { Content::LessOne } else { Content::Values };
                parts.push(part(tensor, name, tensor.columns(), dtype, content));
            }
        }
    }
    Ok(parts)
}

/// What to compute in where nobody says: the type of most weights, or float16 where they are blocks of
/// integers. bfloat16 for Gemma, whose values leave float16's range.
pub(super) fn own_dtype<'a>(
    tensors: impl Iterator<Item = &'a Tensor<'a>>,
    architecture: &Architecture,
) -> Dtype {
    let largest = tensors.max_by_key(|tensor| tensor.bytes);
    let blocks = if architecture.is_gemma() { Dtype::BF16 } else { Dtype::F16 };
    largest.and_then(|tensor| tensor.format.dtype).unwrap_or(blocks)
}

/// How MLX holds a matrix without decoding it; `None`: it is decoded.
pub(super) fn quantization(tensor: &Tensor) -> Option<Quantization> {
    let affine = tensor.format.affine.filter(|_| tensor.shape.len() == 2)?;
    Quantization::new(QuantMode::Affine, tensor.format.block as i32, affine.bits as i32)
}

fn affine(tensor: &Tensor, name: &str, quantization: Quantization, dtype: Dtype) -> [Part; 3] {
    let prefix = name.strip_suffix(".weight").unwrap_or(name);
    let packed = tensor.columns() * quantization.bits as usize / 32;
    let groups = tensor.columns() / quantization.group_size as usize;
    [
        part(tensor, format!("{prefix}.weight"), packed, Dtype::U32, Content::Packed),
        part(tensor, format!("{prefix}.scales"), groups, dtype, Content::Scales),
        part(tensor, format!("{prefix}.biases"), groups, dtype, Content::Biases),
    ]
}

fn part(tensor: &Tensor, name: String, columns: usize, dtype: Dtype, content: Content) -> Part {
    let mut shape: Vec<usize> = tensor.shape.iter().map(|&size| size as usize).collect();
    if let Some(last) = shape.last_mut() {
        *last = columns;
    }
    let stored = Stored { format: tensor.format, offset: tensor.offset, bytes: tensor.bytes };
    Part { name, shape, dtype, content, stored }
}
