//! Mistral Small 3.1 and other multimodal models whose text part is a Llama, a Mistral or a
//! Ministral 3 (Mistral AI 2025). The text part alone is loaded.

use super::{Config, Model, llama, ministral3};
use crate::error::{Error, Result};
use crate::nn::Weights;

/// Loads the text part of a `mistral3` checkpoint.
pub(super) fn load(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    let mut text = config.nested("text_config")?;
    if text.get("tie_word_embeddings").is_none() {
        text = text.with("tie_word_embeddings", false.into());
    }
    // Publishers write `model.language_model.layers`, `language_model.model.layers` or plain names.
    weights.rename(|name| match name.strip_prefix("model.language_model.") {
        _ if name.contains("vision_tower") || name.contains("multi_modal_projector") => name.into(),
        Some(rest) => format!("language_model.model.{rest}"),
        None => format!("language_model.{}", name.strip_prefix("language_model.").unwrap_or(name)),
    });
    weights.set_prefix("language_model.");
    match text.get("model_type").and_then(|kind| kind.as_str()) {
        Some("ministral3") => ministral3::load(&text, weights),
        Some("mistral4") => Err(Error::Unsupported(format!(
            "{}: `text_config.model_type` is \"mistral4\"; known are ministral3, mistral, llama",
            config.file().display()
        ))),
        _ => llama::load(&text, weights),
    }
}
