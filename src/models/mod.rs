//! The model architectures, one file each, and the registry that finds them by `model_type`.
//!
//! To add one: write its file (arguments from config.json, a struct, `forward`) and its line in
//! [`REGISTRY`].

mod config;
mod decoder;
mod gated_delta_net;
mod gemma3;
mod lfm2;
mod llama;
mod pre_norm;
mod qwen2;
mod qwen3;
mod qwen3_5;

pub use config::Config;

use crate::error::{Error, Result};
use crate::mlx::Array;
use crate::nn::{AttentionSpec, Cache, Pass, Rope, Weights};

/// What every architecture can do.
pub trait Model {
    /// Runs token ids `[1, length]` behind what the caches hold; gives `[1, length, width]`.
    fn forward(&self, ids: &Array, caches: &mut [Cache], pass: &Pass) -> Result<Array>;

    /// The logits `[.., vocabulary]` of what [`Model::forward`] gave.
    fn logits(&self, hidden: &Array) -> Result<Array>;

    /// Empty caches: one a layer that has a memory of its own.
    fn new_caches(&self) -> Vec<Cache>;

    /// The numbers that describe the model.
    fn dims(&self) -> Dims;
}

/// The numbers that describe a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Dims {
    pub vocab_size: i32,
    pub num_layers: i32,
    pub hidden_size: i32,
    pub num_heads: i32,
    pub num_kv_heads: i32,
    pub head_dim: i32,
    /// Positions the model was made for.
    pub context_length: i32,
}

impl Dims {
    /// Attention of this shape with the scale that is usual.
    fn attention(&self, rope: Option<Rope>) -> AttentionSpec {
        AttentionSpec::new(self.hidden_size, [self.num_heads, self.num_kv_heads], self.head_dim, rope)
    }
}

type Load = fn(&Config, &mut Weights) -> Result<Box<dyn Model>>;

/// Every `model_type` of config.json that can be loaded.
pub const REGISTRY: &[(&str, Load)] = &[
    ("gemma3", gemma3::load_multimodal),
    ("gemma3_text", gemma3::load),
    ("lfm2", lfm2::load),
    ("llama", llama::load),
    ("qwen2", qwen2::load),
    ("qwen3", qwen3::load),
    ("qwen3_5", qwen3_5::load),
    ("qwen3_5_moe", qwen3_5::load),
];

/// How to load a `model_type`.
pub fn find(config: &Config) -> Result<Load> {
    let wanted = config.model_type()?;
    let entry = REGISTRY.iter().find(|(name, _)| *name == wanted);
    entry.map(|(_, load)| *load).ok_or_else(|| {
        let known: Vec<_> = REGISTRY.iter().map(|(name, _)| *name).collect();
        Error::Unsupported(format!(
            "{}: `model_type` is \"{wanted}\"; known are {}",
            config.file().display(),
            known.join(", ")
        ))
    })
}
