//! Continuous batching: which requests are computed together in the next step. Requests join and leave
//! between steps. In a step every sequence that decodes gets its next token, and one chunk's worth of
//! prompts is prefilled beside them, of each prompt in turn.

use super::Cancel;
use super::answer::Finish;
use super::context::Context;
use super::kv_memory::KvMemory;
use super::logits::{Logits, Row, Wanted, timed, timed_if};
use super::options::ServingOptions;
use super::prefix_cache::PrefixCache;
use super::prefix_store::PrefixStore;
use super::request::Request;
use super::sessions::{SessionCommand, Sessions};
use super::stats::{ModelStats, Stats};
use super::task::{Choice, Task};
use crate::error::{Error, Result, without_panic};
use crate::kernels;
use crate::mlx::{Array, Device, ops, thread_device};
use crate::models::Model;
use crate::nn::{Batch, Cache, Pass, length_class};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How prompts are cut: the most tokens in one step, and that while other requests wait for their next
/// token; and the places where a prefill may begin.
#[derive(Debug, Clone, Copy)]
struct Chunks {
    length: usize,
    beside: usize,
    grid: usize,
}

/// On the CPU a chunk is what others' tokens wait for; and prefills that are cut at the same places compute
/// the same bits.
const CHUNKS_CPU: Chunks = Chunks { length: 64, beside: 64, grid: 64 };
const CHUNKS_GPU: Chunks = Chunks { length: 2048, beside: 512, grid: 32 };
/// Caches that can't be rewound are noted behind each chunk.
const CHUNKS_GPU_NOTED: Chunks = Chunks { length: 512, beside: 512, grid: 32 };

/// Steps that take longer than this can be interrupted between layers.
const SLOW_STEP: Duration = Duration::from_millis(30);

/// So many logits are worth waking threads for.
const PARALLEL_LOGITS: usize = 1 << 17;

/// A request that was not begun with, and what its session holds.
struct Waiting {
    request: Request,
    context: Option<Context>,
}

impl Waiting {
    /// Tokens of the prompt, those that stand before it included.
    fn prompt_tokens(&self) -> usize {
        let held = self.context.as_ref().filter(|_| self.request.session.is_some_and(|used| !used.whole));
        held.map_or(0, |context| context.ids.len()) + self.request.prompt.len()
    }
}

/// The requests of one model.
pub(super) struct Scheduler<'m> {
    model: &'m dyn Model,
    context_length: usize,
    options: ServingOptions,
    closing: &'m Cancel,
    stats: Arc<Stats>,
    on_cpu: bool,
    chunks: Chunks,
    memory: KvMemory,
    sessions: Sessions<'m>,
    prefixes: PrefixCache,
    waiting: VecDeque<Waiting>,
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
        fingerprint: String,
    ) -> Result<Self> {
        let on_cpu = thread_device()? == Device::Cpu;
        let rewinds = model.new_caches().iter().all(Cache::keeps_all);
        let chunks = match (on_cpu, rewinds) {
            (true, _) => CHUNKS_CPU,
            (false, true) => CHUNKS_GPU,
            (false, false) => CHUNKS_GPU_NOTED,
        };
        let memory = KvMemory::new(model, options.caches, chunks.length, options.kv_budget)?;
        let prefix_bytes = options.prefix_cache_bytes.unwrap_or(memory.budget / 8);
        let store = match &options.prefix_cache_folder {
            None => None,
            Some(folder) => {
                Some(PrefixStore::open(folder, model, options.caches, &fingerprint, prefix_bytes as u64)?)
            }
        };
        stats.update(|stats| stats.kv_budget = memory.budget);
        Ok(Scheduler {
            model,
            context_length,
            closing,
            on_cpu,
            chunks,
            sessions: Sessions::new(model, options.caches, fingerprint),
            prefixes: PrefixCache::new(prefix_bytes, chunks.grid, store, stats.clone()),
            memory,
            options,
            stats,
            waiting: VecDeque::new(),
            running: vec![],
            turn: 0,
            last_step: Duration::ZERO,
        })
    }

    /// Takes a request in, or refuses it.
    pub fn submit(&mut self, request: Request) {
        self.drop_cancelled();
        let limit = self.options.max_queue;
        if self.waiting.len() >= limit {
            // Those that need not wait don't count.
            self.admit();
        }
        if self.waiting.len() >= limit {
            self.note();
            request.refuse(Error::Busy(format!("{limit} requests are waiting, the most that may")));
            return;
        }
        match request.session.map(|used| self.sessions.take(used.id)).transpose() {
            Ok(taken) => {
                let context = taken.map(|(context, _)| context);
                self.waiting.push_back(Waiting { request, context });
            }
            Err(error) => request.refuse(error),
        }
        self.note();
    }

    /// Tells the present state; before its callers are told, who may look.
    fn note(&self) {
        self.stats.update(|stats| {
            stats.waiting = self.waiting.len();
            stats.running = self.running.len();
            stats.sessions = self.sessions.count();
            stats.kv_promised = self.promised();
        });
    }

    /// Does what is asked of a session.
    pub fn run_session(&mut self, id: u64, command: SessionCommand) {
        // A call that has returned, stopped by its caller, has the session no longer.
        self.drop_cancelled();
        self.sessions.run(id, command);
    }

    /// Computes one step. False: there is nothing to compute before somebody sends something.
    pub fn step(&mut self) -> bool {
        let started = Instant::now();
        self.drop_cancelled();
        self.admit();
        let shares = self.shares();
        self.note();
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
            let task = self.running.remove(task);
            self.end(task, end);
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
        self.waiting.into_iter().for_each(|waiting| waiting.request.refuse(Error::Closed));
        self.prefixes.close();
    }

    /// Tells the caller, and keeps what the model remembers where it is of use.
    fn end(&mut self, task: Task, end: Result<Finish>) {
        let failure = end.as_ref().err().cloned();
        let (session, shared) = (task.request.session, task.request.shared.clone());
        let mut context = task.end(end);
        // Nobody waits for what is done here: a failure costs a prefill later.
        let sound = match failure {
            None => Ok(()),
            Some(Error::Cancelled | Error::Closed) => context.repair(self.model),
            // Caches may hold what MLX failed to compute, and would fail at again.
            Some(error) => Err(error),
        };
        // What is kept must not keep the buffers of those that it was computed with.
        let kept = session.is_some() || self.prefixes.wants(&context);
        let sound = sound.and_then(|()| if kept { context.leave_group() } else { Ok(()) });
        let sound = sound.or_else(|_| context.forget(self.model));
        let kept = match session {
            _ if sound.is_err() => Ok(None),
            None => self.prefixes.put(self.model, context).map(|()| None),
            Some(_) if self.prefixes.wants(&context) => {
                let length = context.aligned;
                let copy = context.copy(self.model, length);
                let _ = copy.and_then(|copy| self.prefixes.put(self.model, copy));
                Ok(Some(context))
            }
            Some(_) => Ok(Some(context)),
        };
        match (session, kept) {
            (Some(used), Ok(Some(context))) => self.sessions.put_back(used.id, context, Some(shared)),
            (Some(used), _) => self.sessions.lose(used.id),
            (None, _) => {}
        }
    }

    fn refuse(&mut self, waiting: Waiting, error: Error) {
        let Waiting { request, context } = waiting;
        match (request.session, context) {
            (Some(used), Some(context)) => self.sessions.put_back(used.id, context, None),
            (Some(used), None) => self.sessions.lose(used.id),
            (None, _) => {}
        }
        request.refuse(error);
    }

    fn drop_cancelled(&mut self) {
        let (cancelled, waiting): (VecDeque<_>, _) =
            std::mem::take(&mut self.waiting).into_iter().partition(|waiting| waiting.request.is_cancelled());
        self.waiting = waiting;
        cancelled.into_iter().for_each(|waiting| self.refuse(waiting, Error::Cancelled));
        let cancelled: Vec<_> = self.running.extract_if(.., |task| task.request.is_cancelled()).collect();
        cancelled.into_iter().for_each(|task| self.end(task, Err(Error::Cancelled)));
    }

    /// Begins with requests that waited, in their order.
    fn admit(&mut self) {
        while self.running.len() < self.options.max_concurrent
            && let Some(waiting) = self.waiting.front()
        {
            let prompt = waiting.prompt_tokens();
            let tokens = prompt.saturating_add(waiting.request.options.max_tokens as usize);
            let needed = self.memory.needed(tokens.min(self.context_length));
            let fits = match prompt >= self.context_length {
                true => Err(Error::ContextFull(format!(
                    "the prompt has {prompt} tokens and leaves no room in a context of {}",
                    self.context_length
                ))),
                false => self.memory.admit(needed, self.promised(), self.idle_bytes()),
            };
            if let Ok(false) = fits {
                break;
            }
            let mut waiting = self.waiting.pop_front().expect("looked at");
            let context = fits.and_then(|_| self.begin(&mut waiting));
            match context {
                Ok(context) => {
                    let rotates = self.options.caches.limit.is_some();
                    let room = if rotates { usize::MAX } else { self.context_length };
                    self.running.push(Task::new(waiting.request, context, room, needed));
                }
                Err(error) => self.refuse(waiting, error),
            }
        }
    }

    /// Bytes promised to running requests.
    fn promised(&self) -> usize {
        self.running.iter().map(|task| task.promised).sum()
    }

    /// Bytes that sessions hold which nobody uses, or which wait behind the first in the queue.
    fn idle_bytes(&self) -> usize {
        let queued = self.waiting.iter().skip(1).filter_map(|waiting| waiting.context.as_ref());
        let queued: usize = queued.map(|context| self.memory.needed(context.seen)).sum();
        queued + self.sessions.idle_bytes(&self.memory)
    }

    /// The context that a request begins with: it holds the prompt, of which the model has seen what its
    /// session, the prefix cache or another request has computed before.
    fn begin(&mut self, waiting: &mut Waiting) -> Result<Context> {
        let prompt = &waiting.request.prompt;
        let mut context = match (waiting.context.take(), waiting.request.session) {
            (Some(mut context), Some(used)) if used.whole => {
                let common = context.common(prompt).min(prompt.len() - 1);
                context.rewind(self.model, common)?;
                context.ids = prompt.clone();
                context
            }
            (Some(mut context), _) => {
                context.ids.extend(prompt);
                context
            }
            (None, _) => {
                let mut context = Context::new(self.model, self.options.caches)?;
                context.ids = prompt.clone();
                context
            }
        };
        if self.prefixes.is_on()
            && let Some(known) = self.known_beginning(&context)?
        {
            let ids = std::mem::replace(&mut context, known).ids;
            context.ids = ids;
        }
        self.stats.update(|stats| {
            stats.prompt_tokens += context.ids.len() as u64;
            stats.cached_tokens += context.seen as u64;
        });
        Ok(context)
    }

    /// A context that has seen more of the same tokens, from the prefix cache or a request under way.
    fn known_beginning(&mut self, context: &Context) -> Result<Option<Context>> {
        let usable = self.running.iter().map(|task| self.prefixes.usable(&task.context, &context.ids));
        let (running, length) = usable.enumerate().max_by_key(|(_, length)| *length).unwrap_or_default();
        let kept = self.prefixes.longest(self.model, &context.ids);
        if kept.max(length) <= context.seen {
            return Ok(None);
        }
        match kept >= length {
            true => self.prefixes.take(self.model, &context.ids),
            false => self.running[running].context.copy(self.model, length).map(Some),
        }
    }

    /// Who takes part in the next step: all that decode, and as many prompts as fill a chunk.
    fn shares(&mut self) -> Vec<Share> {
        let others_wait = self.running.iter().any(Task::is_decoding);
        let chunk = if others_wait { self.chunks.beside } else { self.chunks.length };
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
        // Those that a GPU computes together come first, in an order that stays.
        let seen = |share: &Share| self.running[share.task].context.seen;
        shares.sort_by_key(|share| (share.length > 1, length_class(seen(share)), share.task));
        shares
    }

    /// Runs the model; gives for each share whether its task is over.
    fn compute(&mut self, shares: &[Share], evaluated: &mut Duration) -> Result<Vec<Result<Option<Finish>>>> {
        let mut taking_part = shares.iter().map(|share| share.task).collect::<Vec<_>>();
        taking_part.sort_unstable();
        for (index, task) in self.running.iter_mut().enumerate() {
            if taking_part.binary_search(&index).is_err() {
                task.context.leave_group()?;
            }
        }
        let mut ids: Vec<i32> = vec![];
        let mut wanted = vec![];
        for share in shares {
            let task = &mut self.running[share.task];
            ids.extend(&task.context.unseen()[..share.length]);
            if task.wants_logits(share.length) {
                let choosing = if self.on_cpu { None } else { task.choosing() };
                wanted.push(Wanted { row: ids.len() as i32 - 1, choosing });
            }
        }
        let mut caches: Vec<_> =
            shares.iter().map(|share| std::mem::take(&mut self.running[share.task].context.caches)).collect();
        // Caught here: a panic must not cost the tasks their caches.
        let result = without_panic(|| self.forward(shares, &ids, &wanted, &mut caches, evaluated)).flatten();
        for (share, caches) in shares.iter().zip(caches) {
            self.running[share.task].context.caches = caches;
        }
        let mut choices = self.choose(shares, &mut result?, &wanted);
        let outcomes = shares.iter().map(|share| {
            let task = &mut self.running[share.task];
            let wanted = task.wants_logits(share.length);
            task.saw(share.length, self.chunks.grid)?;
            match choices[share.task].take() {
                Some(choice) => task.take(choice?),
                None if wanted => Err(Error::Internal("the model gave too few logits".into())),
                None => Ok(None),
            }
        });
        Ok(outcomes.collect())
    }

    /// What every task that wanted logits makes of them; `None` for the others.
    fn choose(
        &mut self,
        shares: &[Share],
        logits: &mut Logits,
        wanted: &[Wanted],
    ) -> Vec<Option<Result<Choice>>> {
        let vocabulary = self.model.dims().vocab_size as usize;
        let mut rows: Vec<Option<Row>> = self.running.iter().map(|_| None).collect();
        let wanting = shares.iter().filter(|share| self.running[share.task].wants_logits(share.length));
        for (share, row) in wanting.zip(logits.rows(wanted, vocabulary)) {
            rows[share.task] = Some(row);
        }
        let jobs = self.running.iter_mut().zip(rows);
        let jobs: Vec<_> = jobs.map(|(task, row)| Mutex::new((task.chooser(), row, None))).collect();
        let work = |index: usize| {
            let (chooser, row, choice) = &mut *jobs[index].lock();
            if let Some(row) = row.take() {
                *choice = Some(without_panic(|| chooser.choose(row)).flatten());
            }
        };
        // Going through a large vocabulary for many requests would take longer than a GPU's step.
        match wanted.len() > 1 && wanted.len() * vocabulary >= PARALLEL_LOGITS {
            true => kernels::for_each(jobs.len(), work),
            false => (0..jobs.len()).for_each(work),
        }
        jobs.into_iter().map(|job| job.into_inner().2).collect()
    }

    /// The logits of the wanted rows of the packed `ids`.
    fn forward(
        &self,
        shares: &[Share],
        ids: &[i32],
        wanted: &[Wanted],
        caches: &mut [Vec<Cache>],
        evaluated: &mut Duration,
    ) -> Result<Logits> {
        // A pass that nobody waits for any more ends between layers; one cancelled request of several
        // is dropped behind the step, and its caller knows before.
        let nobody_waits = || {
            self.closing.is_triggered()
                || shares.iter().all(|share| self.running[share.task].request.is_cancelled())
        };
        let interruptible = self.on_cpu && (self.last_step > SLOW_STEP || ids.len() > shares.len());
        let pass = if interruptible { Pass::interruptible(&nobody_waits) } else { Pass::default() };
        let input = Array::from_i32(ids, &[1, ids.len() as i32])?;
        let sequences = caches.iter_mut().zip(shares);
        let sequences = sequences.map(|(caches, share)| (&mut caches[..], share.length as i32));
        let mut batch = Batch::new(sequences)?;
        let hidden = timed_if(self.on_cpu, evaluated, || self.model.forward(&input, &mut batch, &pass))?;
        if wanted.is_empty() {
            timed(evaluated, || hidden.eval())?;
            return Ok(Logits::default());
        }
        let hidden = match wanted.len() == ids.len() {
            true => hidden,
            false => {
                let rows: Vec<i32> = wanted.iter().map(|wanted| wanted.row).collect();
                let rows = Array::from_i32(&rows, &[rows.len() as i32])?;
                ops::expand_dims(&ops::take(&ops::squeeze(&hidden, 0)?, &rows)?, 0)?
            }
        };
        let logits = timed_if(self.on_cpu, evaluated, || self.model.logits(&hidden))?;
        Logits::read(&logits, wanted, evaluated)
    }
}
