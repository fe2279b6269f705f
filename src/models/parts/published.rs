//! Formats in which publishers store matrices and MLX does not.

use crate::error::{Error, Result};
use crate::mlx::{Dtype, ops};
use crate::nn::Weights;

/// Rows and columns that share a factor.
const FP8_BLOCK: i32 = 128;

/// DeepSeek's 8-bit floats (e4m3) with a factor for each block of 128 by 128, `<name>_scale_inv`, become
/// bfloat16, as in mlx-lm.
pub fn dequantize_fp8(weights: &mut Weights) -> Result<()> {
    for scale_name in weights.names_ending("weight_scale_inv") {
        let name = scale_name.strip_suffix("_scale_inv").unwrap_or(&scale_name);
        let (Some((codes, file)), Some((factors, _))) = (weights.remove(name), weights.remove(&scale_name))
        else {
            return Err(weights.missing(name));
        };
        let &[rows, columns] = codes.shape() else {
            return Err(Error::bad_file(&file, format!("tensor `{name}`: expected a matrix")));
        };
        if codes.dtype() != Dtype::U8 {
            let found = codes.dtype();
            return Err(Error::bad_file(&file, format!("tensor `{name}` is {found}, expected 8-bit floats")));
        }
        let blocks = [rows, columns].map(|size| size.saturating_add(FP8_BLOCK - 1) / FP8_BLOCK);
        if factors.shape() != blocks {
            let found = factors.shape();
            let text = format!("tensor `{scale_name}` has shape {found:?}, expected {blocks:?}");
            return Err(Error::bad_file(&file, text));
        }
        let mut spread = factors;
        for (axis, size) in [rows, columns].into_iter().enumerate() {
            spread = ops::slice(&ops::repeat(&spread, FP8_BLOCK, axis as i32)?, axis, 0, size)?;
        }
        let matrix = ops::multiply(&ops::from_fp8(&codes, Dtype::BF16)?, &spread)?;
        weights.insert(name, ops::astype(&matrix, Dtype::BF16)?, &file);
    }
    Ok(())
}

/// Kimi's 4-bit integers, `<name>_packed` with `<name>_scale`, stand for `scale * (value - 8)`: MLX's
/// affine format with biases of `-8 * scale`.
pub fn unpack_int4(weights: &mut Weights) -> Result<()> {
    for shape_name in weights.names_ending(".weight_shape") {
        let layer = shape_name.strip_suffix(".weight_shape").unwrap_or(&shape_name);
        let part = |name: &str| format!("{layer}.{name}");
        weights.remove(&shape_name);
        let (packed_name, scale_name) = (part("weight_packed"), part("weight_scale"));
        let (packed, file) = weights.remove(&packed_name).ok_or_else(|| weights.missing(&packed_name))?;
        let (scales, _) = weights.remove(&scale_name).ok_or_else(|| weights.missing(&scale_name))?;
        let biases = ops::scale(&scales, -8.0)?;
        weights.insert(&part("weight"), ops::view(&packed, Dtype::U32)?, &file);
        weights.insert(&part("scales"), scales, &file);
        weights.insert(&part("biases"), biases, &file);
    }
    Ok(())
}
