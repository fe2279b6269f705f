//! The model's tokenizer, by Hugging Face's `tokenizers`. Safe to use from any thread.

use crate::error::{Error, Result};
use serde_json::Value;
use std::path::Path;

/// Text to ids and back, and what the model's files say of special tokens.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    end_ids: Vec<i32>,
    bos_token: Option<String>,
    eos_token: Option<String>,
}

impl Tokenizer {
    /// Wraps a tokenizer. `end_ids` end a turn.
    pub(super) fn new(
        inner: tokenizers::Tokenizer,
        bos_token: Option<String>,
        eos_token: Option<String>,
        mut end_ids: Vec<i32>,
    ) -> Self {
        end_ids.sort_unstable();
        end_ids.dedup();
        Tokenizer { inner, end_ids, bos_token, eos_token }
    }

    /// Reads tokenizer.json, and the end-of-turn tokens from generation_config.json, config.json and
    /// tokenizer_config.json.
    pub fn load(folder: &Path) -> Result<Self> {
        let file = folder.join("tokenizer.json");
        if !file.exists() {
            return Err(Error::NotFound(format!("{}: not there", file.display())));
        }
        let inner = tokenizers::Tokenizer::from_file(&file)
            .map_err(|error| Error::bad_file(&file, format!("not a tokenizer: {error}")))?;
        let settings = read_optional(&folder.join("tokenizer_config.json"))?;
        let special = |key: &str| {
            let value = settings.get(key)?;
            let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
            Some(text.to_string())
        };
        let (bos_token, eos_token) = (special("bos_token"), special("eos_token"));

        let mut end_ids = vec![];
        for name in ["generation_config.json", "config.json"] {
            let file = folder.join(name);
            end_ids.extend(ids_at(&file, &read_optional(&file)?, "eos_token_id")?);
        }
        let eos_id = eos_token.as_deref().and_then(|token| inner.token_to_id(token));
        end_ids.extend(eos_id.map(|id| id as i32));
        Ok(Self::new(inner, bos_token, eos_token, end_ids))
    }

    /// Ids of a text. Special tokens written in it are recognised; `add_special` adds the tokenizer's
    /// own, such as one for the beginning of text.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<i32>> {
        let encoding = self
            .inner
            .encode_fast(text, add_special)
            .map_err(|error| Error::BadArgument(format!("the text cannot be tokenized: {error}")))?;
        Ok(encoding.get_ids().iter().map(|&id| id as i32).collect())
    }

    /// The text of ids, which must all be the tokenizer's.
    pub fn decode(&self, ids: &[i32], skip_special: bool) -> Result<String> {
        let known = |&id: &i32| {
            let id = u32::try_from(id).ok().filter(|&id| self.inner.id_to_token(id).is_some());
            id.ok_or(())
        };
        let ids = ids.iter().map(|id| {
            known(id).map_err(|()| Error::BadArgument(format!("token id {id} is not in the tokenizer")))
        });
        self.decode_known(&ids.collect::<Result<Vec<u32>>>()?, skip_special)
    }

    /// The text of ids; unknown ones give nothing (a model's table may be larger than its
    /// tokenizer).
    pub(super) fn decode_known(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.inner
            .decode(ids, skip_special)
            .map_err(|error| Error::Internal(format!("detokenizing failed: {error}")))
    }

    /// The ids that end a turn.
    pub fn end_ids(&self) -> &[i32] {
        &self.end_ids
    }

    /// The text of the beginning-of-text token.
    pub fn bos_token(&self) -> Option<&str> {
        self.bos_token.as_deref()
    }

    /// The text of the end-of-text token.
    pub fn eos_token(&self) -> Option<&str> {
        self.eos_token.as_deref()
    }
}

/// A JSON file, or null where there is none.
pub(super) fn read_optional(file: &Path) -> Result<Value> {
    match std::fs::read_to_string(file) {
        Ok(text) => serde_json::from_str(&text).map_err(|error| Error::bad_file(file, error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(error) => Err(Error::bad_file(file, error)),
    }
}

/// One id or a list of them.
fn ids_at(file: &Path, json: &Value, key: &str) -> Result<Vec<i32>> {
    let bad = || Error::bad_file(file, format!("`{key}`: expected a token id or a list of them"));
    let id = |value: &Value| value.as_i64().and_then(|id| i32::try_from(id).ok()).ok_or_else(bad);
    match json.get(key) {
        None | Some(Value::Null) => Ok(vec![]),
        Some(Value::Array(values)) => values.iter().map(id).collect(),
        Some(value) => Ok(vec![id(value)?]),
    }
}
