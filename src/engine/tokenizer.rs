//! The model's tokenizer, by Hugging Face's `tokenizers`. Safe to use from any thread.

use super::Detokenizer;
use super::plain_text::{SpecialTokens, TEXT_MARK};
use crate::error::{Error, Result, without_panic};
use serde_json::{Map, Value};
use std::path::Path;
use tokenizers::{AddedVocabulary, Model as _, OffsetType, PreTokenizer as _};

/// The special tokens with a role of their own; chat templates may print them by these names.
const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Text to ids and back, and what the model's files say of special tokens.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The added tokens once more, with the special ones not recognised.
    without_special: AddedVocabulary,
    special: SpecialTokens,
    end_ids: Vec<i32>,
    special_tokens: Map<String, Value>,
}

/// How to turn text into ids.
#[derive(Debug, Default, Clone, Copy)]
pub struct Encoding {
    /// Add the tokenizer's own special tokens, such as one for the beginning of text.
    pub add_special: bool,
    /// Read special tokens written in the text as text.
    pub plain_text: bool,
}

impl Tokenizer {
    /// A tokenizer with the ids that end a turn and the special tokens by their roles ("bos_token",
    /// ...). Truncation and padding, which training leaves in some files, are switched off.
    pub fn new(
        mut inner: tokenizers::Tokenizer,
        special_tokens: Map<String, Value>,
        end_ids: impl IntoIterator<Item = i32>,
    ) -> Result<Self> {
        let eos = special_tokens.get("eos_token").and_then(Value::as_str);
        let eos_id = eos.and_then(|token| inner.token_to_id(token)).map(|id| id as i32);
        let mut end_ids: Vec<i32> = end_ids.into_iter().chain(eos_id).collect();
        end_ids.sort_unstable();
        end_ids.dedup();
        let failed = |error: tokenizers::Error| Error::BadModel(format!("the tokenizer: {error}"));
        inner.with_padding(None).with_truncation(None).map_err(failed)?;
        inner.set_encode_special_tokens(false);
        let mut without_special = inner.get_added_vocabulary().clone();
        without_special.set_encode_special_tokens(true);
        let special = SpecialTokens::new(&inner).map_err(failed)?;
        Ok(Tokenizer { inner, without_special, special, end_ids, special_tokens })
    }

    /// Reads tokenizer.json, the special tokens of tokenizer_config.json, and the end-of-turn ids:
    /// generation_config.json's, or config.json's where it has none, and the eos_token.
    pub fn load(folder: &Path) -> Result<Self> {
        let file = folder.join("tokenizer.json");
        if !file.exists() {
            return Err(missing(folder));
        }
        let bad = |error: &dyn std::fmt::Display| Error::bad_file(&file, format!("not a tokenizer: {error}"));
        // `tokenizers` panics on some broken files, when it reads them or only when it uses them.
        let inner = without_panic(|| tokenizers::Tokenizer::from_file(&file))
            .map_err(|panic| bad(&panic))?
            .map_err(|error| bad(&error))?;
        let mut end_ids = eos_token_ids(&folder.join("generation_config.json"), "/eos_token_id")?;
        for key in ["/eos_token_id", "/text_config/eos_token_id"] {
            if end_ids.is_empty() {
                end_ids = eos_token_ids(&folder.join("config.json"), key)?;
            }
        }
        Tokenizer::new(inner, special_tokens(folder)?, end_ids)
    }

    /// Ids of a text.
    pub fn encode(&self, text: &str, how: Encoding) -> Result<Vec<i32>> {
        let added = if how.plain_text { &self.without_special } else { self.inner.get_added_vocabulary() };
        self.encode_with(added, text, false, how.add_special)
    }

    /// Ids of a text in which [`Self::mark`] was put into what others wrote.
    pub(super) fn encode_marked(&self, text: &str) -> Result<Vec<i32>> {
        self.encode_with(self.inner.get_added_vocabulary(), text, true, false)
    }

    /// Keeps a text that others wrote from having special tokens, see [`SpecialTokens::mark`].
    pub(super) fn mark(&self, text: &mut String) -> Result<()> {
        self.special.mark(self.inner.get_normalizer(), text)
    }

    /// What `tokenizers` does in `encode_fast`, with a choice of added tokens.
    fn encode_with(
        &self,
        added: &AddedVocabulary,
        text: &str,
        marked: bool,
        add_special: bool,
    ) -> Result<Vec<i32>> {
        let encode = || -> tokenizers::Result<tokenizers::Encoding> {
            let mut parts = added.extract_and_normalize(self.inner.get_normalizer(), text);
            if marked {
                parts.normalize(|part| {
                    part.filter(|char| char != TEXT_MARK);
                    Ok(())
                })?;
            }
            if let Some(splitter) = self.inner.get_pre_tokenizer() {
                splitter.pre_tokenize(&mut parts)?;
            }
            self.inner.get_model().tokenize_in_pretokenized(&mut parts, None)?;
            let offsets = if marked { OffsetType::Byte } else { OffsetType::None };
            self.inner.post_process(parts.into_encoding(None, 0, offsets)?, None, add_special)
        };
        let failed = |error: &dyn std::fmt::Display| format!("the text cannot be tokenized: {error}");
        let encoding = without_panic(encode)
            .map_err(|panic| Error::BadModel(failed(&panic)))?
            .map_err(|error| Error::BadArgument(failed(&error)))?;
        if marked {
            self.check_marked(text, &encoding)?;
        }
        Ok(encoding.get_ids().iter().map(|&id| id as i32).collect())
    }

    /// A few tokenizers have special tokens among their ordinary ones, where no mark keeps them apart.
    fn check_marked(&self, text: &str, encoding: &tokenizers::Encoding) -> Result<()> {
        for (id, &(start, end)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
            let token = self.inner.get_added_vocabulary().get_added_tokens_decoder().get(id);
            let written = text.get(start..end).unwrap_or_default();
            if let Some(token) = token.filter(|token| token.special && written.contains(TEXT_MARK))
                && written.replace(TEXT_MARK, "").trim() == token.content
            {
                let why = "the tokenizer has it among its ordinary tokens";
                return Err(Error::BadArgument(format!("{:?} cannot be read as text: {why}", token.content)));
            }
        }
        Ok(())
    }

    /// The text of ids, which must all be the tokenizer's.
    pub fn decode(&self, ids: &[i32], skip_special: bool) -> Result<String> {
        let known = |&id: &i32| u32::try_from(id).is_ok_and(|id| self.inner.id_to_token(id).is_some());
        if let Some(id) = ids.iter().find(|id| !known(id)) {
            return Err(Error::BadArgument(format!("token id {id} is not in the tokenizer")));
        }
        let mut detokenizer = Detokenizer::new(self, skip_special);
        let mut text = String::new();
        for &id in ids {
            text += &detokenizer.push(id)?;
        }
        Ok(text + &detokenizer.finish()?)
    }

    /// The ids that end a turn.
    pub fn end_ids(&self) -> &[i32] {
        &self.end_ids
    }

    /// The special tokens by their roles.
    pub fn special_tokens(&self) -> &Map<String, Value> {
        &self.special_tokens
    }

    pub(super) fn inner(&self) -> &tokenizers::Tokenizer {
        &self.inner
    }
}

fn missing(folder: &Path) -> Error {
    const CONVERTS: &str = "Hugging Face's AutoTokenizer converts it";
    // Mistral's own file, which AutoTokenizer writes as it is.
    const COPY: &str = "use a copy of the model in Hugging Face's format, such as mlx-community's";
    let others = [
        ("tekken.json", COPY),
        ("tokenizer.model", CONVERTS),
        ("tiktoken.model", CONVERTS),
        ("vocab.json", CONVERTS),
        ("vocab.txt", CONVERTS),
    ];
    let found = others.iter().find(|(name, _)| folder.join(name).exists());
    let why = found.map_or(String::new(), |(name, help)| {
        format!(" ({name} is, but only tokenizer.json is read: {help})")
    });
    Error::NotFound(format!("{}: not there{why}", folder.join("tokenizer.json").display()))
}

/// As Hugging Face reads them: special_tokens_map.json counts where tokenizer_config.json lists no
/// added tokens.
fn special_tokens(folder: &Path) -> Result<Map<String, Value>> {
    let settings = read_optional(&folder.join("tokenizer_config.json"))?;
    let older = match settings.get("added_tokens_decoder") {
        None => read_optional(&folder.join("special_tokens_map.json"))?,
        Some(_) => Value::Null,
    };
    let token = |role: &str| {
        let value = older.get(role).or_else(|| settings.get(role))?;
        value.as_str().or_else(|| value.get("content")?.as_str())
    };
    Ok(ROLES.iter().filter_map(|&role| Some((role.to_string(), token(role)?.into()))).collect())
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
fn eos_token_ids(file: &Path, key: &str) -> Result<Vec<i32>> {
    let name = key[1..].replace('/', ".");
    let bad = || Error::bad_file(file, format!("`{name}`: expected a token id or a list of them"));
    let id = |value: &Value| value.as_i64().and_then(|id| i32::try_from(id).ok()).ok_or_else(bad);
    match read_optional(file)?.pointer(key) {
        None | Some(Value::Null) => Ok(vec![]),
        Some(Value::Array(values)) => values.iter().map(id).collect(),
        Some(value) => Ok(vec![id(value)?]),
    }
}
