//! Continuous batching: which requests are computed together in the next step. Requests join and leave
//! between steps. In a step every sequence that decodes gets its next token, and one chunk's worth of
//! prompts is prefilled beside them, of each prompt in turn.

use super::Cancel;
use super::answer::Finish;
use super::context::Context;
use super::options::ServingOptions;
use super::request::Request;
use super::stats::{ModelStats, Stats};
use super::task::Task;
use crate::error::{Error, Result, without_panic};
use crate::mlx::{Array, Device, ops, thread_device};
use crate::models::Model;
use crate::nn::{Batch, Pass};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Prompt tokens in one step. On the CPU a chunk is what others' tokens wait for.
const CHUNK_CPU: usize = 64;
const CHUNK_GPU: usize = 2048;

/// Steps that take longer than this can be interrupted between layers.
const SLOW_STEP: Duration = Duration::from_millis(30);

/// The requests of one model.
pub(super) struct Scheduler<'m> {
    model: &'m dyn Model,
    context_length: usize,
    options: ServingOptions,
    closing: &'m Cancel,
    stats: Arc<Stats>,
    on_cpu: bool,
    waiting: VecDeque<Request>,
    running: Vec<Task>,
    /// Whose prompt is first in the next step.
    turn: usize,
    /// How long the last step took.
    last_step: Duration,
}

/// Which task takes part in a step, and with how many tokens.
#[derive(Debug, Clone, Copy)]
struct Share {
    task: usize,
    length: usize,
}

impl<'m> Scheduler<'m> {
    /// On the engine thread.
    pub fn new(
        model: &'m dyn Model,
        context_length: usize,
        options: ServingOptions,
        closing: &'m Cancel,
        stats: Arc<Stats>,
    ) -> Result<Self> {
        Ok(Scheduler {
            model,
            context_length,
            options,
            closing,
            stats,
            on_cpu: thread_device()? == Device::Cpu,
            waiting: VecDeque::new(),
            running: vec![],
            turn: 0,
            last_step: Duration::ZERO,
        })
    }

    /// Takes a request in, or refuses it.
    pub fn submit(&mut self, request: Request) {
        let limit = self.options.max_queue;
        if self.waiting.len() >= limit {
            request.refuse(Error::Busy(format!("{limit} requests are waiting, the most that may")));
        } else {
            self.waiting.push_back(request);
        }
    }

    /// Computes one step. False: there is nothing to compute before somebody sends something.
    pub fn step(&mut self) -> bool {
        let started = Instant::now();
        self.drop_cancelled();
        self.admit();
        let shares = self.shares();
        self.stats.update(|stats| {
            stats.waiting = self.waiting.len();
            stats.running = self.running.len();
        });
        if shares.is_empty() {
            return false;
        }
        let mut evaluated = Duration::ZERO;
        let computed = without_panic(|| self.compute(&shares, &mut evaluated)).flatten();
        self.last_step = started.elapsed();
        let outcomes = match computed {
            Ok(outcomes) => outcomes,
            Err(error) => shares.iter().map(|_| Err(error.clone())).collect(),
        };
        // From behind, so that indices stay right.
        let mut ended: Vec<_> = shares.iter().map(|share| share.task).zip(outcomes).collect();
        ended.sort_by_key(|(task, _)| std::cmp::Reverse(*task));
        for (task, outcome) in ended {
            let end = match outcome {
                Ok(None) => continue,
                Ok(Some(finish)) => Ok(finish),
                // The interrupt doesn't know its reason; closing wins.
                Err(Error::Cancelled) if self.closing.is_triggered() => Err(Error::Closed),
                Err(error) => Err(error),
            };
            self.running.remove(task).end(end);
        }
        self.stats.update(|stats: &mut ModelStats| {
            stats.steps += 1;
            stats.tokens += shares.iter().map(|share| share.length as u64).sum::<u64>();
            stats.step_time += started.elapsed();
            stats.evaluation_time += evaluated;
        });
        true
    }

    /// Ends everything, because the model is being freed.
    pub fn close(self) {
        self.running.into_iter().for_each(|task| drop(task.end(Err(Error::Closed))));
        self.waiting.into_iter().for_each(|request| request.refuse(Error::Closed));
    }

    fn drop_cancelled(&mut self) {
        let (cancelled, waiting): (VecDeque<_>, _) =
            std::mem::take(&mut self.waiting).into_iter().partition(Request::is_cancelled);
        self.waiting = waiting;
        cancelled.iter().for_each(|request| request.refuse(Error::Cancelled));
        let cancelled = self.running.extract_if(.., |task| task.request.is_cancelled());
        cancelled.for_each(|task| drop(task.end(Err(Error::Cancelled))));
    }

    /// Begins with requests that waited, in their order.
    fn admit(&mut self) {
        while self.running.len() < self.options.max_concurrent
            && let Some(mut request) = self.waiting.pop_front()
        {
            let mut context = Context::new(self.model);
            context.ids = std::mem::take(&mut request.prompt);
            if context.ids.len() >= self.context_length {
                request.refuse(Error::ContextFull(format!(
                    "the prompt has {} tokens and leaves no room in a context of {}",
                    context.ids.len(),
                    self.context_length
                )));
                continue;
            }
            self.running.push(Task::new(request, context, self.context_length));
        }
    }

    /// Who takes part in the next step: all that decode, and as many prompts as fill a chunk.
    fn shares(&mut self) -> Vec<Share> {
        let chunk = if self.on_cpu { CHUNK_CPU } else { CHUNK_GPU };
        let count = self.running.len();
        let mut shares: Vec<Share> = vec![];
        let mut room = chunk;
        // Where several prompts wait, each is the first in turn: a short one isn't kept by a long one.
        self.turn = if count == 0 { 0 } else { (self.turn + 1) % count };
        for task in (self.turn..count).chain(0..self.turn) {
            let candidate = &self.running[task];
            if candidate.waits() {
                continue;
            }
            let length = candidate.next_tokens(chunk).len();
            if !candidate.is_decoding() {
                if length > room {
                    continue;
                }
                room -= length;
            }
            shares.push(Share { task, length });
        }
        shares
    }

    /// Runs the model; gives for each share whether its task is over.
    fn compute(&mut self, shares: &[Share], evaluated: &mut Duration) -> Result<Vec<Result<Option<Finish>>>> {
        let chunk = if self.on_cpu { CHUNK_CPU } else { CHUNK_GPU };
        let mut ids: Vec<i32> = vec![];
        // Rows of the packed tokens whose logits somebody wants.
        let (mut rows, mut wants) = (vec![], vec![]);
        for share in shares {
            let task = &self.running[share.task];
            ids.extend(task.next_tokens(chunk));
            wants.push(task.wants_logits(share.length));
            if task.wants_logits(share.length) {
                rows.push(ids.len() as i32 - 1);
            }
        }
        let mut caches: Vec<_> =
            shares.iter().map(|share| std::mem::take(&mut self.running[share.task].context.caches)).collect();
        let result = self.forward(shares, &ids, &rows, &mut caches, evaluated);
        for (share, caches) in shares.iter().zip(caches) {
            self.running[share.task].context.caches = caches;
        }
        let logits = result?;

        let vocabulary = self.model.dims().vocab_size as usize;
        let mut logits = logits.unwrap_or_default();
        let mut rows = logits.chunks_exact_mut(vocabulary);
        let outcomes = shares.iter().zip(wants).map(|(share, wanted)| {
            let task = &mut self.running[share.task];
            task.saw(share.length);
            match wanted.then(|| rows.next()) {
                None => Ok(None),
                Some(Some(logits)) => without_panic(|| task.take_logits(logits)).flatten(),
                Some(None) => Err(Error::Internal("the model gave too few logits".into())),
            }
        });
        Ok(outcomes.collect())
    }

    /// The logits of `rows` of the packed `ids`, one behind the other; `None` without rows.
    fn forward(
        &self,
        shares: &[Share],
        ids: &[i32],
        rows: &[i32],
        caches: &mut [Vec<crate::nn::Cache>],
        evaluated: &mut Duration,
    ) -> Result<Option<Vec<f32>>> {
        // A pass that nobody waits for any more ends between layers; one cancelled request of several
        // is dropped behind the step, and its caller knows before.
        let nobody_waits = || {
            self.closing.is_triggered()
                || shares.iter().all(|share| self.running[share.task].request.is_cancelled())
        };
        let interruptible = self.on_cpu && (self.last_step > SLOW_STEP || ids.len() > shares.len());
        let pass = Pass { interrupt: interruptible.then_some(&nobody_waits as &dyn Fn() -> bool) };
        let input = Array::from_i32(ids, &[1, ids.len() as i32])?;
        let sequences = caches.iter_mut().zip(shares);
        let sequences = sequences.map(|(caches, share)| (&mut caches[..], share.length as i32));
        let mut batch = Batch::new(sequences)?;
        let hidden = self.model.forward(&input, &mut batch, &pass)?;
        if rows.is_empty() {
            timed(evaluated, || hidden.eval())?;
            return Ok(None);
        }
        let wanted = match rows.len() == ids.len() {
            true => hidden,
            false => {
                let rows = Array::from_i32(rows, &[rows.len() as i32])?;
                ops::expand_dims(&ops::take(&ops::squeeze(&hidden, 0)?, &rows)?, 0)?
            }
        };
        let logits = self.model.logits(&wanted)?;
        // In one go: each evaluation has the engine thread and MLX's wait for each other.
        timed(evaluated, || logits.to_vec_f32()).map(Some)
    }
}

/// Runs what evaluates, and adds the time that it takes.
fn timed<T>(time: &mut Duration, run: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = run();
    *time += started.elapsed();
    result
}
