//! Caches as arrays and a few numbers, for files.

use super::storage::{Format, KvShape, Stored};
use super::{CacheOptions, KvCache};
use crate::error::{Error, Result};
use crate::mlx::Array;
use std::rc::Rc;

/// What a file must say of a cache of keys and values besides its arrays.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KvMeta {
    /// The layer's window.
    pub window: Option<i32>,
    /// How the cache stores.
    pub options: CacheOptions,
    /// What it stores; `None`: nothing yet.
    pub shape: Option<KvShape>,
    /// Positions seen.
    pub offset: i32,
    /// Positions held.
    pub held: i32,
}

impl KvMeta {
    fn check(&self) -> Result<Option<Format>> {
        let bad = |what: String| Err(Error::BadArgument(format!("a saved cache: {what}")));
        self.options.check()?;
        if let Some(window) = self.window
            && window < 1
        {
            return bad(format!("window is {window}, expected 1 or more"));
        }
        let (offset, held) = (self.offset, self.held);
        let ring = self.empty().ring();
        // As much as every later position sees, at least.
        let least = ring.map_or(offset, |ring| offset.min(ring.size - 1));
        if !(0..=i32::MAX / 2).contains(&offset) || !(least..=offset).contains(&held) {
            return bad(format!("{held} positions at position {offset}, expected {least} to {offset}"));
        }
        match self.shape {
            None if offset > 0 => bad("no shape".into()),
            Some(KvShape { heads, key_dim, value_dim, dtype })
                if heads < 1 || key_dim < 1 || value_dim < 1 || !dtype.is_float() =>
            {
                bad(format!("{heads} heads of {key_dim} and {value_dim} numbers of {dtype}"))
            }
            shape => Ok(shape.map(|shape| Format::new(shape, &self.options))),
        }
    }

    fn empty(&self) -> KvCache {
        KvCache { window: self.window, options: self.options, ..KvCache::full() }
    }
}

impl KvCache {
    /// What is held, by name, positions in order.
    pub(in crate::nn) fn arrays(&self) -> Result<Vec<(String, Array)>> {
        let (Some(format), 1..) = (self.format, self.held) else { return Ok(vec![]) };
        let runs = match &self.tail()? {
            Some(tail) if self.next < self.held => {
                self.order(0).map(|(start, stop)| tail.slice(start, stop)).collect::<Result<_>>()?
            }
            _ => self.runs(0)?,
        };
        let stored = match runs.as_slice() {
            [run] => run.clone(),
            runs => Stored::join(runs)?,
        };
        let names = format.parts().into_iter().map(|part| part.name.to_string());
        Ok(names.zip(stored.0).collect())
    }

    pub(in crate::nn) fn meta(&self) -> KvMeta {
        let KvCache { window, options, offset, held, .. } = *self;
        KvMeta { window, options, shape: self.shape(), offset, held }
    }

    pub(in crate::nn) fn restore(meta: &KvMeta, arrays: Vec<(String, Array)>) -> Result<Self> {
        let bad = |what: String| Err(Error::BadArgument(format!("a saved cache: {what}")));
        let mut cache = KvCache { format: meta.check()?, ..meta.empty() };
        let parts = match cache.format {
            Some(format) if meta.held > 0 => format.parts(),
            _ => vec![],
        };
        if arrays.len() != parts.len() {
            return bad(format!("{} arrays, expected {}", arrays.len(), parts.len()));
        }
        let mut stored = vec![];
        for (part, (name, array)) in parts.iter().zip(arrays) {
            let heads = meta.shape.map_or(0, |shape| shape.heads);
            let expected = [1, heads, meta.held, part.columns];
            if name != part.name {
                return bad(format!("an array {name}, expected {}", part.name));
            }
            if array.shape() != expected || array.dtype() != part.dtype {
                return bad(format!("{name} is {array:?}, expected {expected:?} of {}", part.dtype));
            }
            stored.push(array);
        }
        if meta.held > 0 {
            cache.tail = Some(Rc::new(Stored(stored)));
        }
        (cache.offset, cache.held, cache.next) = (meta.offset, meta.held, meta.held);
        Ok(cache)
    }
}
