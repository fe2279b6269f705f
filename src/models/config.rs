//! config.json, and errors that name its keys.

use super::{DEQUANTIZES_FP8, Dims};
use crate::error::{Error, Result};
use crate::mlx::Dtype;
use crate::mlx::ops::{QuantMode, Quantization};
use crate::nn::{QuantizationConfig, RopeScaling};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// No size that layers are built from is larger.
pub const MAX_SIZE: i32 = 1 << 24;

/// No model has more layers.
const MAX_LAYERS: i32 = 1 << 12;

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

    /// All of it: an object.
    pub fn json(&self) -> &Value {
        &self.json
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

    /// The floating-point type that config.json says the weights have: `torch_dtype`, or `dtype` in newer
    /// ones, of the model or of its `text_config`.
    pub fn dtype(&self) -> Option<Dtype> {
        let text = self.get("text_config");
        let values = [Some(&self.json), text].into_iter().flatten();
        let names = values.flat_map(|object| ["torch_dtype", "dtype"].map(|key| object.get(key)));
        let name = names.flatten().find_map(Value::as_str)?;
        [Dtype::F32, Dtype::F16, Dtype::BF16].into_iter().find(|dtype| dtype.to_string() == name)
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
        match sizes.iter().find(|(_, size)| !(1..=MAX_SIZE).contains(size)) {
            Some((key, size)) => Err(self.bad(key, format!("a number from 1 to {MAX_SIZE}, found {size}"))),
            None => Ok(()),
        }
    }

    /// Checks the number of layers, which decides how long lists are made before any weights are seen.
    pub fn check_layers(&self, layers: i32) -> Result<()> {
        match (1..=MAX_LAYERS).contains(&layers) {
            true => Ok(()),
            false => {
                let expected = format!("a number from 1 to {MAX_LAYERS}, found {layers}");
                Err(self.bad("num_hidden_layers", expected))
            }
        }
    }

    /// [`Config::check_sizes`] of what every architecture has.
    pub fn check_dims(&self, dims: &Dims, intermediate_size: i32) -> Result<()> {
        self.check_layers(dims.num_layers)?;
        self.check_sizes(&[
            ("vocab_size", dims.vocab_size),
            ("hidden_size", dims.hidden_size),
            ("intermediate_size", intermediate_size),
            ("num_attention_heads", dims.num_heads),
            ("num_key_value_heads", dims.num_kv_heads),
            ("head_dim", dims.head_dim),
            ("max_position_embeddings", dims.context_length),
            ("num_attention_heads * head_dim", dims.num_heads.saturating_mul(dims.head_dim)),
        ])?;
        if dims.num_heads % dims.num_kv_heads != 0 {
            let expected = format!("a divisor of `num_attention_heads` ({})", dims.num_heads);
            return Err(self.bad("num_key_value_heads", expected));
        }
        Ok(())
    }

    /// Checks how many experts a layer has and how many of them a token uses.
    pub fn check_experts(&self, count: (&str, i32), used: (&str, i32)) -> Result<()> {
        self.check_sizes(&[count, used])?;
        self.check_at_most(used, count)
    }

    /// Checks that one number is not larger than another.
    pub fn check_at_most(&self, (key, number): (&str, i32), (limit_key, limit): (&str, i32)) -> Result<()> {
        match number <= limit {
            true => Ok(()),
            false => Err(self.bad(key, format!("at most `{limit_key}` ({limit}), found {number}"))),
        }
    }

    /// The window of each layer: those that `layer_types` calls sliding, or `slides` where it is missing,
    /// have one. `None`: the layer sees every position.
    pub fn windows(
        &self,
        types: Option<&[String]>,
        layers: i32,
        window: Option<i32>,
        slides: impl Fn(i32) -> bool,
    ) -> Result<Vec<Option<i32>>> {
        self.check_layers(layers)?;
        let Some(types) = types else {
            return Ok((0..layers).map(|layer| window.filter(|_| slides(layer))).collect());
        };
        if i32::try_from(types.len()) != Ok(layers) {
            return Err(self.bad("layer_types", format!("`num_hidden_layers` ({layers}) names")));
        }
        let of = |name: &String| match name.as_str() {
            "full_attention" => Ok(None),
            "sliding_attention" => {
                let window = window.ok_or_else(|| self.bad("sliding_window", "a number"))?;
                self.check_sizes(&[("sliding_window", window)])?;
                Ok(Some(window))
            }
            other => Err(Error::Unsupported(format!(
                "{}: `layer_types` has \"{other}\"; known are full_attention, sliding_attention",
                self.file.display()
            ))),
        };
        types.iter().map(of).collect()
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

    /// How matrices are stored: `quantization`, as mlx-lm writes it, or what publishers write in
    /// `quantization_config` where it names a format that MLX has.
    pub fn quantization(&self) -> Result<QuantizationConfig> {
        let Some(json) = self.get("quantization") else { return self.published_quantization() };
        let object = json.as_object().ok_or_else(|| self.bad("quantization", "an object"))?;
        let mut config =
            QuantizationConfig { default: Some(self.setting("quantization", json)?), ..Default::default() };
        for (name, value) in object.iter().filter(|(_, value)| value.is_object()) {
            config.layers.insert(name.clone(), self.setting(&format!("quantization.{name}"), value)?);
        }
        Ok(config)
    }

    fn published_quantization(&self) -> Result<QuantizationConfig> {
        let key = "quantization_config";
        let in_text = || self.get("text_config")?.get(key).filter(|json| !json.is_null());
        let Some(json) = self.get(key).or_else(in_text) else {
            return self.refuse_model_opt().map(|()| QuantizationConfig::default());
        };
        let text = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or_default();
        let default = match (text("quant_method"), text("format")) {
            ("mxfp4", _) => Quantization::new(QuantMode::Mxfp4, 32, 4),
            ("mxfp8", _) => Quantization::new(QuantMode::Mxfp8, 32, 8),
            // Packed integers, which the architectures that are published so repack.
            ("compressed-tensors", "pack-quantized") => Quantization::new(QuantMode::Affine, 32, 4),
            ("fp8", _) if self.is_known_fp8(json) => None,
            (method, _) => {
                let detail = ["format", "quant_algo", "weight_block_size"].into_iter().find_map(|key| {
                    let value = json.get(key).filter(|value| !value.is_null())?;
                    Some(format!(", `{key}` is {value}"))
                });
                return Err(Error::Unsupported(format!(
                    "{}: `{key}.quant_method` is \"{method}\"{}; known are mxfp4, mxfp8, compressed-tensors in \
                     the format pack-quantized, and fp8 with scales of 128 by 128 values or of whole \
                     matrices, of {}",
                    self.file.display(),
                    detail.unwrap_or_default(),
                    DEQUANTIZES_FP8.join(", ")
                )));
            }
        };
        Ok(QuantizationConfig { default, ..Default::default() })
    }

    fn is_known_fp8(&self, json: &Value) -> bool {
        let known = self.model_type().is_ok_and(|kind| DEQUANTIZES_FP8.contains(&kind));
        let block = json.get("weight_block_size").filter(|block| !block.is_null());
        known && block.is_none_or(|block| *block == serde_json::json!([128, 128]))
    }

    /// NVIDIA's ModelOpt says beside config.json how weights are quantised.
    fn refuse_model_opt(&self) -> Result<()> {
        let file = self.file.with_file_name("hf_quant_config.json");
        if self.file.file_name().is_none_or(|name| name != "config.json") || !file.exists() {
            return Ok(());
        }
        Err(Error::Unsupported(format!("{}: formats of NVIDIA ModelOpt are not supported", file.display())))
    }

    fn setting(&self, path: &str, json: &Value) -> Result<Quantization> {
        let mode = match json.get("mode") {
            None => Some(QuantMode::Affine),
            Some(name) => name.as_str().and_then(QuantMode::from_name),
        };
        let mode = mode.ok_or_else(|| {
            Error::Unsupported(format!(
                "{}: `{path}.mode` is {}; known are affine, mxfp4, mxfp8, nvfp4",
                self.file.display(),
                json["mode"]
            ))
        })?;
        let number = |key: &str| {
            let value = json.get(key).and_then(Value::as_i64).and_then(|value| i32::try_from(value).ok());
            value.ok_or_else(|| self.bad(&format!("{path}.{key}"), "a number"))
        };
        let (group_size, bits) = (number("group_size")?, number("bits")?);
        Quantization::new(mode, group_size, bits).ok_or_else(|| {
            let expected = match mode {
                QuantMode::Affine => "`bits` 2, 3, 4, 5, 6 or 8 and `group_size` 32, 64 or 128",
                QuantMode::Mxfp4 => "`bits` 4 and `group_size` 32",
                QuantMode::Mxfp8 => "`bits` 8 and `group_size` 32",
                QuantMode::Nvfp4 => "`bits` 4 and `group_size` 16",
            };
            self.bad(path, format!("{expected}, found {bits} and {group_size}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn formats_of_publishers_are_known_or_named() {
        let read = |json: Value| Config::new(Path::new("config.json"), json).quantization();
        let published =
            |kind: &str, said: Value| read(json!({"model_type": kind, "quantization_config": said}));
        let inside = json!({"quantization_config": {"quant_method": "mxfp4"}});
        let nested = json!({"model_type": "mistral3", "text_config": inside});
        assert_eq!(read(nested).unwrap().default, Quantization::new(QuantMode::Mxfp4, 32, 4));
        let fp8 = json!({"quant_method": "fp8", "weight_block_size": [128, 128]});
        assert!(published("deepseek_v3", fp8.clone()).unwrap().default.is_none());
        assert!(published("ministral3", json!({"quant_method": "fp8", "weight_block_size": null})).is_ok());

        let refused = [
            ("qwen3", fp8, "\"fp8\", `weight_block_size` is [128,128]; known"),
            (
                "deepseek_v3",
                json!({"quant_method": "fp8", "scale_fmt": "ue8m0", "weight_block_size": [32, 32]}),
                "`weight_block_size` is [32,32]",
            ),
            (
                "llama",
                json!({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}),
                "\"compressed-tensors\", `format` is \"nvfp4-pack-quantized\"; known",
            ),
            (
                "llama",
                json!({"quant_method": "modelopt", "quant_algo": "NVFP4"}),
                "`quant_algo` is \"NVFP4\"",
            ),
            ("llama", json!({}), "`quantization_config.quant_method` is \"\""),
        ];
        for (kind, said, why) in refused {
            let error = published(kind, said).unwrap_err();
            assert!(matches!(&error, Error::Unsupported(text) if text.contains(why)), "{error}");
        }
    }
}
