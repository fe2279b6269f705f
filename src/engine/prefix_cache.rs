//! Prompts that begin alike share their prefill: what a request's prompt left in the caches is kept, and a
//! later one begins from it. Only whole chunks from the beginning are shared, which every prefill computes
//! in the same way, so an answer is the same with and without.

use super::context::{Context, common_length};
use super::prefix_store::PrefixStore;
use super::stats::Stats;
use crate::error::Result;
use crate::models::Model;
use std::collections::HashSet;
use std::sync::Arc;

/// Caches of prompts, those used last at the end.
pub(super) struct PrefixCache {
    entries: Vec<Context>,
    /// The most bytes to hold.
    limit: usize,
    /// Prefills begin at multiples of this.
    grid: usize,
    stats: Arc<Stats>,
    /// Where entries stay when the process ends.
    store: Option<PrefixStore>,
}

impl PrefixCache {
    /// An empty one; `limit` 0 keeps it so.
    pub fn new(limit: usize, grid: usize, store: Option<PrefixStore>, stats: Arc<Stats>) -> Self {
        PrefixCache { entries: vec![], limit, grid, stats, store }
    }

    /// Whether anything is ever kept.
    pub fn is_on(&self) -> bool {
        self.limit > 0
    }

    /// How many tokens at the beginning of `ids` a context could begin from. One is always left to be
    /// computed: its logits are wanted.
    pub fn usable(&self, context: &Context, ids: &[i32]) -> usize {
        let common = context.common(ids).min(context.aligned).min(ids.len().saturating_sub(1));
        context.reachable(common / self.grid * self.grid)
    }

    /// How many tokens [`PrefixCache::take`] would give. A file that has more than what is in memory is read
    /// for that.
    pub fn longest(&mut self, model: &dyn Model, ids: &[i32]) -> usize {
        let longest = |cache: &Self| cache.entries.iter().map(|entry| cache.usable(entry, ids)).max();
        let known = longest(self).unwrap_or(0);
        let Some(store) = &mut self.store else { return known };
        let best = store
            .ids()
            .map(|stored| common_length(stored, ids))
            .enumerate()
            .max_by_key(|(_, common)| *common);
        if let Some((index, common)) = best
            && common.min(ids.len() - 1) / self.grid * self.grid > known
        {
            // A file that cannot be read is no loss but of time.
            let read = store.take(index, model).and_then(|context| self.put(model, context));
            if read.is_ok() {
                return longest(self).unwrap_or(0);
            }
        }
        known
    }

    /// A context that has seen the beginning of `ids`, as much as is known.
    pub fn take(&mut self, model: &dyn Model, ids: &[i32]) -> Result<Option<Context>> {
        let best = (0..self.entries.len()).max_by_key(|&index| self.usable(&self.entries[index], ids));
        let Some(best) = best else { return Ok(None) };
        let length = self.usable(&self.entries[best], ids);
        if length == 0 {
            return Ok(None);
        }
        let mut entry = self.entries.remove(best);
        let copy = entry.copy(model, length);
        self.entries.push(entry);
        // Copying may have given back room that the entry had no use for.
        self.note();
        copy.map(Some)
    }

    /// Keeps what the prompt of a context left.
    pub fn put(&mut self, model: &dyn Model, mut context: Context) -> Result<()> {
        let length = context.aligned;
        if !self.wants(&context) {
            return Ok(());
        }
        context.rewind(model, length)?;
        // One that the new one begins with is of no use any more.
        self.entries.retain(|entry| context.common(&entry.ids[..entry.aligned]) < entry.aligned);
        self.entries.push(context);
        while self.bytes() > self.limit {
            let entry = self.entries.remove(0);
            self.store(&entry);
        }
        self.note();
        Ok(())
    }

    fn note(&self) {
        let (bytes, entries) = (self.bytes(), self.entries.len());
        self.stats.update(|stats| (stats.prefix_bytes, stats.prefix_entries) = (bytes, entries));
    }

    /// Writes an entry to the folder, if there is one.
    fn store(&self, entry: &Context) {
        if let Some(store) = &self.store {
            // The disk may be full: then the next process computes.
            let _ = store.put(entry);
        }
    }

    /// Writes all entries to the folder, if there is one.
    pub fn close(self) {
        self.entries.iter().for_each(|entry| self.store(entry));
        if let Some(store) = &self.store {
            let _ = store.trim();
        }
    }

    /// Whether keeping a context would add something.
    pub fn wants(&self, context: &Context) -> bool {
        self.limit > 0 && context.aligned > 0 && self.longest_of(context) < context.aligned
    }

    fn longest_of(&self, context: &Context) -> usize {
        let ids = &context.ids[..context.aligned];
        self.entries.iter().map(|entry| entry.common(ids).min(entry.aligned)).max().unwrap_or(0)
    }

    /// Bytes held, what entries share counted once.
    pub fn bytes(&self) -> usize {
        let mut known = HashSet::new();
        let pieces = self.entries.iter().flat_map(Context::pieces);
        pieces.filter(|(piece, _)| known.insert(*piece)).map(|(_, bytes)| bytes).sum()
    }
}
