//! Special tokens in what strangers write: found, and kept from being special.

use crate::error::{Error, Result, without_panic};
use std::ops::Range as Bytes;
use tokenizers::tokenizer::normalizer::Range;
use tokenizers::{AddedVocabulary, NormalizedString, Normalizer, NormalizerWrapper};
use tokenizers::{OffsetReferential, OffsetType, Tokenizer};

/// Interrupts a special token that is to be read as text; dropped before the model sees it. Unicode
/// keeps it out of texts that programs exchange.
pub(super) const TEXT_MARK: char = '\u{fdd0}';

/// What must not come out of a stranger's text.
pub(super) struct SpecialTokens {
    /// The special tokens alone, found within words too: a template may print anything around them.
    tokens: AddedVocabulary,
    /// Their texts, sorted: those looked for in a text as it is, and in its normalised form.
    raw: Vec<String>,
    normalised: Vec<String>,
}

impl SpecialTokens {
    pub(super) fn new(tokenizer: &Tokenizer) -> tokenizers::Result<Self> {
        let all = tokenizer.get_added_vocabulary().get_added_tokens_decoder();
        let special = all.values().filter(|token| token.special);
        let anywhere = special.map(|token| token.clone().single_word(false).lstrip(false).rstrip(false));
        let mut tokens = AddedVocabulary::new();
        tokens.add_tokens(anywhere, tokenizer.get_model(), tokenizer.get_normalizer())?;
        let (mut raw, mut normalised) = (vec![], vec![]);
        for (&id, token) in tokens.get_added_tokens_decoder() {
            match token.normalized {
                true => normalised.extend(tokens.simple_id_to_token(id)),
                false => raw.push(token.content.clone()),
            }
        }
        raw.sort_unstable();
        normalised.sort_unstable();
        Ok(SpecialTokens { tokens, raw, normalised })
    }

    /// Puts [`TEXT_MARK`] into each special token of a text, and into the beginning of one at its end,
    /// behind which a template may print the rest. An error where nothing keeps a token apart.
    pub(super) fn mark(&self, normalizer: Option<&NormalizerWrapper>, text: &mut String) -> Result<()> {
        text.retain(|char| char != TEXT_MARK);
        // Tokens may overlap, so one more look.
        loop {
            let found = without_panic(|| self.find(normalizer, text))?;
            if found.is_empty() {
                break;
            }
            for token in found.into_iter().rev() {
                let written = text.get(token.clone()).unwrap_or_default();
                let first = written.chars().next().map_or(0, char::len_utf8);
                if first == written.len() || written.contains(TEXT_MARK) {
                    let why = "nothing can be put into it that the tokenizer respects";
                    return Err(Error::BadArgument(format!(
                        "{:?} cannot be read as text: {why}",
                        written.replace(TEXT_MARK, "")
                    )));
                }
                text.insert(token.start + first, TEXT_MARK);
            }
        }
        let mut places = without_panic(|| self.unfinished(normalizer, text))??;
        places.sort_unstable();
        places.dedup();
        places.into_iter().rev().for_each(|place| text.insert(place, TEXT_MARK));
        Ok(())
    }

    fn find(&self, normalizer: Option<&NormalizerWrapper>, text: &str) -> Vec<Bytes<usize>> {
        let parts = self.tokens.extract_and_normalize(normalizer, text);
        let parts = parts.get_splits(OffsetReferential::Original, OffsetType::Byte);
        let tokens = parts.into_iter().filter(|(_, _, tokens)| tokens.is_some());
        tokens.map(|(_, (start, end), _)| start..end).collect()
    }

    /// Behind the first character of each special token that the end of a text begins. Templates trim
    /// what they print.
    fn unfinished(&self, normalizer: Option<&NormalizerWrapper>, text: &str) -> Result<Vec<usize>> {
        let text = text.trim_end();
        let behind = |start: usize| {
            let first = text.get(start..).and_then(|rest| rest.chars().next());
            start + first.map_or(0, char::len_utf8)
        };
        let mut places: Vec<usize> = beginnings(text, &self.raw).map(behind).collect();
        if !self.normalised.is_empty() {
            let mut form = NormalizedString::from(text);
            let failed = |error| Error::BadArgument(format!("the text cannot be tokenized: {error}"));
            normalizer.map_or(Ok(()), |normalizer| normalizer.normalize(&mut form)).map_err(failed)?;
            let starts = beginnings(form.get(), &self.normalised);
            let written = |start| form.convert_offsets(Range::Normalized(start..form.get().len()));
            places.extend(starts.filter_map(written).map(|range| behind(range.start)));
        }
        Ok(places)
    }
}

/// Where the rest of a text is the beginning, not the whole, of one of `sorted`.
fn beginnings(text: &str, sorted: &[String]) -> impl Iterator<Item = usize> {
    let longest = sorted.iter().map(String::len).max().unwrap_or(0);
    let starts = text.char_indices().rev().map(|(start, _)| start);
    starts.take_while(move |start| text.len() - start < longest).filter(move |&start| {
        let rest = &text[start..];
        let next = sorted.partition_point(|token| token.as_str() <= rest);
        sorted.get(next).is_some_and(|token| token.starts_with(rest))
    })
}
