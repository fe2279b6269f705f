//! A GGUF file's metadata as the config.json that models read. Keys and defaults are those of llama.cpp's
//! llama-hparams and llama-model.

use super::architecture::Architecture;
use super::reader::{Gguf, Tensor, Value};
use super::weights;
use crate::error::{Error, Result};
use crate::mlx::ops::Quantization;
use crate::models::{Config, MAX_SIZE};
use serde_json::{Map, Value as Json, json};
use std::collections::HashMap;

/// The tensor that holds what Llama 3's rotary scaling makes of each period.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// What stands in `general.architecture`.
pub(super) fn architecture(gguf: &Gguf) -> Result<&'static Architecture> {
    const KEY: &str = "general.architecture";
    let name = gguf.text(KEY)?.ok_or_else(|| gguf.bad(KEY, "a text"))?;
    Architecture::find(name).ok_or_else(|| {
        Error::Unsupported(format!(
            "{}: `{KEY}` is \"{name}\"; known are {}",
            gguf.file().display(),
            Architecture::names()
        ))
    })
}

/// The configuration. `tensors` are those of all of a model's files, whose first is `gguf`, and
/// `rope_factors` the values of the tensor `rope_freqs.weight` where there is one.
pub fn config(gguf: &Gguf, tensors: &[&Tensor], rope_factors: Option<Vec<f32>>) -> Result<Config> {
    let architecture = architecture(gguf)?;
    let keys = Keys { gguf, prefix: architecture.gguf_name };
    let find = |name: &str| tensors.iter().find(|tensor| tensor.name == name);
    let has = |name: &str| find(name).is_some();
    let embedding = find("token_embd.weight")
        .ok_or_else(|| Error::bad_file(gguf.file(), "tensor `token_embd.weight` is missing"))?;

    let width = keys.size("embedding_length")?;
    let heads = keys.size("attention.head_count")?;
    let head_dim = keys.optional_size("attention.key_length")?.unwrap_or(width / heads);
    // What the models do not compute must not pass for what they do.
    keys.must_be("attention.value_length", head_dim)?;
    keys.must_be("rope.dimension_count", head_dim)?;
    keys.must_be("expert_count", 0)?;

    let mut config = json!({
        "model_type": architecture.model_type,
        "hidden_size": width,
        "num_hidden_layers": keys.size("block_count")?,
        "intermediate_size": keys.size("feed_forward_length")?,
        "num_attention_heads": heads,
        "num_key_value_heads": keys.optional_size("attention.head_count_kv")?.unwrap_or(heads),
        "head_dim": head_dim,
        "rms_norm_eps": keys.float("attention.layer_norm_rms_epsilon")?,
        "vocab_size": embedding.shape.first(),
        "max_position_embeddings": keys.size("context_length")?,
        "rope_theta": keys.optional_float("rope.freq_base")?.unwrap_or(10_000.0),
        "rope_traditional": architecture.rope_traditional,
        "tie_word_embeddings": !has("output.weight"),
        "attention_bias": has("blk.0.attn_q.bias"),
        "mlp_bias": has("blk.0.ffn_gate.bias"),
    });
    if let Some(scaling) = rope_scaling(&keys, rope_factors)? {
        config["rope_scaling"] = scaling;
    }
    if architecture.is_gemma() {
        gemma(&keys, head_dim, &mut config)?;
    }
    if let Some(quantization) = quantization(architecture, tensors) {
        config["quantization"] = quantization;
    }
    Ok(Config::new(gguf.file(), config))
}

/// Gemma's keys. `query_pre_attn_scalar` is not among them: llama.cpp, too, knows it by the size.
fn gemma(keys: &Keys, head_dim: i32, config: &mut Json) -> Result<()> {
    const LAYERS_OF_27B: i32 = 62;
    let (width, heads) = (keys.size("embedding_length")?, keys.size("attention.head_count")?);
    let of_27b = keys.size("block_count")? == LAYERS_OF_27B;
    config["query_pre_attn_scalar"] = if of_27b { (width / heads).into() } else { head_dim.into() };
    config["sliding_window"] = keys.size("attention.sliding_window")?.into();
    config["sliding_window_pattern"] =
        keys.optional_size("attention.sliding_window_pattern")?.unwrap_or(6).into();
    config["rope_local_base_freq"] = keys.optional_float("rope.freq_base_swa")?.unwrap_or(10_000.0).into();
    Ok(())
}

fn rope_scaling(keys: &Keys, factors: Option<Vec<f32>>) -> Result<Option<Json>> {
    if let Some(factors) = factors {
        return Ok(Some(json!({"rope_type": "factors", "factors": factors})));
    }
    let kind = match keys.gguf.text(&keys.full("rope.scaling.type"))? {
        None | Some("none") => return Ok(None),
        Some(kind) => kind,
    };
    let mut scaling = Map::new();
    scaling.insert("rope_type".into(), kind.into());
    for (ours, theirs) in [
        ("rope.scaling.factor", "factor"),
        ("rope.scaling.original_context_length", "original_max_position_embeddings"),
        ("rope.scaling.attn_factor", "attention_factor"),
        ("rope.scaling.yarn_beta_fast", "beta_fast"),
        ("rope.scaling.yarn_beta_slow", "beta_slow"),
    ] {
        if let Some(value) = keys.optional_float(ours)? {
            scaling.insert(theirs.into(), value.into());
        }
    }
    Ok(Some(scaling.into()))
}

/// `quantization` as mlx-lm writes it: what most values are stored in, and the matrices that differ.
fn quantization(architecture: &Architecture, tensors: &[&Tensor]) -> Option<Json> {
    let mut sizes = HashMap::new();
    let mut matrices = vec![];
    for tensor in tensors {
        let Some(Quantization { bits, group_size, .. }) = weights::quantization(tensor) else { continue };
        *sizes.entry((bits, group_size)).or_insert(0u64) += tensor.bytes;
        matrices.push((tensor.name, (bits, group_size)));
    }
    let (common, _) = sizes.into_iter().max_by_key(|&(setting, size)| (size, setting))?;
    let json = |(bits, group_size)| json!({"bits": bits, "group_size": group_size});
    let mut all = json(common);
    for (name, setting) in matrices.into_iter().filter(|(_, setting)| *setting != common) {
        if let Some(name) = architecture.name_of(name) {
            all[name.trim_end_matches(".weight")] = json(setting);
        }
    }
    Some(all)
}

/// The keys of one architecture.
struct Keys<'a> {
    gguf: &'a Gguf<'a>,
    prefix: &'static str,
}

impl Keys<'_> {
    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    fn optional_int(&self, key: &str) -> Result<Option<i32>> {
        let key = self.full(key);
        let Some(Value::List(_)) = self.gguf.get(&key) else { return self.gguf.int(&key) };
        // One value a layer: fine while all are equal.
        let values = self.gguf.ints(&key)?.unwrap_or_default();
        match values.first().and_then(|&first| i32::try_from(first).ok()) {
            Some(first @ 0..) if values.iter().all(|&value| value == first.into()) => Ok(Some(first)),
            _ => Err(Error::Unsupported(format!(
                "{}: `{key}`: layers that differ are not supported",
                self.gguf.file().display()
            ))),
        }
    }

    /// A size that layers are built from: a broken one must not become a huge allocation.
    fn optional_size(&self, key: &str) -> Result<Option<i32>> {
        match self.optional_int(key)? {
            Some(size) if !(1..=MAX_SIZE).contains(&size) => {
                Err(self.gguf.bad(&self.full(key), format!("a number from 1 to {MAX_SIZE}, found {size}")))
            }
            size => Ok(size),
        }
    }

    fn size(&self, key: &str) -> Result<i32> {
        self.optional_size(key)?.ok_or_else(|| self.gguf.bad(&self.full(key), "a number"))
    }

    fn optional_float(&self, key: &str) -> Result<Option<f32>> {
        self.gguf.float(&self.full(key))
    }

    fn float(&self, key: &str) -> Result<f32> {
        self.optional_float(key)?.ok_or_else(|| self.gguf.bad(&self.full(key), "a number"))
    }

    fn must_be(&self, key: &str, wanted: i32) -> Result<()> {
        match self.optional_int(key)? {
            Some(found) if found != wanted => Err(Error::Unsupported(format!(
                "{}: `{}` is {found}; {wanted} is supported",
                self.gguf.file().display(),
                self.full(key)
            ))),
            _ => Ok(()),
        }
    }
}
