//! Text of tokens as they come: whole characters only, and the same text as decoding all at once.

use super::Tokenizer;
use crate::error::Result;

/// A character has at most four bytes, so after this many tokens without a whole one the bytes are
/// no UTF-8 at all and will not become any.
const PATIENCE: usize = 4;

/// Turns one answer's ids into text, piece by piece. A piece depends on the ids before it (a space
/// that is or is not put in front, say), so a short window of them is decoded with it each time.
#[derive(Debug, Default)]
pub struct Detokenizer {
    /// Ids already given out as text, then those that are not.
    window: Vec<u32>,
    given: usize,
}

impl Detokenizer {
    /// The text that `id` completes, perhaps none.
    pub fn push(&mut self, id: i32, tokenizer: &Tokenizer) -> Result<String> {
        self.window.push(id as u32);
        let pending = self.window.len() - self.given;
        let text = self.pending_text(tokenizer)?;
        if text.is_empty() {
            // A special token: it has no text and is no context for others.
            self.window.pop();
            return Ok(text);
        }
        if text.ends_with('\u{fffd}') && pending < PATIENCE {
            return Ok(String::new());
        }
        self.window.drain(..self.given);
        self.given = self.window.len();
        Ok(text)
    }

    /// What is left at the end: bytes that never became a character, as U+FFFD.
    pub fn finish(&mut self, tokenizer: &Tokenizer) -> Result<String> {
        let text = self.pending_text(tokenizer)?;
        self.window.clear();
        self.given = 0;
        Ok(text)
    }

    fn pending_text(&self, tokenizer: &Tokenizer) -> Result<String> {
        let before = tokenizer.decode_known(&self.window[..self.given], true)?;
        let all = tokenizer.decode_known(&self.window, true)?;
        Ok(all.get(before.len()..).unwrap_or_default().to_string())
    }
}
