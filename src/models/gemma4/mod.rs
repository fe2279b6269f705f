//! Gemma 4, the text part (Google 2026): local layers with a sliding window, every
//! `sliding_window_pattern`th layer global with wider heads; norms around each part. The small models
//! give each layer a vector of the token (per-layer embeddings, from Gemma 3n) and let the last layers
//! attend to keys and values of earlier ones; the large ones use keys as values in global layers, and
//! one has experts beside its feed-forward part.

mod attention;
mod experts;
mod layer;
mod per_layer;

use super::gemma3::{RopeParameters, text_config};
use super::parts::decoder::Decoder;
use super::{Config, Dims, Model};
use crate::error::Result;
use crate::mlx::{Array, ops};
use crate::nn::{Batch, Cache, Pass, RmsNorm, Rope, RopeScaling, Weights};
use layer::Layer;
use per_layer::PerLayerInputs;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Args {
    hidden_size: i32,
    num_hidden_layers: i32,
    intermediate_size: i32,
    num_attention_heads: i32,
    head_dim: i32,
    /// Of global layers; none: as the others.
    global_head_dim: Option<i32>,
    rms_norm_eps: f32,
    vocab_size: i32,
    vocab_size_per_layer_input: i32,
    num_key_value_heads: i32,
    /// Of global layers whose keys are values too; none: as the others.
    num_global_key_value_heads: Option<i32>,
    /// So many of the last layers have no keys and values of their own.
    num_kv_shared_layers: i32,
    /// Width of the per-layer embeddings; 0 or none: there are none.
    hidden_size_per_layer_input: Option<i32>,
    rope_traditional: bool,
    rope_parameters: Option<RopeParameters>,
    sliding_window: i32,
    sliding_window_pattern: i32,
    max_position_embeddings: i32,
    attention_k_eq_v: bool,
    final_logit_softcapping: Option<f32>,
    /// Layers without keys and values of their own get twice the `intermediate_size`.
    use_double_wide_mlp: bool,
    enable_moe_block: bool,
    num_experts: Option<i32>,
    top_k_experts: Option<i32>,
    moe_intermediate_size: Option<i32>,
    layer_types: Option<Vec<Kind>>,
    tie_word_embeddings: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    SlidingAttention,
    FullAttention,
}

/// The rotary settings that hold where config.json has none.
fn published_rope() -> RopeParameters {
    let full_attention = RopeScaling {
        rope_type: Some("proportional".into()),
        rope_theta: Some(1_000_000.0),
        partial_rotary_factor: Some(0.25),
        ..Default::default()
    };
    RopeParameters { full_attention, ..Default::default() }
}

impl Default for Args {
    /// Gemma 4 E2B.
    fn default() -> Self {
        Args {
            hidden_size: 1536,
            num_hidden_layers: 35,
            intermediate_size: 6144,
            num_attention_heads: 8,
            head_dim: 256,
            global_head_dim: Some(512),
            rms_norm_eps: 1e-6,
            vocab_size: 262_144,
            vocab_size_per_layer_input: 262_144,
            num_key_value_heads: 1,
            num_global_key_value_heads: None,
            num_kv_shared_layers: 20,
            hidden_size_per_layer_input: Some(256),
            rope_traditional: false,
            rope_parameters: None,
            sliding_window: 512,
            sliding_window_pattern: 5,
            max_position_embeddings: 131_072,
            attention_k_eq_v: false,
            final_logit_softcapping: Some(30.0),
            use_double_wide_mlp: true,
            enable_moe_block: false,
            num_experts: None,
            top_k_experts: None,
            moe_intermediate_size: None,
            layer_types: None,
            tie_word_embeddings: true,
        }
    }
}

impl Args {
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

    /// The heads of a kind of layer.
    fn dims_of(&self, kind: Kind) -> Dims {
        let mut dims = self.dims();
        if kind == Kind::FullAttention {
            dims.head_dim = self.global_head_dim.filter(|&dim| dim != 0).unwrap_or(dims.head_dim);
            if self.attention_k_eq_v {
                dims.num_kv_heads = self.num_global_key_value_heads.unwrap_or(dims.num_kv_heads);
            }
        }
        dims
    }

    /// Every size that a layer is built from.
    fn check(&self, config: &Config) -> Result<()> {
        for kind in [Kind::SlidingAttention, Kind::FullAttention] {
            config.check_dims(&self.dims_of(kind), self.intermediate_size)?;
        }
        config.check_sizes(&[
            ("sliding_window", self.sliding_window),
            ("sliding_window_pattern", self.sliding_window_pattern),
        ])?;
        if let Some(width) = self.per_layer_width() {
            let all = width.saturating_mul(self.num_hidden_layers);
            config.check_sizes(&[
                ("hidden_size_per_layer_input", width),
                ("num_hidden_layers * hidden_size_per_layer_input", all),
                ("vocab_size_per_layer_input", self.vocab_size_per_layer_input),
            ])?;
            if self.vocab_size_per_layer_input < self.vocab_size {
                let expected = format!("at least `vocab_size` ({})", self.vocab_size);
                return Err(config.bad("vocab_size_per_layer_input", expected));
            }
        }
        if !(0..self.num_hidden_layers).contains(&self.num_kv_shared_layers) {
            let expected = format!("a number from 0 to {}", self.num_hidden_layers - 1);
            return Err(config.bad("num_kv_shared_layers", expected));
        }
        Ok(())
    }

    fn rope(&self, kind: Kind) -> Result<Rope> {
        let Dims { head_dim, context_length, .. } = self.dims_of(kind);
        let published = published_rope();
        let parameters = self.rope_parameters.as_ref().unwrap_or(&published);
        let parameters = match kind {
            Kind::SlidingAttention => &parameters.sliding_attention,
            Kind::FullAttention => &parameters.full_attention,
        };
        let theta = parameters.rope_theta.unwrap_or(10_000.0);
        Rope::new(head_dim, theta, self.rope_traditional, Some(parameters), context_length)
    }

    fn per_layer_width(&self) -> Option<i32> {
        self.hidden_size_per_layer_input.filter(|&width| width != 0)
    }

    /// What kind each layer is.
    fn kinds(&self, config: &Config) -> Result<Vec<Kind>> {
        let layers = self.num_hidden_layers as usize;
        let Some(kinds) = &self.layer_types else {
            let is_global = |layer| (layer + 1) % self.sliding_window_pattern == 0;
            let kind = |layer| if is_global(layer) { Kind::FullAttention } else { Kind::SlidingAttention };
            return Ok((0..self.num_hidden_layers).map(kind).collect());
        };
        let kinds = kinds.get(..layers);
        kinds.map(<[Kind]>::to_vec).ok_or_else(|| config.bad("layer_types", format!("{layers} names")))
    }
}

struct Gemma4 {
    decoder: Decoder<Layer>,
    per_layer_inputs: Option<PerLayerInputs>,
}

impl Model for Gemma4 {
    fn forward(&self, ids: &Array, batch: &mut Batch, pass: &Pass) -> Result<Array> {
        let mut h = self.decoder.embed(ids)?;
        let inputs = self.per_layer_inputs.as_ref().map(|inputs| inputs.forward(ids, &h)).transpose()?;
        let mut memories = vec![];
        for (index, layer) in self.decoder.blocks.iter().enumerate() {
            let at = index as i32;
            let of_layer = |inputs: &Array| ops::squeeze(&ops::slice(inputs, 2, at, at + 1)?, 2);
            let input = inputs.as_ref().map(of_layer).transpose()?;
            h = layer.forward(&h, batch, &mut memories, input.as_ref())?;
            pass.layer_done(&h)?;
        }
        self.decoder.norm.forward(&h)
    }

    fn logits(&self, hidden: &Array) -> Result<Array> {
        self.decoder.unembed(hidden)
    }

    fn new_caches(&self) -> Vec<Cache> {
        self.decoder.blocks.iter().filter_map(Layer::new_cache).collect()
    }

    fn dims(&self) -> Dims {
        self.decoder.dims
    }
}

/// Loads a `gemma4_text` checkpoint.
pub(super) fn load(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    let args: Args = config.args()?;
    args.check(config)?;
    let kinds = args.kinds(config)?;
    weights.keep_precise(&["router.proj"]);
    let norm = RmsNorm::load(weights, "model.norm", args.hidden_size, args.rms_norm_eps)?;
    let per_layer_inputs =
        args.per_layer_width().map(|width| PerLayerInputs::load(weights, &args, width)).transpose()?;
    let tied = args.tie_word_embeddings;
    let mut decoder = Decoder::load(weights, args.dims(), tied, norm, |weights, index, prefix| {
        Layer::load(config, &args, &kinds, index, weights, prefix)
    })?;
    decoder.embedding_scale = (args.hidden_size as f32).sqrt();
    decoder.logit_softcap = args.final_logit_softcapping;
    Ok(Box::new(Gemma4 { decoder, per_layer_inputs }))
}

/// Loads the text part of a multimodal `gemma4` or `gemma4_unified` checkpoint.
pub(super) fn load_multimodal(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    let text = text_config(config, [262_144, 1])?;
    // The publisher's names put the model outside, mlx-lm's the language model.
    weights.rename(|name| match name.strip_prefix("model.language_model.") {
        Some(rest) => format!("language_model.model.{rest}"),
        None => name.to_string(),
    });
    weights.set_prefix("language_model.");
    load(&text, weights)
}
