//! What layers remember of past positions, and which of them new ones attend to.

use super::{CacheOptions, KvCache, KvMeta};
use crate::error::{Error, Result};
use crate::mlx::Array;
use crate::mlx::ops::Mask;
use std::rc::Rc;

/// One layer's memory.
#[derive(Debug)]
pub enum Cache {
    /// Keys and values, of attention.
    Kv(KvCache),
    /// A state of fixed size, of recurrent layers.
    State(StateCache),
}

/// What a file must say of a cache besides its arrays.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CacheMeta {
    /// Of keys and values.
    Kv(KvMeta),
    /// Of a recurrent layer's state.
    State {
        /// Arrays of the state.
        slots: usize,
        /// Positions seen.
        offset: i32,
    },
}

impl Cache {
    /// Keys and values of every position.
    pub fn full() -> Self {
        Cache::Kv(KvCache::full())
    }

    /// Keys and values of the last `window` positions; `None`: of every position.
    pub fn attention(window: Option<i32>) -> Self {
        Cache::Kv(window.map_or_else(KvCache::full, KvCache::sliding))
    }

    /// A recurrent layer's state of `slots` arrays.
    pub fn state(slots: usize) -> Self {
        Cache::State(StateCache { slots: vec![None; slots], offset: 0 })
    }

    /// The keys and values of an attention layer.
    pub fn kv(&mut self) -> Result<&mut KvCache> {
        match self {
            Cache::Kv(cache) => Ok(cache),
            Cache::State(_) => Err(Error::Internal("a recurrent layer's cache went to attention".into())),
        }
    }

    /// The state of a recurrent layer.
    pub fn recurrent(&mut self) -> Result<&mut StateCache> {
        match self {
            Cache::State(state) => Ok(state),
            Cache::Kv(_) => Err(Error::Internal("an attention layer's cache went to a recurrent one".into())),
        }
    }

    /// Makes an empty cache follow the options, which recurrent states have no use for.
    pub fn configure(&mut self, options: &CacheOptions) -> Result<()> {
        match self {
            Cache::Kv(cache) => cache.configure(options),
            Cache::State(_) => options.check(),
        }
    }

    /// Positions seen so far.
    pub fn offset(&self) -> i32 {
        match self {
            Cache::Kv(cache) => cache.offset(),
            Cache::State(state) => state.offset,
        }
    }

    /// Whether every position is kept for ever, so that it can go back to any.
    pub fn keeps_all(&self) -> bool {
        matches!(self, Cache::Kv(cache) if cache.keeps_all())
    }

    /// Whether [`Cache::rewind`] can go back to a position. A recurrent layer's state only knows the present
    /// one and 0: who needs to go back further forks it there, which costs nothing until it changes.
    pub fn can_rewind(&self, position: i32) -> bool {
        match self {
            Cache::Kv(cache) => cache.can_rewind(position),
            Cache::State(state) => position == 0 || position == state.offset,
        }
    }

    /// Forgets all from a position on. Fails where [`Cache::can_rewind`] says no, and changes nothing then.
    pub fn rewind(&mut self, position: i32) -> Result<()> {
        match self {
            Cache::Kv(cache) => cache.rewind(position),
            Cache::State(state) => state.rewind(position),
        }
    }

    /// A second cache with the same positions, which shares the memory of what was there. Both go on
    /// independently.
    pub fn fork(&mut self) -> Result<Self> {
        Ok(match self {
            Cache::Kv(cache) => Cache::Kv(cache.fork()?),
            Cache::State(StateCache { slots, offset }) => {
                Cache::State(StateCache { slots: slots.clone(), offset: *offset })
            }
        })
    }

    /// Gives up buffers that several caches have in common ([`KvCache::leave_group`]).
    pub fn leave_group(&mut self) -> Result<Vec<Array>> {
        match self {
            Cache::Kv(cache) => cache.leave_group(),
            Cache::State(_) => Ok(vec![]),
        }
    }

    /// Bytes of all buffers, shared ones included.
    pub fn bytes(&self) -> usize {
        self.pieces().map(|(_, bytes)| bytes).sum()
    }

    /// Every buffer's bytes, with a number that caches which share the buffer have in common. The number
    /// holds as long as the buffer does.
    pub fn pieces(&self) -> impl Iterator<Item = (usize, usize)> {
        let (cache, state) = match self {
            Cache::Kv(cache) => (Some(cache.pieces()), None),
            Cache::State(state) => (None, Some(state.slots.iter().flatten())),
        };
        let states = state.into_iter().flatten().map(|array| (Rc::as_ptr(array) as usize, array.nbytes()));
        cache.into_iter().flatten().chain(states)
    }

    /// The bytes of such a cache after so many positions, the last `chunk` of them added at once; `None`:
    /// unknown before its first position.
    pub fn bytes_for(&self, positions: i32, chunk: i32) -> Option<usize> {
        match self {
            Cache::Kv(cache) => Some(cache.bytes_for(cache.shape()?, positions, chunk)),
            Cache::State(state) => (state.offset > 0).then(|| self.bytes()),
        }
    }

    /// What it holds, by name, for a file: positions in order, without room.
    pub fn arrays(&self) -> Result<Vec<(String, Array)>> {
        match self {
            Cache::Kv(cache) => cache.arrays(),
            Cache::State(state) => {
                let slots = state.slots.iter().enumerate();
                let named =
                    slots.filter_map(|(i, slot)| Some((format!("state.{i}"), (**slot.as_ref()?).clone())));
                Ok(named.collect())
            }
        }
    }

    /// What a file must say of it besides.
    pub fn meta(&self) -> CacheMeta {
        match self {
            Cache::Kv(cache) => CacheMeta::Kv(cache.meta()),
            Cache::State(state) => CacheMeta::State { slots: state.slots.len(), offset: state.offset },
        }
    }

    /// The cache that [`Cache::meta`] and [`Cache::arrays`] were of; the error says what is wrong with them.
    pub fn restore(meta: &CacheMeta, arrays: Vec<(String, Array)>) -> Result<Self> {
        match meta {
            CacheMeta::Kv(meta) => KvCache::restore(meta, arrays).map(Cache::Kv),
            CacheMeta::State { slots, offset } => {
                StateCache::restore(*slots, *offset, arrays).map(Cache::State)
            }
        }
    }

    /// Whether `other` can take the place of this cache: one of the same layer, with the same options. The
    /// error says what differs.
    pub fn expect_like(&self, other: &Cache) -> Result<()> {
        let kind = |cache: &Cache| match cache.meta() {
            CacheMeta::Kv(KvMeta { window, options, .. }) => {
                format!("keys and values with window {window:?} and {options:?}")
            }
            CacheMeta::State { slots, .. } => format!("a state of {slots} arrays"),
        };
        let (expected, found) = (kind(self), kind(other));
        if expected == found {
            return Ok(());
        }
        Err(Error::BadArgument(format!("a cache of {found}, expected one of {expected}")))
    }
}

/// A recurrent layer's state: arrays that each step replaces.
#[derive(Debug)]
pub struct StateCache {
    slots: Vec<Option<Rc<Array>>>,
    /// Positions seen so far.
    offset: i32,
}

impl StateCache {
    /// What was last put into a slot; `None` before the first position.
    pub fn get(&self, slot: usize) -> Option<&Array> {
        self.slots[slot].as_deref()
    }

    /// Replaces a slot.
    pub fn set(&mut self, slot: usize, array: Array) {
        self.slots[slot] = Some(Rc::new(array));
    }

    /// Positions seen so far.
    pub fn offset(&self) -> i32 {
        self.offset
    }

    /// Counts new positions.
    pub fn advance(&mut self, length: i32) {
        self.offset += length;
    }

    fn rewind(&mut self, position: i32) -> Result<()> {
        if position == 0 {
            self.slots.fill(None);
            self.offset = 0;
        }
        if position == self.offset {
            return Ok(());
        }
        let offset = self.offset;
        Err(Error::BadArgument(format!("a state at position {offset} cannot go back to {position}")))
    }

    fn restore(slots: usize, offset: i32, arrays: Vec<(String, Array)>) -> Result<Self> {
        let bad = |what: String| Err(Error::BadArgument(format!("a saved state: {what}")));
        let expected = if offset == 0 { 0 } else { slots };
        if !(0..=i32::MAX / 2).contains(&offset) || arrays.len() != expected {
            return bad(format!("{} arrays at position {offset}, expected {expected}", arrays.len()));
        }
        let mut restored = vec![];
        for (i, (name, array)) in arrays.into_iter().enumerate() {
            if name != format!("state.{i}") {
                return bad(format!("an array {name}, expected state.{i}"));
            }
            if array.shape().first() != Some(&1) || !array.dtype().is_float() {
                return bad(format!("{name} is {array:?}, expected floats of shape [1, ..]"));
            }
            restored.push(Some(Rc::new(array)));
        }
        if offset == 0 {
            // No array to count them by.
            if slots > 16 {
                return bad(format!("{slots} arrays, expected 16 at most"));
            }
            restored = vec![None; slots];
        }
        Ok(StateCache { slots: restored, offset })
    }
}

/// What new positions may attend to, for every kind of attention layer that a model has. Layers of
/// one kind share a mask.
#[derive(Debug)]
pub struct Masks(Vec<(Option<i32>, Mask)>);

impl Masks {
    /// The masks of `length` new positions behind what the caches hold.
    pub fn new(caches: &[Cache], length: i32) -> Result<Self> {
        let mut masks: Vec<(Option<i32>, Mask)> = vec![];
        for cache in caches {
            if let Cache::Kv(cache) = cache
                && !masks.iter().any(|(window, _)| *window == cache.window())
            {
                masks.push((cache.window(), cache.mask(length)?));
            }
        }
        Ok(Masks(masks))
    }

    /// The mask of layers with this window.
    pub fn of(&self, window: Option<i32>) -> Result<&Mask> {
        let found = self.0.iter().find(|(known, _)| *known == window);
        found.map(|(_, mask)| mask).ok_or_else(|| Error::Internal(format!("no mask for window {window:?}")))
    }
}
