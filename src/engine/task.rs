//! One request on the engine thread: prefill in chunks, then token by token.

use super::model::Finish;
use super::options::GenerateOptions;
use super::{Cancel, Sampler};
use crate::error::{Error, Result};
use crate::mlx::{Array, Device, ops, thread_device};
use crate::models::Model;
use crate::nn::{Cache, Pass};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// Prompt tokens in one step. On the CPU a layer of such a chunk is what a cancel waits for.
const CHUNK_CPU: usize = 128;
const CHUNK_GPU: usize = 2048;

/// How far the engine runs ahead of a caller that is slow to take tokens.
const LOOKAHEAD: usize = 4;

/// Steps that take longer than this can be interrupted between layers.
const SLOW_STEP: Duration = Duration::from_millis(30);

/// What the engine thread tells the caller.
pub(super) enum Event {
    Token {
        id: i32,
        logprob: f32,
    },
    /// Nothing follows.
    End(Result<Finish>),
}

/// What both sides see of a request under way.
#[derive(Default)]
pub(super) struct Shared {
    /// The caller has what it wanted.
    pub abandoned: AtomicBool,
    /// Tokens sent and not yet taken.
    pub in_flight: AtomicUsize,
}

impl Shared {
    /// Notes that the caller took a token; true if the engine may be waiting for that.
    pub fn took_token(&self) -> bool {
        self.in_flight.fetch_sub(1, Ordering::AcqRel) >= LOOKAHEAD
    }
}

/// A request as it travels to the engine thread. Checked before it is sent.
pub(super) struct Request {
    pub prompt: Vec<i32>,
    pub options: GenerateOptions,
    /// Ids that end the answer.
    pub end_ids: Vec<i32>,
    pub context_length: usize,
    pub events: Sender<Event>,
    pub shared: Arc<Shared>,
}

/// What a step came to.
pub(super) enum Step {
    /// There is more to do.
    More,
    /// The caller has not taken the last tokens yet.
    Waits,
    /// The task is over and its caller was told.
    Done,
}

pub(super) struct Task {
    request: Request,
    caches: Vec<Cache>,
    sampler: Sampler,
    /// Prompt and answer.
    ids: Vec<i32>,
    /// How many of them the model has seen.
    seen: usize,
    slow: bool,
}

impl Task {
    pub fn new(request: Request, model: &dyn Model) -> Self {
        Task {
            caches: model.new_caches(),
            sampler: Sampler::new(request.options.sampling.clone()),
            ids: request.prompt.clone(),
            seen: 0,
            slow: false,
            request,
        }
    }

    /// Does one chunk of the prompt or one token. `closing` says that the model is being freed.
    pub fn step(&mut self, model: &dyn Model, closing: &Cancel) -> Step {
        if self.request.shared.in_flight.load(Ordering::Acquire) >= LOOKAHEAD && !self.interrupted(closing) {
            return Step::Waits;
        }
        let result = self.advance(model, closing);
        let end = match result {
            Ok(None) => return Step::More,
            Ok(Some(finish)) => Ok(finish),
            // The interrupt doesn't know its reason; closing wins.
            Err(Error::Cancelled) if closing.is_triggered() => Err(Error::Closed),
            Err(error) => Err(error),
        };
        self.end(end);
        Step::Done
    }

    /// Tells the caller that nothing follows. A caller that is gone needs no telling.
    pub fn end(&self, end: Result<Finish>) {
        let _ = self.request.events.send(Event::End(end));
    }

    fn interrupted(&self, closing: &Cancel) -> bool {
        let Request { options, shared, .. } = &self.request;
        closing.is_triggered()
            || shared.abandoned.load(Ordering::Acquire)
            || options.cancel.as_ref().is_some_and(|cancel| cancel.is_triggered())
    }

    fn advance(&mut self, model: &dyn Model, closing: &Cancel) -> Result<Option<Finish>> {
        if self.interrupted(closing) {
            return Err(Error::Cancelled);
        }
        let on_cpu = thread_device()? == Device::Cpu;
        let chunk = if on_cpu { CHUNK_CPU } else { CHUNK_GPU };
        let end = self.ids.len().min(self.seen + chunk);
        let new = &self.ids[self.seen..end];
        let input = Array::from_i32(new, &[1, new.len() as i32])?;

        let started = Instant::now();
        let may_stop = |task: &Self| task.interrupted(closing);
        // Taken out for the pass, so that the interrupt can look at the rest of the task.
        let mut caches = std::mem::take(&mut self.caches);
        let check = || may_stop(self);
        let interruptible = on_cpu && (self.slow || new.len() > 1);
        let pass = Pass { interrupt: interruptible.then_some(&check as &dyn Fn() -> bool) };
        let hidden = model.forward(&input, &mut caches, &pass);
        self.caches = caches;
        let hidden = hidden?;

        let length = hidden.dim(1);
        self.seen = end;
        if self.seen < self.ids.len() {
            hidden.eval()?;
            return Ok(None);
        }
        let last = ops::slice(&hidden, 1, length - 1, length)?;
        let mut logits = model.logits(&last)?.to_vec_f32()?;
        self.slow = started.elapsed() > SLOW_STEP;
        let (id, logprob) = self.sampler.next(&mut logits, &self.ids)?;
        self.take_token(id, logprob)
    }

    fn take_token(&mut self, id: i32, logprob: f32) -> Result<Option<Finish>> {
        let Request { end_ids, options, prompt, shared, events, context_length } = &self.request;
        if end_ids.contains(&id) {
            return Ok(Some(Finish::End(id)));
        }
        self.ids.push(id);
        shared.in_flight.fetch_add(1, Ordering::AcqRel);
        if events.send(Event::Token { id, logprob }).is_err() {
            return Err(Error::Cancelled);
        }
        if self.ids.len() - prompt.len() >= options.max_tokens as usize {
            return Ok(Some(Finish::Length));
        }
        if self.ids.len() >= *context_length {
            return Ok(Some(Finish::Context));
        }
        Ok(None)
    }
}
