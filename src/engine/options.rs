//! What callers choose, and what a model says of itself.

use super::{Cancel, Session};
use crate::error::{Error, Result};
use crate::mlx::ops::Quantization;
use crate::mlx::{Device, Dtype};
use crate::nn::CacheOptions;
use std::path::PathBuf;
use std::sync::Arc;

/// How to load a model.
#[derive(Debug, Default, Clone)]
pub struct LoadOptions {
    /// Where to compute; `None`: on the GPU where there is one.
    pub device: Option<Device>,
    /// What to compute in; `None`: float32 on the CPU, the checkpoint's type on a GPU.
    pub dtype: Option<Dtype>,
    /// Most tokens of prompt and answer together; `None`: as many as the model was made for.
    pub context_length: Option<u32>,
    /// Compute quantised products in float32 on the CPU, and not with the input rounded to 8-bit integers,
    /// which is faster and as accurate as such weights are.
    pub exact: bool,
    /// Threads of the CPU's products, for all models of the process from now on; `None`: as before, at first
    /// one for each physical core that the process may use.
    pub threads: Option<u32>,
    /// Whether a model that is not on this disk may be downloaded.
    pub download: bool,
    /// Read weights into memory even where they could stay in their files.
    pub no_mmap: bool,
    /// How the model serves its callers.
    pub serving: ServingOptions,
    /// Stops loading.
    pub cancel: Option<Arc<Cancel>>,
}

/// How a model serves many callers.
#[derive(Debug, Clone)]
pub struct ServingOptions {
    /// Requests that are computed together; further ones wait.
    pub max_concurrent: usize,
    /// Requests that may wait; further ones are refused.
    pub max_queue: usize,
    /// Bytes that requests and idle sessions may take for keys, values and states; `None`: half of the
    /// device's memory.
    pub kv_budget: Option<usize>,
    /// The most bytes that the prefix cache holds besides; 0 switches it off, `None`: an eighth of the
    /// budget.
    pub prefix_cache_bytes: Option<usize>,
    /// A folder where the prefix cache stays when the model is closed, as many bytes of it.
    pub prefix_cache_folder: Option<PathBuf>,
    /// Whether generation goes on when the context is full, with so many of the first tokens and the last
    /// ones remembered; `None`: it ends.
    pub rotate_keeping: Option<usize>,
    /// How keys and values are kept; the limit is the context length where `rotate_keeping` is set.
    pub caches: CacheOptions,
}

impl Default for ServingOptions {
    fn default() -> Self {
        ServingOptions {
            max_concurrent: 32,
            max_queue: 1024,
            kv_budget: None,
            prefix_cache_bytes: None,
            prefix_cache_folder: None,
            rotate_keeping: None,
            caches: CacheOptions::default(),
        }
    }
}

/// How tokens are chosen.
#[derive(Debug, Clone)]
pub struct Sampling {
    /// Divides the logits before sampling; 0 takes the most likely token.
    pub temperature: f32,
    /// Keep this many most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep the most likely tokens that together reach this probability.
    pub top_p: f32,
    /// Drop tokens less likely than this times the most likely one.
    pub min_p: f32,
    /// Divides positive logits of recent tokens, multiplies negative ones; 1 is off.
    pub repetition_penalty: f32,
    /// How many recent tokens the penalty looks at.
    pub repetition_window: u32,
    /// `None`: another seed each time.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            repetition_window: 64,
            seed: None,
        }
    }
}

/// How to generate.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// Most tokens to generate.
    pub max_tokens: u32,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Don't stop at the model's own end-of-turn tokens.
    pub ignore_end: bool,
    /// Ids that end the answer besides the model's own.
    pub stop_tokens: Vec<i32>,
    /// Strings that end the answer.
    pub stop_strings: Vec<String>,
    /// The conversation to go on from; `None`: the prompt stands alone.
    pub session: Option<Arc<Session>>,
    /// With a session: whether the prompt is the whole conversation, of which the session may hold the
    /// beginning, or what comes behind it.
    pub whole_conversation: bool,
    /// Stops generating.
    pub cancel: Option<Arc<Cancel>>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        GenerateOptions {
            max_tokens: 256,
            sampling: Sampling::default(),
            ignore_end: false,
            stop_tokens: vec![],
            stop_strings: vec![],
            session: None,
            whole_conversation: false,
            cancel: None,
        }
    }
}

impl GenerateOptions {
    /// Whether the caller's cancel handle was triggered.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(|cancel| cancel.is_triggered())
    }

    /// Checks every value; NaN is in no range.
    pub fn check(&self, vocab_size: u32) -> Result<()> {
        let in_range = |name: &str, value: f32, low: f32, high: f32| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Error::BadArgument(format!("{name} is {value}, expected {low} to {high}")))
        };
        let sampling = &self.sampling;
        in_range("temperature", sampling.temperature, 0.0, 100.0)?;
        in_range("top_p", sampling.top_p, 0.0, 1.0)?;
        in_range("min_p", sampling.min_p, 0.0, 1.0)?;
        in_range("repetition_penalty", sampling.repetition_penalty, 0.01, 100.0)?;
        check_ids("stop_tokens", &self.stop_tokens, vocab_size)?;
        if self.stop_strings.iter().any(String::is_empty) {
            return Err(Error::BadArgument("stop_strings holds an empty string".into()));
        }
        Ok(())
    }
}

/// Checks that ids lie in the vocabulary.
pub fn check_ids(name: &str, ids: &[i32], vocab_size: u32) -> Result<()> {
    let bad = ids.iter().find(|&&id| u32::try_from(id).map_or(true, |id| id >= vocab_size));
    match bad {
        Some(id) => Err(Error::BadArgument(format!("{name}: token id {id} is not in 0..{vocab_size}"))),
        None => Ok(()),
    }
}

/// What a loaded model says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ModelInfo {
    /// `model_type` of config.json.
    pub architecture: String,
    /// Counted before quantisation.
    pub parameters: u64,
    /// Tensors of the checkpoint that the model has no use for: those of a vision tower, say.
    pub unused_tensors: u32,
    /// Bytes of the weights in memory.
    pub weight_bytes: u64,
    pub vocab_size: u32,
    pub num_layers: u32,
    pub hidden_size: u32,
    pub num_heads: u32,
    pub num_kv_heads: u32,
    pub head_dim: u32,
    /// Most tokens of prompt and answer together.
    pub context_length: u32,
    /// `None`: not quantised.
    pub quantization: Option<Quantization>,
    pub has_chat_template: bool,
    pub device: Device,
    /// The type of activations.
    pub dtype: Dtype,
}
