//! The caller's side of one request: tokens become text, stop strings are found, time is taken.

use super::detokenizer::Detokenizer;
use super::request::{Cost, Event, Shared};
use super::stop::StopStrings;
use super::worker::Command;
use super::{Cancel, GenerateOptions, Tokenizer};
use crate::error::Result;
use crate::mlx::memory;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// A generated token with the text it completes.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// `None` for text that was held back and comes with no token of its own.
    pub id: Option<i32>,
    /// Natural logarithm of the token's probability, before temperature and filters.
    pub logprob: f32,
    /// Whole UTF-8, perhaps empty.
    pub text: String,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended its turn with this token, or it is one of the caller's stop tokens.
    End(i32),
    /// As many tokens as asked for.
    Length,
    /// A stop string came.
    StopString,
    /// The callback asked to stop.
    Callback,
    /// The context is full.
    Context,
}

/// What a request took.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct Summary {
    /// All tokens of the prompt, those that a session held included.
    pub prompt_tokens: u32,
    /// How many of them a session or the prefix cache had already.
    pub cached_tokens: u32,
    pub generated_tokens: u32,
    /// Until the engine began with the request.
    pub queued: Duration,
    /// Until the first token.
    pub prefill: Duration,
    /// From the first token to the last.
    pub decode: Duration,
    pub total: Duration,
    /// Bytes, of the process.
    pub peak_memory: usize,
    pub active_memory: usize,
}

/// How a request ended, and what it took until then.
#[derive(Debug)]
pub struct Outcome {
    /// The reason, or the error.
    pub end: Result<Finish>,
    /// The figures.
    pub summary: Summary,
}

/// What an event comes to for the caller.
pub(super) enum Progress {
    /// A token, behind which the answer goes on.
    Token(Token),
    /// The logits that were asked for, and the most likely token with the logarithm of its probability.
    Scores { best: i32, best_logprob: f32, logits: Vec<f32> },
    /// Text behind which it ends, if there is any.
    Last(Option<Token>, Finish),
}

/// A request under way, as its caller sees it. Dropping it ends the request.
pub(super) struct Answer {
    shared: Arc<Shared>,
    commands: Sender<Command>,
    pub cancel: Option<Arc<Cancel>>,
    detokenizer: Detokenizer<Arc<Tokenizer>>,
    stops: StopStrings,
    started: Instant,
    first: Option<Instant>,
    summary: Summary,
}

impl Answer {
    pub fn new(
        tokenizer: Arc<Tokenizer>,
        options: &GenerateOptions,
        shared: Arc<Shared>,
        commands: Sender<Command>,
        prompt: usize,
    ) -> Self {
        Answer {
            shared,
            commands,
            cancel: options.cancel.clone(),
            detokenizer: Detokenizer::new(tokenizer, true),
            stops: StopStrings::new(options.stop_strings.clone()),
            started: Instant::now(),
            first: None,
            summary: Summary { prompt_tokens: prompt as u32, ..Summary::default() },
        }
    }

    /// Takes what the engine sent.
    pub fn take(&mut self, event: Event) -> Result<Progress> {
        match event {
            Event::Token { id, logprob } => {
                if self.shared.took_token() {
                    let _ = self.commands.send(Command::Wake);
                }
                self.count_token();
                let text = self.detokenizer.push(id)?;
                let (text, stopped) = self.stops.push(&text);
                let token = Token { id: Some(id), logprob, text };
                Ok(match stopped {
                    true => Progress::Last(Some(token), Finish::StopString),
                    false => Progress::Token(token),
                })
            }
            Event::Scores { best, best_logprob, logits } => {
                Ok(Progress::Scores { best, best_logprob, logits })
            }
            Event::End(end, cost) => {
                self.note(cost);
                let finish = end?;
                if let Finish::End(_) = finish {
                    self.count_token();
                }
                self.flush(finish)
            }
        }
    }

    /// What was done so far, and the process's memory.
    pub fn summary(&self) -> Summary {
        Summary {
            total: self.started.elapsed(),
            peak_memory: memory::peak().unwrap_or(0),
            active_memory: memory::active().unwrap_or(0),
            ..self.summary.clone()
        }
    }

    /// Tells the engine that nothing more is wanted.
    pub fn abandon(&self) {
        self.shared.abandon();
        let _ = self.commands.send(Command::Wake);
    }

    fn note(&mut self, cost: Cost) {
        self.summary.prompt_tokens = cost.prompt as u32;
        self.summary.cached_tokens = cost.cached as u32;
        self.summary.queued = cost.queued;
    }

    fn count_token(&mut self) {
        let now = Instant::now();
        let first = *self.first.get_or_insert(now);
        self.summary.generated_tokens += 1;
        self.summary.prefill = first - self.started;
        self.summary.decode = now - first;
    }

    /// Gives out text that was held back.
    fn flush(&mut self, finish: Finish) -> Result<Progress> {
        let rest = self.detokenizer.finish()?;
        let (mut text, stopped) = self.stops.push(&rest);
        if !stopped {
            text += &self.stops.finish();
        }
        let token = (!text.is_empty()).then_some(Token { id: None, logprob: 0.0, text });
        Ok(Progress::Last(token, if stopped { Finish::StopString } else { finish }))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // However the caller leaves, a panic of its callback included, the engine stops working.
        self.abandon();
    }
}
