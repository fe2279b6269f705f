//! Gemma 3, the text part (Gemma Team 2025): local layers with a sliding window and a small rotary
//! base, every `sliding_window_pattern`th layer global; norms before and after each block, stored
//! as `weight - 1`; embeddings scaled by the root of their width.

use super::parts::decoder::Decoder;
use super::parts::sandwich::{Sandwich, SandwichNorms};
use super::{Config, Dims, Model};
use crate::error::Result;
use crate::mlx::{Array, Dtype, ops};
use crate::nn::{Activation, AttentionSpec, Mlp, QkNorms, RmsNorm, Rope, RopeScaling, Weights, add};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Args {
    hidden_size: i32,
    num_hidden_layers: i32,
    intermediate_size: i32,
    num_attention_heads: i32,
    num_key_value_heads: i32,
    head_dim: i32,
    rms_norm_eps: f32,
    vocab_size: i32,
    rope_theta: f32,
    rope_local_base_freq: f32,
    rope_scaling: Option<RopeScaling>,
    query_pre_attn_scalar: f32,
    sliding_window: i32,
    sliding_window_pattern: i32,
    max_position_embeddings: i32,
    /// Which layers slide, where newer configs list them.
    layer_types: Option<Vec<String>>,
    /// The rotary settings in newer configs.
    rope_parameters: Option<RopeParameters>,
}

/// Rotary settings of each kind of layer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RopeParameters {
    pub sliding_attention: RopeScaling,
    pub full_attention: RopeScaling,
}

impl Default for Args {
    /// Gemma 3 1B: published configs leave out what equals it.
    fn default() -> Self {
        Args {
            hidden_size: 1152,
            num_hidden_layers: 26,
            intermediate_size: 6912,
            num_attention_heads: 4,
            num_key_value_heads: 1,
            head_dim: 256,
            rms_norm_eps: 1e-6,
            vocab_size: 262_144,
            rope_theta: 1_000_000.0,
            rope_local_base_freq: 10_000.0,
            rope_scaling: None,
            query_pre_attn_scalar: 256.0,
            sliding_window: 512,
            sliding_window_pattern: 6,
            max_position_embeddings: 32_768,
            layer_types: None,
            rope_parameters: None,
        }
    }
}

impl Args {
    /// The window of each layer.
    fn windows(&self, config: &Config) -> Result<Vec<Option<i32>>> {
        let (types, window) = (self.layer_types.as_deref(), Some(self.sliding_window));
        let slides = |layer: i32| (layer + 1) % self.sliding_window_pattern != 0;
        config.windows(types, self.num_hidden_layers, window, slides)
    }

    fn rope(&self, slides: bool) -> Result<Rope> {
        let (theta, scaling) = match slides {
            true => (self.rope_local_base_freq, None),
            false => (self.rope_theta, self.rope_scaling.as_ref()),
        };
        let newer = self.rope_parameters.as_ref().map(|parameters| match slides {
            true => &parameters.sliding_attention,
            false => &parameters.full_attention,
        });
        let theta = newer.and_then(|parameters| parameters.rope_theta).unwrap_or(theta);
        Rope::new(self.head_dim, theta, false, newer.or(scaling), self.max_position_embeddings)
    }

    fn dims(&self) -> Dims {
        Dims {
            vocab_size: self.vocab_size,
            num_layers: self.num_hidden_layers,
            hidden_size: self.hidden_size,
            num_heads: self.num_attention_heads,
            num_kv_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
            context_length: self.max_position_embeddings,
        }
    }
}

fn layer(args: &Args, window: Option<i32>, weights: &mut Weights, prefix: &str) -> Result<Sandwich> {
    let (width, hidden, eps) = (args.hidden_size, args.intermediate_size, args.rms_norm_eps);
    let spec = AttentionSpec {
        scale: args.query_pre_attn_scalar.powf(-0.5),
        norms: QkNorms::PerHeadOffset(eps),
        window,
        ..args.dims().attention(Some(args.rope(window.is_some())?))
    };
    let mlp = Mlp::load(weights, &format!("{prefix}.mlp"), width, hidden, false, Activation::GeluTanh)?;
    let mut layer = Sandwich::load(weights, prefix, SandwichNorms::gemma(eps), spec, mlp)?;
    layer.add = add_clipped;
    Ok(layer)
}

/// The residual sum. Gemma's stream leaves float16's range, so there it is clipped.
fn add_clipped(x: &Array, y: &Array) -> Result<Array> {
    if x.dtype() != Dtype::F16 {
        return add(x, y);
    }
    let sum = ops::add(&ops::astype(x, Dtype::F32)?, &ops::astype(y, Dtype::F32)?)?;
    let bound = 65_504.0;
    let clipped = ops::clip(&sum, &Array::scalar(-bound)?, &Array::scalar(bound)?)?;
    ops::astype(&clipped, Dtype::F16)
}

/// Loads a `gemma3_text` checkpoint.
pub(super) fn load(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    let args: Args = config.args()?;
    config.check_sizes(&[
        ("sliding_window", args.sliding_window),
        ("sliding_window_pattern", args.sliding_window_pattern),
    ])?;
    let dims = args.dims();
    config.check_dims(&dims, args.intermediate_size)?;
    let windows = args.windows(config)?;
    let norm = RmsNorm::load_offset(weights, "model.norm", args.hidden_size, args.rms_norm_eps)?;
    let tied = !weights.has("lm_head.weight");
    let mut decoder = Decoder::load(weights, dims, tied, norm, |weights, index, prefix| {
        layer(&args, windows[index as usize], weights, prefix)
    })?;
    // Gemma was trained with the factor rounded to bfloat16.
    let scale = Array::scalar((args.hidden_size as f32).sqrt())?;
    decoder.embedding_scale = ops::astype(&scale, Dtype::BF16)?.to_vec_f32()?[0];
    Ok(Box::new(decoder))
}

/// Loads the text part of a multimodal `gemma3` checkpoint.
pub(super) fn load_multimodal(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    let text = text_config(config, [262_208, 4])?;
    weights.set_prefix("language_model.");
    load(&text, weights)
}

/// A multimodal Gemma's `text_config`, with what stands outside it, and for what equals the first
/// published models and is left out, their context, and the first one's vocabulary and key-value heads.
pub(super) fn text_config(config: &Config, [vocabulary, kv_heads]: [i32; 2]) -> Result<Config> {
    let mut text = config.nested("text_config")?;
    if let Some(outside) = config.get("vocab_size") {
        text = text.with("vocab_size", outside.clone());
    }
    let defaults = [
        ("vocab_size", vocabulary),
        ("num_attention_heads", 8),
        ("num_key_value_heads", kv_heads),
        ("max_position_embeddings", 131_072),
    ];
    for (key, default) in defaults {
        if text.get(key).is_none() {
            text = text.with(key, default.into());
        }
    }
    Ok(text)
}
