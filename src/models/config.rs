//! config.json, and errors that name its keys.

use super::Dims;
use crate::error::{Error, Result};
use crate::mlx::ops::Quantization;
use crate::nn::{QuantizationConfig, RopeScaling};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A model's config.json.
#[derive(Debug, Clone)]
pub struct Config {
    file: PathBuf,
    json: Value,
}

impl Config {
    /// Reads the file.
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::NotFound(format!("{}: not there", file.display())),
            _ => Error::bad_file(file, error),
        })?;
        let json: Value = serde_json::from_str(&text).map_err(|error| Error::bad_file(file, error))?;
        if !json.is_object() {
            return Err(Error::bad_file(file, "expected a JSON object"));
        }
        Ok(Self::new(file, json))
    }

    /// Wraps an object that was made from `file`.
    pub fn new(file: &Path, json: Value) -> Self {
        Config { file: file.to_path_buf(), json }
    }

    /// Where it was read from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// `model_type`.
    pub fn model_type(&self) -> Result<&str> {
        let kind = self.json.get("model_type").and_then(Value::as_str);
        kind.ok_or_else(|| Error::bad_file(&self.file, "`model_type`: expected a string"))
    }

    /// A top-level value.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    /// Reads an architecture's arguments; the error names the key.
    pub fn args<T: DeserializeOwned>(&self) -> Result<T> {
        serde_path_to_error::deserialize(&self.json).map_err(|error| {
            let key = error.path().to_string();
            let what = error.inner().to_string();
            let what = if key == "." { what } else { format!("`{key}`: {what}") };
            Error::bad_file(&self.file, what)
        })
    }

    /// The nested `key`, an object, as a config of its own.
    pub fn nested(&self, key: &str) -> Result<Config> {
        match self.get(key) {
            Some(json) if json.is_object() => Ok(Config { file: self.file.clone(), json: json.clone() }),
            _ => Err(Error::bad_file(&self.file, format!("`{key}`: expected an object"))),
        }
    }

    /// The same config with a key set.
    pub fn with(mut self, key: &str, value: Value) -> Config {
        self.json[key] = value;
        self
    }

    /// An error about one key.
    pub fn bad(&self, key: &str, expected: impl std::fmt::Display) -> Error {
        Error::bad_file(&self.file, format!("`{key}`: expected {expected}"))
    }

    /// Checks sizes that layers are built from: a broken config must not become a huge allocation.
    pub fn check_sizes(&self, sizes: &[(&str, i32)]) -> Result<()> {
        match sizes.iter().find(|(_, size)| !(1..=1 << 24).contains(size)) {
            Some((key, size)) => Err(self.bad(key, format!("a number from 1 to {}, found {size}", 1 << 24))),
            None => Ok(()),
        }
    }

    /// [`Config::check_sizes`] of what every architecture has.
    pub fn check_dims(&self, dims: &Dims, intermediate_size: i32) -> Result<()> {
        self.check_sizes(&[
            ("vocab_size", dims.vocab_size),
            ("num_hidden_layers", dims.num_layers),
            ("hidden_size", dims.hidden_size),
            ("intermediate_size", intermediate_size),
            ("num_attention_heads", dims.num_heads),
            ("num_key_value_heads", dims.num_kv_heads),
            ("head_dim", dims.head_dim),
            ("max_position_embeddings", dims.context_length),
        ])?;
        if dims.num_heads % dims.num_kv_heads != 0 {
            let expected = format!("a divisor of `num_attention_heads` ({})", dims.num_heads);
            return Err(self.bad("num_key_value_heads", expected));
        }
        Ok(())
    }

    /// The base of the rotary embedding and its scaling: `rope_theta` and `rope_scaling`, or both
    /// under `rope_parameters` as newer configs have them.
    pub fn rope(
        &self,
        theta: Option<f32>,
        scaling: Option<RopeScaling>,
    ) -> Result<(Option<f32>, Option<RopeScaling>)> {
        let Some(parameters) = self.get("rope_parameters") else { return Ok((theta, scaling)) };
        let nested: RopeScaling = serde_path_to_error::deserialize(parameters)
            .map_err(|error| Error::bad_file(&self.file, format!("`rope_parameters.{error}")))?;
        Ok((theta.or(nested.rope_theta), scaling.or(Some(nested))))
    }

    /// `quantization`, as mlx-lm writes it.
    pub fn quantization(&self) -> Result<QuantizationConfig> {
        let Some(json) = self.get("quantization") else { return Ok(QuantizationConfig::default()) };
        let object = json.as_object().ok_or_else(|| self.bad("quantization", "an object"))?;
        if let Some(mode) = object.get("mode").filter(|mode| *mode != "affine") {
            return Err(Error::Unsupported(format!(
                "{}: `quantization.mode` is {mode}; known is \"affine\"",
                self.file.display()
            )));
        }
        let mut config =
            QuantizationConfig { default: Some(self.setting("quantization", json)?), ..Default::default() };
        for (name, value) in object.iter().filter(|(_, value)| value.is_object()) {
            config.layers.insert(name.clone(), self.setting(&format!("quantization.{name}"), value)?);
        }
        Ok(config)
    }

    fn setting(&self, path: &str, json: &Value) -> Result<Quantization> {
        let number = |key: &str, known: &[i64]| {
            let value = json.get(key).and_then(Value::as_i64).filter(|value| known.contains(value));
            value.ok_or_else(|| self.bad(&format!("{path}.{key}"), format!("one of {known:?}")))
        };
        Ok(Quantization {
            group_size: number("group_size", &[32, 64, 128])? as i32,
            bits: number("bits", &[2, 3, 4, 5, 6, 8])? as i32,
        })
    }
}
