//! One request on the engine thread: which tokens it needs the model to see next, and what becomes of the
//! logits behind them.

use super::answer::Finish;
use super::context::Context;
use super::draw::Choosing;
use super::logits::Row;
use super::request::{Cost, Event, Request, Work};
use super::sampler::{Sampler, log_sum_exp};
use crate::error::{Error, Result};
use std::time::Duration;

/// A request under way.
pub(super) struct Task {
    pub request: Request,
    pub context: Context,
    sampler: Sampler,
    context_length: usize,
    /// Bytes that its caches may come to take.
    pub promised: usize,
    /// Tokens of the prompt, those of a session included.
    prompt: usize,
    /// How many the caches had when it began.
    cached: usize,
    queued: Duration,
}

impl Task {
    /// Begins with a context that holds the prompt.
    pub fn new(request: Request, context: Context, context_length: usize, promised: usize) -> Self {
        Task {
            sampler: Sampler::new(request.options.sampling.clone()),
            prompt: context.ids.len(),
            cached: context.seen,
            queued: request.submitted.elapsed(),
            context,
            context_length,
            promised,
            request,
        }
    }

    /// Tokens for the next step: what is left of the prompt up to the next multiple of `chunk`, or the
    /// last generated one. While `chunk` is the same, chunks begin at the same places whatever else is computed,
    /// so that a prompt is computed in the same way each time.
    pub fn next_tokens(&self, chunk: usize) -> &[i32] {
        let unseen = self.context.unseen();
        let room = chunk - self.context.seen % chunk;
        &unseen[..unseen.len().min(room)]
    }

    /// Whether prefill is over.
    pub fn is_decoding(&self) -> bool {
        self.context.ids.len() > self.prompt
    }

    /// Whether it has to wait until its caller has taken tokens.
    pub fn waits(&self) -> bool {
        self.request.shared.is_full()
    }

    /// Whether the logits behind the next `length` tokens are needed.
    pub fn wants_logits(&self, length: usize) -> bool {
        self.context.seen + length == self.context.ids.len()
    }

    /// How the next token is chosen, where it and its probability are all that is needed of the logits.
    /// Draws a random number, so ask once for each token.
    pub fn choosing(&mut self) -> Option<Choosing> {
        match self.request.work {
            Work::Generate => self.sampler.choosing(),
            Work::Classify(_) => None,
        }
    }

    /// Notes that the model has seen the next `length` tokens; prompts are cut at multiples of `grid`.
    pub fn saw(&mut self, length: usize, grid: usize) -> Result<()> {
        let prefill = !self.is_decoding();
        self.context.saw(length, prefill.then_some(grid))
    }

    /// What makes something of the logits behind all tokens, on any thread.
    pub fn chooser(&mut self) -> Chooser<'_> {
        Chooser { work: &self.request.work, sampler: &mut self.sampler, history: &self.context.ids }
    }

    /// Takes what was made of the logits. `Some`: the request is fulfilled.
    pub fn take(&mut self, choice: Choice) -> Result<Option<Finish>> {
        match choice {
            Choice::Token(id, logprob) => self.take_token(id, logprob),
            Choice::Scores(scores) => {
                self.request.reply.send(scores);
                Ok(Some(Finish::Length))
            }
        }
    }

    fn take_token(&mut self, id: i32, logprob: f32) -> Result<Option<Finish>> {
        let Request { end_ids, options, shared, reply, .. } = &self.request;
        if end_ids.contains(&id) {
            return Ok(Some(Finish::End(id)));
        }
        self.context.ids.push(id);
        shared.sent_token();
        if !reply.send(Event::Token { id, logprob }) {
            return Err(Error::Cancelled);
        }
        let length = self.context.ids.len();
        if length - self.prompt >= options.max_tokens as usize {
            return Ok(Some(Finish::Length));
        }
        if length >= self.context_length {
            return Ok(Some(Finish::Context));
        }
        Ok(None)
    }

    /// Tells the caller that nothing follows; a caller that is gone needs no telling. Gives the context
    /// back.
    pub fn end(self, end: Result<Finish>) -> Context {
        let cost = Cost { queued: self.queued, cached: self.cached, prompt: self.prompt };
        self.request.reply.send(Event::End(end, cost));
        self.context
    }
}

/// The part of a task that chooses.
pub(super) struct Chooser<'a> {
    work: &'a Work,
    sampler: &'a mut Sampler,
    history: &'a [i32],
}

/// What was chosen.
pub(super) enum Choice {
    /// A token with the logarithm of its probability.
    Token(i32, f32),
    /// An [`Event::Scores`].
    Scores(Event),
}

impl Chooser<'_> {
    /// Makes something of the logits, which it uses up.
    pub fn choose(&mut self, row: Row) -> Result<Choice> {
        match (self.work, row) {
            (Work::Generate, Row::All(logits)) => {
                let (id, logprob) = self.sampler.next(logits, self.history)?;
                Ok(Choice::Token(id, logprob))
            }
            (Work::Generate, Row::Chosen(id, logprob)) if logprob.is_finite() => {
                Ok(Choice::Token(id, logprob))
            }
            (Work::Generate, Row::Chosen(_, logprob)) => Err(Error::BadModel(format!(
                "the model computed {logprob} as the logarithm of a probability"
            ))),
            (Work::Classify(labels), Row::All(logits)) => {
                let (best, log_sum) = log_sum_exp(logits)?;
                let scores = match labels {
                    None => logits.to_vec(),
                    Some(ids) => ids.iter().map(|&id| logits[id as usize]).collect(),
                };
                let best_logprob = logits[best] - log_sum;
                Ok(Choice::Scores(Event::Scores { best: best as i32, best_logprob, logits: scores }))
            }
            (Work::Classify(_), Row::Chosen(..)) => {
                Err(Error::Internal("classifying takes all logits".into()))
            }
        }
    }
}
