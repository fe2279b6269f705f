//! A GGUF file's tokenizer as the one that the publisher's tokenizer.json describes. What the file does not
//! say, how text is cut before merging above all, is known by names, as llama.cpp knows it.

use super::reader::Gguf;
use crate::engine::Tokenizer;
use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use tokenizers::AddedToken;
use tokenizers::models::bpe::{BPE, Merges, Vocab};

/// `tokenizer.ggml.token_type`.
const UNKNOWN: i128 = 2;
const CONTROL: i128 = 3;
const USER_DEFINED: i128 = 4;
const UNUSED: i128 = 5;
const BYTE: i128 = 6;

/// Makes the tokenizer of a file.
pub fn tokenizer(gguf: &Gguf) -> Result<Tokenizer> {
    let recipe = recipe(gguf)?;
    let vocabulary = Vocabulary::read(gguf)?;
    let id = |key: &str| vocabulary.id(gguf, &format!("tokenizer.ggml.{key}"));
    let (bos, eos) = (id("bos_token_id")?, id("eos_token_id")?);
    let mut end_ids: Vec<_> = [eos, id("eot_token_id")?, id("eom_token_id")?].into_iter().flatten().collect();
    end_ids.extend(vocabulary.turn_ends());

    let mut around = vec![json!({"Sequence": {"id": "A", "type_id": 0}})];
    let mut special_tokens = json!({});
    let mut add = |at: usize, key: &str, token: Option<u32>, default: bool| -> Result<()> {
        let wanted = gguf.bool(&format!("tokenizer.ggml.{key}"))?.unwrap_or(default);
        if let Some((id, token)) = token.filter(|_| wanted).and_then(|id| Some((id, vocabulary.token(id)?))) {
            around.insert(at.min(around.len()), json!({"SpecialToken": {"id": token, "type_id": 0}}));
            special_tokens[token] = json!({"id": token, "ids": [id], "tokens": [token]});
        }
        Ok(())
    };
    add(usize::MAX, "add_eos_token", eos, false)?;
    add(0, "add_bos_token", bos, recipe.add_bos)?;

    let broken = |what: String| Error::bad_file(gguf.file(), format!("`tokenizer.ggml`: {what}"));
    let mut inner = tokenizers::Tokenizer::new(bpe(gguf, &vocabulary, &recipe)?);
    inner
        .with_normalizer(part::<tokenizers::NormalizerWrapper>(recipe.normalizer)?)
        .map_err(|error| broken(error.to_string()))?;
    inner.with_pre_tokenizer(part::<tokenizers::PreTokenizerWrapper>(recipe.pre_tokenizer)?);
    inner.with_decoder(part::<tokenizers::DecoderWrapper>(recipe.decoder)?);
    if around.len() > 1 {
        let template = json!({
            "type": "TemplateProcessing",
            "single": around,
            "pair": around,
            "special_tokens": special_tokens,
        });
        inner.with_post_processor(part::<tokenizers::PostProcessorWrapper>(template)?);
    }
    inner.add_tokens(vocabulary.added()).map_err(|error| broken(error.to_string()))?;

    let roles = [("bos_token", bos), ("eos_token", eos)].into_iter();
    let token = |(role, id): (&str, Option<u32>)| Some((role.to_string(), vocabulary.token(id?)?.into()));
    Tokenizer::new(inner, roles.filter_map(token).collect(), end_ids.into_iter().map(|id| id as i32))
}

/// Whether the file has a tokenizer of a known kind. The vocabulary is not looked at.
pub(super) fn check(gguf: &Gguf) -> Result<()> {
    recipe(gguf)?;
    gguf.get(TOKENS).map(drop).ok_or_else(|| gguf.bad(TOKENS, "a list of texts"))
}

/// Tokens that end a turn in some model, whatever the file's keys say: many files name only one of several.
const TURN_ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|end|>",
    "<end_of_turn>",
    "<｜end▁of▁sentence｜>",
];

const TOKENS: &str = "tokenizer.ggml.tokens";

/// The tokens with their kinds.
struct Vocabulary<'a> {
    tokens: Vec<std::borrow::Cow<'a, str>>,
    kinds: Vec<i128>,
}

fn is_gemma(gguf: &Gguf) -> Result<bool> {
    Ok(gguf.text("general.architecture")?.is_some_and(|name| name.starts_with("gemma")))
}

impl<'a> Vocabulary<'a> {
    fn read(gguf: &Gguf<'a>) -> Result<Self> {
        const KINDS: &str = "tokenizer.ggml.token_type";
        let tokens = gguf.texts(TOKENS)?.ok_or_else(|| gguf.bad(TOKENS, "a list of texts"))?;
        let kinds = gguf.ints(KINDS)?.unwrap_or_else(|| vec![1; tokens.len()]);
        if kinds.len() != tokens.len() {
            return Err(gguf.bad(KINDS, format!("as many as tokens, {}", tokens.len())));
        }
        let gemma = is_gemma(gguf)?;
        let tokens = tokens.into_iter().map(|token| match token {
            // llama.cpp's converter writes Gemma's runs of spaces as such; its merges know them as ▁.
            spaces if gemma && spaces.len() > 1 && spaces.bytes().all(|byte| byte == b' ') => {
                "▁".repeat(spaces.len()).into()
            }
            token => token.into(),
        });
        Ok(Vocabulary { tokens: tokens.collect(), kinds })
    }

    /// Ids, tokens and kinds, without what only fills the table up.
    fn iter(&self) -> impl Iterator<Item = (u32, &str, i128)> {
        let all = (0u32..).zip(&self.tokens).zip(&self.kinds);
        let all = all.map(|((id, token), &kind)| (id, token.as_ref(), kind));
        all.filter(|&(id, token, kind)| kind != UNUSED || token != format!("[PAD{id}]"))
    }

    fn turn_ends(&self) -> impl Iterator<Item = u32> {
        let marked = self.iter().filter(|(.., kind)| matches!(*kind, CONTROL | USER_DEFINED));
        marked.filter(|(_, token, _)| TURN_ENDS.contains(token)).map(|(id, ..)| id)
    }

    fn token(&self, id: u32) -> Option<&str> {
        self.tokens.get(id as usize).map(AsRef::as_ref)
    }

    fn id(&self, gguf: &Gguf, key: &str) -> Result<Option<u32>> {
        match gguf.int(key)? {
            Some(id) if id as usize >= self.tokens.len() => {
                Err(gguf.bad(key, format!("an id below {}, found {id}", self.tokens.len())))
            }
            id => Ok(id.map(|id| id as u32)),
        }
    }

    /// Tokens that are found in a text before anything else is done to it.
    fn added(&self) -> Vec<AddedToken> {
        let added = self.iter().filter(|(.., kind)| matches!(*kind, UNKNOWN | CONTROL | USER_DEFINED));
        let token = |(_, token, kind): (u32, &str, i128)| {
            AddedToken::from(token, kind != USER_DEFINED).normalized(false)
        };
        added.filter(|(_, token, _)| !token.is_empty()).map(token).collect()
    }
}

/// What distinguishes the kinds of tokenizers, as in tokenizer.json.
struct Recipe {
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    /// A word that is a token needs no merging.
    ignore_merges: bool,
    /// Unknown characters become the tokens of their bytes.
    byte_fallback: bool,
    add_bos: bool,
    /// Tokens are ranked by their place and not by their scores.
    ranked_by_id: bool,
}

fn recipe(gguf: &Gguf) -> Result<Recipe> {
    const MODEL: &str = "tokenizer.ggml.model";
    match gguf.text(MODEL)? {
        Some("gpt2") => byte_level(gguf),
        Some("llama") if is_gemma(gguf)? => Ok(gemma()),
        Some("llama") => sentence_piece(gguf),
        Some(other) => Err(Error::Unsupported(format!(
            "{}: `{MODEL}` is \"{other}\"; known are gpt2, llama",
            gguf.file().display()
        ))),
        None => Err(gguf.bad(MODEL, "a text")),
    }
}

/// Byte-level BPE, of GPT-2 and most others.
fn byte_level(gguf: &Gguf) -> Result<Recipe> {
    const KEY: &str = "tokenizer.ggml.pre";
    let name = gguf.text(KEY)?.unwrap_or("default");
    let cutting = CUTTINGS.iter().find(|cutting| cutting.names.contains(&name)).ok_or_else(|| {
        let known: Vec<_> = CUTTINGS.iter().flat_map(|cutting| cutting.names).copied().collect();
        Error::Unsupported(format!(
            "{}: `{KEY}` is \"{name}\"; known are {}",
            gguf.file().display(),
            known.join(", ")
        ))
    })?;
    let digits = cutting.single_digits.then(|| json!({"type": "Digits", "individual_digits": true}));
    let split = cutting.split.map(|regex| {
        json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false})
    });
    let bytes = json!({
        "type": "ByteLevel",
        "add_prefix_space": false,
        "trim_offsets": false,
        "use_regex": split.is_none(),
    });
    let steps: Vec<_> = digits.into_iter().chain(split).chain([bytes]).collect();
    Ok(Recipe {
        normalizer: if cutting.nfc { json!({"type": "NFC"}) } else { Value::Null },
        pre_tokenizer: json!({"type": "Sequence", "pretokenizers": steps}),
        decoder: json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false,
        }),
        ignore_merges: cutting.ignore_merges,
        byte_fallback: false,
        add_bos: cutting.add_bos,
        ranked_by_id: false,
    })
}

/// How text is cut before merging, by `tokenizer.ggml.pre`.
struct Cutting {
    names: &'static [&'static str],
    /// `None`: GPT-2's expression.
    split: Option<&'static str>,
    single_digits: bool,
    nfc: bool,
    ignore_merges: bool,
    add_bos: bool,
}

const GPT2: Cutting = Cutting {
    names: &["default", "gpt-2", "phi-2", "olmo", "mpt"],
    split: None,
    single_digits: false,
    nfc: false,
    ignore_merges: false,
    add_bos: false,
};

/// The expressions are those of the published tokenizer.json files.
const CUTTINGS: &[Cutting] = &[
    GPT2,
    Cutting {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"],
        single_digits: true,
        ..GPT2
    },
    Cutting {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3"],
        split: Some(LLAMA3),
        ignore_merges: true,
        add_bos: true,
        ..GPT2
    },
    Cutting { names: &["dbrx", "smaug-bpe"], split: Some(LLAMA3), ..GPT2 },
    Cutting { names: &["qwen2", "stablelm2"], split: Some(QWEN2), nfc: true, ..GPT2 },
    Cutting { names: &["deepseek-r1-qwen"], split: Some(QWEN2), ..GPT2 },
    Cutting { names: &["tekken"], split: Some(TEKKEN), ignore_merges: true, add_bos: true, ..GPT2 },
    Cutting { names: &["gpt-4o"], split: Some(GPT4O), ..GPT2 },
];

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// SentencePiece's BPE, as Llama 2's tokenizer.json writes it: a space before each piece of text.
fn sentence_piece(gguf: &Gguf) -> Result<Recipe> {
    let mut recipe = gemma();
    recipe.ranked_by_id = false;
    if gguf.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true) {
        let prepend = json!({"type": "Prepend", "prepend": "▁"});
        recipe.normalizer = json!({"type": "Sequence", "normalizers": [prepend, recipe.normalizer]});
        let strip = json!({"type": "Strip", "content": " ", "start": 1, "stop": 0});
        recipe.decoder = json!({"type": "Sequence", "decoders": [recipe.decoder, strip]});
    }
    Ok(recipe)
}

/// The same without that space. Gemma's scores do not follow the order of its merges, its ids do.
fn gemma() -> Recipe {
    let replace =
        |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    let decoders = [replace("▁", " "), json!({"type": "ByteFallback"}), json!({"type": "Fuse"})];
    Recipe {
        normalizer: replace(" ", "▁"),
        pre_tokenizer: Value::Null,
        decoder: json!({"type": "Sequence", "decoders": decoders}),
        ignore_merges: false,
        byte_fallback: true,
        add_bos: true,
        ranked_by_id: true,
    }
}

fn part<T: serde::de::DeserializeOwned>(json: Value) -> Result<Option<T>> {
    serde_json::from_value(json).map_err(|error| Error::Internal(format!("a part of a tokenizer: {error}")))
}

fn bpe(gguf: &Gguf, vocabulary: &Vocabulary, recipe: &Recipe) -> Result<BPE> {
    const MERGES: &str = "tokenizer.ggml.merges";
    let merges = match gguf.texts(MERGES)? {
        Some(lines) => {
            // A token may be a space: the one between two tokens is not the first character.
            let pair = |line: &str| {
                let first = line.chars().next()?.len_utf8();
                let middle = first + line.get(first..)?.find(' ')?;
                Some((line.get(..middle)?.to_string(), line.get(middle + 1..)?.to_string()))
            };
            lines
                .into_iter()
                .map(pair)
                .collect::<Option<_>>()
                .ok_or_else(|| gguf.bad(MERGES, "pairs of tokens"))?
        }
        None if recipe.byte_fallback => merges_of_scores(gguf, vocabulary, recipe)?,
        None => return Err(gguf.bad(MERGES, "a list of texts")),
    };
    let tokens: Vocab = vocabulary.iter().map(|(id, token, _)| (token.to_string(), id)).collect();
    let mut builder = BPE::builder()
        .vocab_and_merges(tokens, merges)
        .ignore_merges(recipe.ignore_merges)
        .byte_fallback(recipe.byte_fallback)
        .fuse_unk(recipe.byte_fallback);
    if let Some((_, token, _)) = vocabulary.iter().find(|(.., kind)| *kind == UNKNOWN) {
        builder = builder.unk_token(token.to_string());
    }
    builder.build().map_err(|error| gguf.bad(MERGES, format!("pairs of tokens that make tokens ({error})")))
}

/// The longest token that is taken apart, which bounds the work on a forged file.
const LONGEST: usize = 256;

/// SentencePiece merges whichever neighbours make the best token. As BPE that is: every way to cut a token
/// into two, the best tokens first; among equals the longer left part, then the longer right part (as
/// `generate_merges` of Hugging Face's transformers has it).
fn merges_of_scores(gguf: &Gguf, vocabulary: &Vocabulary, recipe: &Recipe) -> Result<Merges> {
    const SCORES: &str = "tokenizer.ggml.scores";
    let count = vocabulary.tokens.len();
    let scores = match recipe.ranked_by_id {
        true => (0..count).map(|id| -(id as f32)).collect(),
        false => gguf.floats(SCORES)?.ok_or_else(|| gguf.bad(SCORES, "a list of numbers"))?,
    };
    if scores.len() != count {
        return Err(gguf.bad(SCORES, format!("as many as tokens, {count}")));
    }
    let mergeable = |kind: i128| !matches!(kind, UNKNOWN | CONTROL | BYTE);
    let ids: HashMap<&str, u32> = vocabulary
        .iter()
        .filter(|&(_, token, kind)| mergeable(kind) && token.len() <= LONGEST)
        .map(|(id, token, _)| (token, id))
        .collect();
    let mut merges = vec![];
    let mut seen = HashSet::new();
    for (id, token, kind) in vocabulary.iter().filter(|(_, token, _)| token.len() <= LONGEST) {
        if !mergeable(kind) || !seen.insert(token) {
            continue;
        }
        let score = scores.get(id as usize).copied().unwrap_or_default();
        let cuts = token.char_indices().skip(1).map(|(middle, _)| token.split_at(middle));
        let mut local: Vec<_> = cuts.filter_map(|(a, b)| Some((*ids.get(a)?, *ids.get(b)?, a, b))).collect();
        local.sort_by_key(|&(a, b, ..)| (a, b));
        merges.extend(
            local.into_iter().map(|(_, _, a, b)| (score, a.chars().count(), b.chars().count(), a, b)),
        );
    }
    merges.sort_by(|x, y| y.0.total_cmp(&x.0).then(y.1.cmp(&x.1)).then(y.2.cmp(&x.2)));
    Ok(merges.into_iter().map(|(.., a, b)| (a.to_string(), b.to_string())).collect())
}
