//! The model architectures, one file each, and the registry that finds them by `model_type`. What several
//! of them are made of lies in `parts`.
//!
//! To add one: write its file (arguments from config.json, and the blocks that are its own) and its line
//! in [`REGISTRY`].

mod cohere2;
mod config;
mod deepseek_v3;
mod gemma2;
mod gemma3;
mod gemma4;
mod glm4;
mod gpt_oss;
mod granite;
mod lfm2;
mod llama;
mod ministral3;
mod mistral3;
mod mixtral;
mod olmo2;
mod olmo3;
mod parts;
mod phi3;
mod qwen2;
mod qwen3;
mod qwen3_5;
mod qwen3_moe;
mod smollm3;

pub use config::{Config, MAX_SIZE};

use crate::error::{Error, Result};
use crate::mlx::Array;
use crate::nn::{AttentionSpec, Batch, Cache, Pass, Rope, Weights};

/// What every architecture can do.
pub trait Model {
    /// Runs token ids `[1, length]`, those of the batch's sequences packed, behind what their caches
    /// hold; gives `[1, length, width]`.
    fn forward(&self, ids: &Array, batch: &mut Batch, pass: &Pass) -> Result<Array>;

    /// The logits `[.., vocabulary]` of what [`Model::forward`] gave.
    fn logits(&self, hidden: &Array) -> Result<Array>;

    /// Empty caches for a sequence: one a layer that has a memory of its own.
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
    ("cohere2", cohere2::load),
    ("deepseek_v3", deepseek_v3::load),
    ("gemma2", gemma2::load),
    ("gemma3", gemma3::load_multimodal),
    ("gemma3_text", gemma3::load),
    ("gemma4", gemma4::load_multimodal),
    ("gemma4_text", gemma4::load),
    ("gemma4_unified", gemma4::load_multimodal),
    ("glm4", glm4::load),
    ("gpt_oss", gpt_oss::load),
    ("granite", granite::load),
    ("kimi_k2", deepseek_v3::load),
    ("lfm2", lfm2::load),
    ("llama", llama::load),
    ("ministral3", ministral3::load),
    ("mistral", llama::load),
    ("mistral3", mistral3::load),
    ("mixtral", mixtral::load),
    ("olmo2", olmo2::load),
    ("olmo3", olmo3::load),
    ("phi3", phi3::load),
    ("qwen2", qwen2::load),
    ("qwen3", qwen3::load),
    ("qwen3_5", qwen3_5::load),
    ("qwen3_5_moe", qwen3_5::load),
    ("qwen3_moe", qwen3_moe::load),
    ("smollm3", smollm3::load),
];

/// Those that are published in 8-bit floats with scales, and make 16-bit ones of them.
const DEQUANTIZES_FP8: [&str; 4] = ["deepseek_v3", "kimi_k2", "ministral3", "mistral3"];

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
