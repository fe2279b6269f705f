//! A conversation's tokens and what the model remembers of them.

use crate::error::Result;
use crate::mlx::{self, ops};
use crate::models::Model;
use crate::nn::{Cache, CacheOptions};

/// The most checkpoints that a context keeps.
const MAX_CHECKPOINTS: usize = 32;
/// Tokens between two of them in the middle of a long prompt.
const SPARSE: usize = 256;

/// Tokens in order, and the caches of those that the model has seen.
pub(super) struct Context {
    /// All tokens.
    pub ids: Vec<i32>,
    /// How many of them the model has seen.
    pub seen: usize,
    /// How many of those were prefilled in whole chunks from the beginning: whoever prefills the same
    /// tokens gets the same caches.
    pub aligned: usize,
    /// The chunks of the prefills end at multiples of this.
    grid: usize,
    pub caches: Vec<Cache>,
    options: CacheOptions,
    /// Earlier states of layers that can't go back, in order.
    checkpoints: Vec<Checkpoint>,
}

/// The caches that can't be rewound as they were behind `seen` tokens; `None`: those that can.
struct Checkpoint {
    seen: usize,
    caches: Vec<Option<Cache>>,
}

impl Context {
    /// Of nothing.
    pub fn new(model: &dyn Model, options: CacheOptions) -> Result<Self> {
        Ok(Context {
            ids: vec![],
            seen: 0,
            aligned: 0,
            grid: 1,
            caches: new_caches(model, options)?,
            options,
            checkpoints: vec![],
        })
    }

    /// Of what was stored: the caches have seen all ids but perhaps some of the last.
    pub fn restore(ids: Vec<i32>, seen: usize, caches: Vec<Cache>, options: CacheOptions) -> Self {
        Context { ids, seen, aligned: 0, grid: 1, caches, options, checkpoints: vec![] }
    }

    /// How the caches keep what they hold.
    pub fn options(&self) -> CacheOptions {
        self.options
    }

    /// Tokens that the model has yet to see.
    pub fn unseen(&self) -> &[i32] {
        &self.ids[self.seen..]
    }

    /// How many tokens at the beginning are those of `ids`.
    pub fn common(&self, ids: &[i32]) -> usize {
        common_length(&self.ids, ids)
    }

    /// Notes that the model has seen the next `length` tokens; `grid`: in a prefill, whose chunks end at
    /// multiples of so many.
    pub fn saw(&mut self, length: usize, grid: Option<usize>) -> Result<()> {
        let begun = self.seen;
        self.seen += length;
        self.grid = grid.unwrap_or(self.grid);
        let Some(grid) = grid.filter(|_| begun == self.aligned) else { return Ok(()) };
        self.aligned = self.seen / grid * grid;
        // The next chunk has to copy what a checkpoint holds: dense where prompts begin and end, else not.
        let is_last = self.ids.len() < self.seen + grid;
        let wanted = is_last || self.seen.is_multiple_of(SPARSE) || self.seen.is_power_of_two();
        if self.aligned == self.seen && wanted { self.note_checkpoint() } else { Ok(()) }
    }

    /// Remembers the state of layers that can't go back.
    fn note_checkpoint(&mut self) -> Result<()> {
        if self.caches.iter().all(Cache::keeps_all) {
            return Ok(());
        }
        let fork = |cache: &mut Cache| if cache.keeps_all() { Ok(None) } else { cache.fork().map(Some) };
        let caches = self.caches.iter_mut().map(fork).collect::<Result<_>>()?;
        self.checkpoints.push(Checkpoint { seen: self.seen, caches });
        if self.checkpoints.len() > MAX_CHECKPOINTS {
            // The older half becomes half as dense.
            let mut index = 0;
            self.checkpoints.retain(|_| {
                index += 1;
                index > MAX_CHECKPOINTS / 2 || index % 2 == 0
            });
        }
        Ok(())
    }

    /// The most tokens, up to `wanted`, that [`Context::rewind`] can keep the caches of.
    pub fn reachable(&self, wanted: usize) -> usize {
        if wanted >= self.seen {
            return self.seen;
        }
        if self.caches.iter().all(|cache| cache.can_rewind(wanted as i32)) {
            return wanted;
        }
        let checkpoint = self.checkpoints.iter().rev().find(|checkpoint| checkpoint.seen <= wanted);
        checkpoint.map_or(0, |checkpoint| checkpoint.seen)
    }

    /// Forgets what stands behind `length` tokens. The model may have to see some of those again.
    pub fn rewind(&mut self, model: &dyn Model, length: usize) -> Result<()> {
        self.ids.truncate(length);
        self.rewind_caches(model, length.min(self.seen))
    }

    /// After a pass that did not come to its end, in which some layers may be ahead of others.
    pub fn repair(&mut self, model: &dyn Model) -> Result<()> {
        self.rewind_caches(model, self.seen)
    }

    /// Keeps the tokens only: the model has to see all of them again.
    pub fn forget(&mut self, model: &dyn Model) -> Result<()> {
        self.caches = new_caches(model, self.options)?;
        self.checkpoints.clear();
        (self.seen, self.aligned) = (0, 0);
        Ok(())
    }

    fn rewind_caches(&mut self, model: &dyn Model, length: usize) -> Result<()> {
        let position = match self.caches.iter().all(|cache| cache.can_rewind(length as i32)) {
            true => length,
            false => self.restore_checkpoint(model, length)?,
        };
        self.caches.iter_mut().try_for_each(|cache| cache.rewind(position as i32))?;
        self.checkpoints.retain(|checkpoint| checkpoint.seen <= position);
        self.seen = position;
        // What is left of a chunk is completed by another prefill's, which adds in another order.
        self.aligned = self.aligned.min(position) / self.grid * self.grid;
        Ok(())
    }

    /// Takes the last checkpoint of at most `length` tokens; gives how many it has.
    fn restore_checkpoint(&mut self, model: &dyn Model, length: usize) -> Result<usize> {
        let checkpoint = self.checkpoints.iter_mut().rev().find(|checkpoint| checkpoint.seen <= length);
        let Some(checkpoint) = checkpoint else {
            self.caches = new_caches(model, self.options)?;
            return Ok(0);
        };
        for (cache, saved) in self.caches.iter_mut().zip(&mut checkpoint.caches) {
            if let Some(saved) = saved {
                *cache = saved.fork()?;
            }
        }
        Ok(checkpoint.seen)
    }

    /// Gives up buffers that it has in common with contexts which it was computed together with.
    pub fn leave_group(&mut self) -> Result<()> {
        let mut copies = vec![];
        for cache in &mut self.caches {
            copies.extend(cache.leave_group()?);
        }
        mlx::eval(&copies)
    }

    /// A second one that goes on by itself. What both hold is held once.
    pub fn fork(&mut self) -> Result<Self> {
        let fork_all = |caches: &mut Vec<Cache>| caches.iter_mut().map(Cache::fork).collect::<Result<_>>();
        let caches = fork_all(&mut self.caches)?;
        let fork = |checkpoint: &mut Checkpoint| {
            let caches = checkpoint.caches.iter_mut();
            let caches = caches.map(|cache| cache.as_mut().map(Cache::fork).transpose());
            Ok(Checkpoint { seen: checkpoint.seen, caches: caches.collect::<Result<_>>()? })
        };
        Ok(Context {
            ids: self.ids.clone(),
            caches,
            checkpoints: self.checkpoints.iter_mut().map(fork).collect::<Result<_>>()?,
            ..*self
        })
    }

    /// One that has seen the first `length` tokens and shares nothing with this one.
    pub fn copy(&mut self, model: &dyn Model, length: usize) -> Result<Self> {
        let mut copy = self.fork()?;
        copy.rewind(model, length)?;
        copy.checkpoints.clear();
        // All are computed together: a GPU would wait for each.
        let mut held = copy.caches.iter().map(Cache::arrays).collect::<Result<Vec<_>>>()?;
        for (_, array) in held.iter_mut().flatten() {
            *array = ops::contiguous(array)?;
        }
        mlx::eval(held.iter().flatten().map(|(_, array)| array))?;
        for (cache, arrays) in copy.caches.iter_mut().zip(held) {
            *cache = Cache::restore(&cache.meta(), arrays)?;
        }
        Ok(copy)
    }

    /// Every array that is held, by its identity, with its bytes: forks share some.
    pub fn pieces(&self) -> impl Iterator<Item = (usize, usize)> {
        let saved = self.checkpoints.iter().flat_map(|checkpoint| checkpoint.caches.iter().flatten());
        self.caches.iter().chain(saved).flat_map(Cache::pieces)
    }
}

/// How many ids at the beginning of both are the same.
pub(super) fn common_length(a: &[i32], b: &[i32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Empty caches for a conversation, which follow the options.
pub(super) fn new_caches(model: &dyn Model, options: CacheOptions) -> Result<Vec<Cache>> {
    let mut caches = model.new_caches();
    caches.iter_mut().try_for_each(|cache| cache.configure(&options))?;
    Ok(caches)
}
