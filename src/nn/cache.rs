//! What layers remember of past positions, and which of them new ones attend to.

use super::KvCache;
use crate::error::{Error, Result};
use crate::mlx::Array;
use crate::mlx::ops::Mask;

/// One layer's memory.
#[derive(Debug)]
pub enum Cache {
    /// Keys and values, of attention.
    Kv(KvCache),
    /// A state of fixed size, of recurrent layers.
    State(StateCache),
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
        Cache::State(StateCache { slots: (0..slots).map(|_| None).collect() })
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
}

/// A recurrent layer's state: arrays that each step replaces.
#[derive(Debug)]
pub struct StateCache {
    slots: Vec<Option<Array>>,
}

impl StateCache {
    /// What was last put into a slot; `None` before the first position.
    pub fn get(&self, slot: usize) -> Option<&Array> {
        self.slots[slot].as_ref()
    }

    /// Replaces a slot.
    pub fn set(&mut self, slot: usize, array: Array) {
        self.slots[slot] = Some(array);
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
