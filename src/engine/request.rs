//! What travels between a caller and the engine thread.

use super::answer::Finish;
use super::options::GenerateOptions;
use super::sessions::SessionUse;
use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// How far the engine runs ahead of a caller that takes tokens one by one.
const LOOKAHEAD: usize = 4;

/// What the engine thread tells the caller of one request.
pub(super) enum Event {
    Token {
        id: i32,
        logprob: f32,
    },
    /// What a classification asked for: logarithms of probabilities, and the most likely token.
    Scores {
        best: i32,
        best_logprob: f32,
        logits: Vec<f32>,
    },
    /// Nothing follows.
    End(Result<Finish>, Cost),
}

/// What a request took of the engine.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    /// Until the engine began with it.
    pub queued: Duration,
    /// Tokens of the prompt that a cache had already.
    pub cached: usize,
    /// All tokens of the prompt, those that a session held included.
    pub prompt: usize,
}

/// What both sides see of a request under way.
pub(super) struct Shared {
    /// The caller has what it wanted.
    abandoned: AtomicBool,
    /// Tokens sent and not yet taken.
    in_flight: AtomicUsize,
    /// How many of those there may be.
    lookahead: usize,
}

impl Shared {
    /// For a caller that takes tokens one by one, or (`eager`) for one that wants them all at once.
    pub fn new(eager: bool) -> Self {
        let lookahead = if eager { usize::MAX } else { LOOKAHEAD };
        Shared { abandoned: AtomicBool::new(false), in_flight: AtomicUsize::new(0), lookahead }
    }

    /// Notes that a token was sent.
    pub fn sent_token(&self) {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes that the caller took a token; true if the engine may be waiting for that.
    pub fn took_token(&self) -> bool {
        self.in_flight.fetch_sub(1, Ordering::AcqRel) >= self.lookahead
    }

    /// Whether the caller has to take tokens first.
    pub fn is_full(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) >= self.lookahead
    }

    /// Tokens that the caller has not taken.
    pub fn untaken(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Notes that the caller wants nothing more.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }
}

/// What to do behind the prompt.
pub(super) enum Work {
    Generate,
    /// Give the logits of the next token: of these ids, or of all.
    Classify(Option<Vec<i32>>),
}

/// A request as it travels to the engine thread.
pub(super) struct Request {
    pub work: Work,
    pub prompt: Vec<i32>,
    pub session: Option<SessionUse>,
    pub options: GenerateOptions,
    /// Ids that end the answer.
    pub end_ids: Vec<i32>,
    pub reply: Reply,
    pub shared: Arc<Shared>,
    pub submitted: Instant,
}

/// Where events go: a caller with several requests tells them apart by the number.
pub(super) struct Reply {
    pub events: Sender<(usize, Event)>,
    pub index: usize,
}

impl Reply {
    /// False: the caller is gone.
    pub fn send(&self, event: Event) -> bool {
        self.events.send((self.index, event)).is_ok()
    }
}

impl Request {
    /// Whether the caller wants no more.
    pub fn is_cancelled(&self) -> bool {
        self.shared.is_abandoned() || self.options.is_cancelled()
    }

    /// Ends a request that was never begun.
    pub fn refuse(&self, error: Error) {
        let cost = Cost { queued: self.submitted.elapsed(), prompt: self.prompt.len(), ..Cost::default() };
        self.reply.send(Event::End(Err(error), cost));
    }
}
