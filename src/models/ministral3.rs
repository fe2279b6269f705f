//! Ministral 3 (Mistral AI 2025): Llama with YaRN, and queries that grow with their position as in
//! Llama 4. Published in 8-bit floats with one scale a matrix.

use super::{Config, Model, llama};
use crate::error::{Error, Result};
use crate::mlx::{Array, Dtype, ops};
use crate::nn::{QueryGain, Weights};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Args {
    num_hidden_layers: i32,
    rope_parameters: RopeParameters,
}

/// What the model needs beside the rotation's own settings.
#[derive(Debug, Deserialize)]
struct RopeParameters {
    llama_4_scaling_beta: f32,
    original_max_position_embeddings: i32,
}

/// Loads a `ministral3` checkpoint.
pub(super) fn load(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    let Args { num_hidden_layers, rope_parameters: rope } = config.args()?;
    let context = rope.original_max_position_embeddings;
    config.check_sizes(&[
        ("num_hidden_layers", num_hidden_layers),
        ("rope_parameters.original_max_position_embeddings", context),
    ])?;
    unscale(weights, num_hidden_layers)?;
    let gain = QueryGain { strength: rope.llama_4_scaling_beta, context: context as f32 };
    llama::load_variant(config, weights, |_, attention| attention.query_gain = Some(gain))
}

/// Multiplies matrices by their `weight_scale_inv`, where there is one.
fn unscale(weights: &mut Weights, layers: i32) -> Result<()> {
    let attention = ["q", "k", "v", "o"].map(|name| format!("self_attn.{name}_proj"));
    let mlp = ["gate", "up", "down"].map(|name| format!("mlp.{name}_proj"));
    for layer in 0..layers {
        for matrix in attention.iter().chain(&mlp) {
            let name = format!("model.layers.{layer}.{matrix}.weight");
            let Some((scale, file)) = weights.remove(&format!("{name}_scale_inv")) else { continue };
            if scale.size() != 1 || !scale.dtype().is_float() {
                return Err(Error::Unsupported(format!(
                    "{}: tensor `{name}_scale_inv` has shape {:?}; known is one number a matrix",
                    file.display(),
                    scale.shape()
                )));
            }
            if let Some((weight, file)) = weights.remove(&name) {
                weights.insert(&name, scaled(&weight, &scale)?, &file);
            }
        }
    }
    Ok(())
}

/// `weight * scale`; bytes are 8-bit floats. (mlx-lm 0.32.2 takes them for integers.)
fn scaled(weight: &Array, scale: &Array) -> Result<Array> {
    match weight.dtype() {
        Dtype::U8 => ops::multiply(&ops::from_fp8(weight, scale.dtype())?, scale),
        _ => ops::multiply(weight, scale),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::QuantizationConfig;
    use std::collections::HashMap;

    const NAME: &str = "model.layers.1.self_attn.k_proj.weight";

    /// The matrix that bytes 1.0, -2.0, 448.0 and the smallest number become with the given scale.
    fn published(scale: Array) -> Result<Vec<f32>> {
        let bytes = Array::from_i32(&[0x38, 0xc0, 0x7e, 0x01], &[2, 2])?;
        let tensors =
            [(NAME.to_string(), ops::astype(&bytes, Dtype::U8)?), (format!("{NAME}_scale_inv"), scale)];
        let tensors: HashMap<_, _> = tensors.map(|(name, array)| (name, (array, "file".into()))).into();
        let mut weights = Weights::new(tensors, "folder".into(), QuantizationConfig::default(), None);
        unscale(&mut weights, 2)?;
        weights.take(NAME, &[2, 2])?.to_vec_f32()
    }

    #[test]
    fn bytes_are_8_bit_floats() {
        let matrix = published(Array::scalar(0.5).unwrap()).unwrap();
        assert_eq!(matrix, [0.5, -1.0, 224.0, 2f32.powi(-10)]);
    }

    #[test]
    fn scales_of_blocks_are_refused() {
        let scales = Array::from_f32(&[1.0, 2.0], &[1, 2]).unwrap();
        let message = published(scales).unwrap_err().to_string();
        assert!(message.contains(&format!("`{NAME}_scale_inv` has shape [1, 2]")), "{message}");
    }
}
