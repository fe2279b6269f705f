//! Text of tokens as they come: exactly the text of decoding them all at once, at a cost per token
//! that does not grow.
//!
//! Hugging Face's decoders turn a list of tokens into another, one decoder after the other. Here
//! each is a stage that takes one token at a time and passes on what no later token can change. So
//! nothing is decoded twice, and decoding all at once is the same code.

use super::Tokenizer;
use crate::error::{Error, Result};
use std::ops::Deref;
use tokenizers::{Decoder, DecoderWrapper, decoders::strip::Strip};

const REPLACEMENT: &str = "\u{fffd}";

/// Turns one answer's ids into text, piece by piece.
pub struct Detokenizer<T> {
    tokenizer: T,
    skip_special: bool,
    stages: Vec<Stage>,
}

impl<T: Deref<Target = Tokenizer>> Detokenizer<T> {
    /// For one answer of this tokenizer; with `skip_special` special tokens have no text.
    pub fn new(tokenizer: T, skip_special: bool) -> Self {
        let mut stages = vec![];
        match tokenizer.inner().get_decoder() {
            Some(decoder) => add_stages(decoder, &mut false, &mut stages),
            None => stages.push(Stage::Spaced { first: true }),
        }
        Detokenizer { tokenizer, skip_special, stages }
    }

    /// The text that `id` completes, perhaps none. An id that the tokenizer doesn't have gives none:
    /// a model's table may be larger.
    pub fn push(&mut self, id: i32) -> Result<String> {
        let inner = self.tokenizer.inner();
        let token = u32::try_from(id).ok().and_then(|id| inner.id_to_token(id));
        let special = |token: &String| inner.get_added_vocabulary().is_special_token(token);
        let mut text = String::new();
        if let Some(token) = token.filter(|token| !(self.skip_special && special(token))) {
            pass_on(&mut self.stages, vec![token], &mut text)?;
        }
        Ok(text)
    }

    /// What was held back: bytes that never became a character, say, as U+FFFD.
    pub fn finish(&mut self) -> Result<String> {
        let mut text = String::new();
        let mut stages = &mut self.stages[..];
        while let Some((stage, rest)) = stages.split_first_mut() {
            pass_on(rest, stage.finish()?, &mut text)?;
            stages = rest;
        }
        Ok(text)
    }
}

/// Sends tokens through the stages; what comes out at the end is text.
fn pass_on(stages: &mut [Stage], tokens: Vec<String>, text: &mut String) -> Result<()> {
    let Some((stage, rest)) = stages.split_first_mut() else {
        text.extend(tokens);
        return Ok(());
    };
    tokens.into_iter().try_for_each(|token| pass_on(rest, stage.push(token)?, text))
}

/// The stages of a decoder. `fused`: what comes are no longer tokens but fragments of one.
fn add_stages(decoder: &DecoderWrapper, fused: &mut bool, stages: &mut Vec<Stage>) {
    use DecoderWrapper as D;
    let stage = match (decoder, *fused) {
        (D::Sequence(sequence), _) => {
            sequence.get_decoders().iter().for_each(|decoder| add_stages(decoder, fused, stages));
            return;
        }
        (D::Fuse(_), _) => {
            *fused = true;
            return;
        }
        (D::ByteLevel(_), false) => {
            *fused = true;
            Stage::Bytes(vec![])
        }
        (D::Strip(strip), false) => Stage::StripEach(strip.clone()),
        (D::Strip(strip), true) => Stage::StripAll(Stripping::new(strip.clone())),
        (D::ByteFallback(_), false) => Stage::ByteRuns(ByteRun::default()),
        (D::BPE(_), false) => Stage::LastDiffers { decoder: decoder.clone(), held: None },
        (D::CTC(_), false) => Stage::Repeats { decoder: decoder.clone(), last: None },
        (D::Replace(_) | D::WordPiece(_), false) => {
            Stage::FirstDiffers { decoder: decoder.clone(), first: true, fused: false }
        }
        (D::Metaspace(_), fused) => Stage::FirstDiffers { decoder: decoder.clone(), first: true, fused },
        // No model is known to do these to fused text, which may need all of it.
        (D::ByteLevel(_) | D::ByteFallback(_) | D::BPE(_), true) => {
            Stage::Whole { decoder: decoder.clone(), text: String::new() }
        }
        (D::CTC(_) | D::Replace(_) | D::WordPiece(_), true) => {
            Stage::Whole { decoder: decoder.clone(), text: String::new() }
        }
    };
    stages.push(stage);
}

/// One decoder, or the part of it that needs no look ahead.
enum Stage {
    /// Changes each token by itself, the first one perhaps in another way. All fragments of fused
    /// text belong to the first.
    FirstDiffers {
        decoder: DecoderWrapper,
        first: bool,
        fused: bool,
    },
    /// Changes the last token in another way, so one is held.
    LastDiffers {
        decoder: DecoderWrapper,
        held: Option<String>,
    },
    /// Drops repeated tokens.
    Repeats {
        decoder: DecoderWrapper,
        last: Option<String>,
    },
    /// Bytes written as GPT-2 writes them; the beginning of a character is held.
    Bytes(Vec<u8>),
    /// Bytes written as `<0x41>`.
    ByteRuns(ByteRun),
    StripEach(Strip),
    StripAll(Stripping),
    /// No decoder: Hugging Face puts a space between tokens.
    Spaced {
        first: bool,
    },
    /// Everything is held.
    Whole {
        decoder: DecoderWrapper,
        text: String,
    },
}

impl Stage {
    fn push(&mut self, token: String) -> Result<Vec<String>> {
        Ok(match self {
            Stage::FirstDiffers { decoder, first, fused } => {
                if std::mem::replace(first, *fused) {
                    return decode(decoder, vec![token]);
                }
                // Behind another token; what that one becomes is of no interest.
                decode(decoder, vec![String::new(), token])?.pop().into_iter().collect()
            }
            Stage::LastDiffers { decoder, held } => match held.replace(token) {
                Some(before) => decode(decoder, vec![before, String::new()])?.into_iter().take(1).collect(),
                None => vec![],
            },
            Stage::Repeats { last, .. } if last.as_ref() == Some(&token) => vec![],
            Stage::Repeats { decoder, last } => {
                *last = Some(token.clone());
                decode(decoder, vec![token])?
            }
            Stage::Bytes(held) => {
                push_bytes(&token, held);
                vec![take_text(held)]
            }
            Stage::ByteRuns(run) => run.push(token),
            Stage::StripEach(strip) => vec![Stripping::new(strip.clone()).push(&token)],
            Stage::StripAll(stripping) => vec![stripping.push(&token)],
            Stage::Spaced { first } => {
                if std::mem::take(first) {
                    vec![token]
                } else {
                    vec![" ".into(), token]
                }
            }
            Stage::Whole { text, .. } => {
                text.push_str(&token);
                vec![]
            }
        })
    }

    fn finish(&mut self) -> Result<Vec<String>> {
        Ok(match self {
            Stage::LastDiffers { decoder, held } => match held.take() {
                Some(last) => decode(decoder, vec![last])?,
                None => vec![],
            },
            Stage::Bytes(held) if !held.is_empty() => {
                held.clear();
                vec![REPLACEMENT.into()]
            }
            Stage::ByteRuns(run) => run.end(),
            Stage::Whole { decoder, text } => decode(decoder, vec![std::mem::take(text)])?,
            _ => vec![],
        })
    }
}

fn decode(decoder: &DecoderWrapper, tokens: Vec<String>) -> Result<Vec<String>> {
    decoder.decode_chain(tokens).map_err(|error| Error::Internal(format!("detokenizing failed: {error}")))
}

/// The bytes that GPT-2's alphabet stands for: printable Latin-1 for itself, the others from U+0100
/// on. A token with any other character stands for its own UTF-8.
fn push_bytes(token: &str, bytes: &mut Vec<u8>) {
    let byte = |char: char| match u32::from(char) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121) as u8 + 0x7f),
        0x143 => Some(0xad),
        _ => None,
    };
    let start = bytes.len();
    for char in token.chars() {
        let Some(byte) = byte(char) else {
            bytes.truncate(start);
            bytes.extend(token.bytes());
            return;
        };
        bytes.push(byte);
    }
}

/// Takes all but an unfinished character, bad bytes as U+FFFD: in pieces the same text as
/// [`String::from_utf8_lossy`] of the whole.
fn take_text(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut rest = &bytes[..];
    loop {
        match std::str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                bytes.clear();
                return text;
            }
            Err(error) => {
                let (valid, bad) = rest.split_at(error.valid_up_to());
                text.push_str(&String::from_utf8_lossy(valid));
                let Some(len) = error.error_len() else {
                    *bytes = bad.to_vec();
                    return text;
                };
                text.push_str(REPLACEMENT);
                rest = &bad[len..];
            }
        }
    }
}

/// Neighbouring byte tokens. Hugging Face takes them for characters only if all of them together
/// are UTF-8 and else gives U+FFFD for each, so they are held until that is known.
#[derive(Default)]
struct ByteRun {
    held: Vec<u8>,
    /// How many of them are whole characters.
    whole: usize,
    broken: bool,
}

impl ByteRun {
    fn push(&mut self, token: String) -> Vec<String> {
        let is_byte = token.len() == 6 && token.starts_with("<0x") && token.ends_with('>');
        // Hugging Face's own test: "<0x+a>" is a byte too.
        let byte = token.get(3..5).filter(|_| is_byte).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let Some(byte) = byte else {
            let mut tokens = self.end();
            tokens.push(token);
            return tokens;
        };
        if self.broken {
            return vec![REPLACEMENT.into()];
        }
        self.held.push(byte);
        match std::str::from_utf8(&self.held[self.whole..]) {
            Ok(_) => self.whole = self.held.len(),
            Err(error) if error.error_len().is_none() => {}
            Err(_) => {
                self.broken = true;
                return replaced(&std::mem::take(&mut self.held));
            }
        }
        vec![]
    }

    fn end(&mut self) -> Vec<String> {
        let tokens = match String::from_utf8(std::mem::take(&mut self.held)) {
            Ok(text) if !text.is_empty() => vec![text],
            Ok(_) => vec![],
            Err(error) => replaced(error.as_bytes()),
        };
        *self = ByteRun::default();
        tokens
    }
}

fn replaced(bytes: &[u8]) -> Vec<String> {
    bytes.iter().map(|_| REPLACEMENT.to_string()).collect()
}

/// Takes up to `start` of a character from the front of a text and up to `stop` from its end.
struct Stripping {
    strip: Strip,
    /// How many may still be taken from the front.
    left: usize,
    /// How many at the end wait for more text.
    held: usize,
}

impl Stripping {
    fn new(strip: Strip) -> Self {
        Stripping { left: strip.start, strip, held: 0 }
    }

    fn push(&mut self, text: &str) -> String {
        let content = self.strip.content;
        let mut kept = String::new();
        for char in text.chars() {
            if char != content {
                kept.extend(std::iter::repeat_n(content, std::mem::take(&mut self.held)));
                kept.push(char);
                self.left = 0;
            } else if self.left > 0 {
                self.left -= 1;
            } else if self.held < self.strip.stop {
                self.held += 1;
            } else {
                kept.push(content);
            }
        }
        kept
    }
}
