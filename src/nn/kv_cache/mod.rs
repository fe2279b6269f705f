//! Keys and values of past positions, `[1, kv_heads, positions, head_dim]`.
//!
//! A cache keeps every position, or it is a ring of `size` positions: a sliding layer's window, or the
//! options' limit (the smaller of both). A full ring goes on with its oldest position overwritten, but never
//! one of the first `keep`. Positions go on counting. (Beltagy et al. 2020, "Longformer"; Xiao et al. 2023,
//! "Efficient Streaming Language Models with Attention Sinks".)
//!
//! # Memory
//!
//! After `n` positions, the last `m` of them added at once, there are buffers for
//!
//! ```text
//! capacity = ceil(n / 256) * 256              every position
//!            min(ceil(n / 256) * 256, size)   a ring, n <= size
//!            min(n, size - 1 + m)             a ring, n > size; after one more position: size
//! ```
//!
//! positions of `heads * (row(key_dim) + row(value_dim))` bytes each, where
//!
//! ```text
//! row(dim) = dim * sizeof(dtype)                                as they come
//!            dim * bits / 8 + 2 * dim / group * sizeof(dtype)   quantised
//! ```
//!
//! and `group` is the options' `group_size`, or 32 where that does not divide `dim`; where that does not
//! either, the row stays as it comes. [`KvCache::bytes_for`] computes this. Besides, a quantised or forked
//! cache gives attention a whole copy, which lives as long as the layer computes. MLX's CPU allocator takes a
//! freed buffer for a new one that is up to two pages smaller, unless its cache limit is 0. Going back frees
//! nothing before position 0.
//!
//! A fork shares what was there, as a piece with the room that it had, but for room of more than a quarter of
//! its positions. Each side's own positions then count from 0 in the formula. Rings are copied whole when
//! either side adds to them; a ring of the options' limit only once it is full.

mod group;
mod saved;
mod storage;
mod update;

pub use group::Plans;
pub use saved::KvMeta;
pub use storage::{KvShape, New};

use crate::error::{Error, Result};
use crate::mlx::Array;
use crate::mlx::ops::{self, Mask};
use group::Row;
use std::rc::Rc;
use storage::{Format, Stored};

/// The axis of positions.
const POSITIONS: usize = 2;
/// Buffers grow to multiples of this many positions, so that most steps write in place.
const STEP: i32 = 256;

/// Of `length` queries behind `past` positions, and of all keys: `[length, 1]` and `[1, past + length]`.
fn positions(past: i32, length: i32) -> Result<(Array, Array)> {
    let all = past + length;
    Ok((
        ops::reshape(&ops::arange(past, all)?, &[length, 1])?,
        ops::reshape(&ops::arange(0, all)?, &[1, all])?,
    ))
}

/// How caches store, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CacheOptions {
    /// Bits of a stored number, 8 or 4; `None`: as they come.
    pub bits: Option<i32>,
    /// Quantised numbers that share a scale: 32, 64 or 128.
    pub group_size: i32,
    /// The most positions that are kept; `None`: all.
    pub limit: Option<i32>,
    /// The first positions, fewer than the limit, which are kept for ever (by layers without a window).
    pub keep: i32,
}

impl Default for CacheOptions {
    fn default() -> Self {
        CacheOptions { bits: None, group_size: 64, limit: None, keep: 0 }
    }
}

impl CacheOptions {
    /// Whether a cache can be made so; an error says why not.
    pub fn check(&self) -> Result<()> {
        let bad = |what: String| Err(Error::BadArgument(format!("cache options: {what}")));
        match *self {
            CacheOptions { bits: Some(bits), .. } if bits != 8 && bits != 4 => {
                bad(format!("bits is {bits}, not 8 or 4"))
            }
            CacheOptions { group_size, .. } if ![32, 64, 128].contains(&group_size) => {
                bad(format!("group_size is {group_size}, not 32, 64 or 128"))
            }
            CacheOptions { limit: Some(limit), .. } if limit < 1 => {
                bad(format!("limit is {limit}, not 1 or more"))
            }
            CacheOptions { limit, keep, .. } if keep < 0 || limit.is_some_and(|limit| keep >= limit) => {
                bad(format!("keep is {keep}, not 0 or more and below the limit"))
            }
            _ => Ok(()),
        }
    }
}

/// How a cache that does not keep all positions goes round.
#[derive(Debug, Clone, Copy)]
struct Ring {
    /// Positions that a query sees, its own included.
    size: i32,
    /// The first ones, which stay.
    keep: i32,
}

/// Positions that several caches may share. Nobody writes to them.
#[derive(Debug, Clone)]
struct Piece {
    stored: Rc<Stored>,
    /// Positions that this cache sees of it.
    used: i32,
}

/// One layer's cache.
#[derive(Debug)]
pub struct KvCache {
    /// The most positions that a query attends to, its own included.
    window: Option<i32>,
    options: CacheOptions,
    /// Known from the first positions on.
    format: Option<Format>,
    /// The first positions, if they were shared.
    pieces: Vec<Piece>,
    /// The other ones; what lies behind the used positions is undefined.
    tail: Option<Rc<Stored>>,
    /// The place of pieces and tail in buffers that several caches have in common, while it has one.
    row: Option<Row>,
    /// Positions seen so far.
    offset: i32,
    /// Positions in pieces and tail.
    held: i32,
    /// Where in them the next position goes. Less than `held` in a ring that went round: its oldest position
    /// is there. Otherwise all lie in order.
    next: i32,
}

impl KvCache {
    /// A cache that keeps every position.
    pub fn full() -> Self {
        KvCache {
            window: None,
            options: CacheOptions::default(),
            format: None,
            pieces: vec![],
            tail: None,
            row: None,
            offset: 0,
            held: 0,
            next: 0,
        }
    }

    /// A cache for layers that attend to the last `window` positions. It keeps those as a ring.
    pub fn sliding(window: i32) -> Self {
        KvCache { window: Some(window.max(1)), ..Self::full() }
    }

    /// Whether every position is kept for ever.
    pub fn keeps_all(&self) -> bool {
        self.window.is_none() && self.options.limit.is_none()
    }

    /// Makes an empty cache follow the options.
    pub fn configure(&mut self, options: &CacheOptions) -> Result<()> {
        options.check()?;
        if self.offset > 0 {
            return Err(Error::Internal("only an empty cache can be configured".into()));
        }
        (self.options, self.format) = (*options, None);
        Ok(())
    }

    /// Positions seen so far: the position of the next token.
    pub fn offset(&self) -> i32 {
        self.offset
    }

    /// Positions that the cache has keys and values of.
    pub fn held(&self) -> i32 {
        self.held
    }

    /// The most positions that a query attends to; `None`: all that are kept.
    pub fn window(&self) -> Option<i32> {
        self.window
    }

    /// The shape of keys and values; `None` before the first ones.
    pub fn shape(&self) -> Option<KvShape> {
        self.format.map(|format| format.shape)
    }

    fn ring(&self) -> Option<Ring> {
        let CacheOptions { limit, keep, .. } = self.options;
        match (self.window, limit) {
            (None, None) => None,
            (None, Some(limit)) => Some(Ring { size: limit, keep }),
            // A layer was not trained to see first positions beyond its window.
            (Some(window), limit) => {
                Some(Ring { size: limit.map_or(window, |limit| limit.min(window)), keep: 0 })
            }
        }
    }

    /// What `length` new positions may attend to among the keys that [`KvCache::update`] will give. Each
    /// sees what it would see if it came alone. (mlx-lm 0.32 instead lets all but the first of several lose
    /// sight of kept positions.)
    pub fn mask(&self, length: i32) -> Result<Mask> {
        let Some(Ring { size, keep }) = self.ring() else {
            return Ok(if length == 1 { Mask::None } else { Mask::Causal });
        };
        if length == 1 {
            return Ok(Mask::None);
        }
        if self.held <= size - length {
            return Ok(Mask::Causal);
        }
        let (queries, keys) = positions(self.held.min(size - 1), length)?;
        let constant = |value| Array::from_i32(&[value], &[1, 1]);
        let mut seen = ops::less(&queries, &ops::add(&keys, &constant(size - keep)?)?)?;
        if keep > 0 {
            let kept = ops::less(&keys, &constant(keep)?)?;
            seen = ops::select(&kept, &kept, &seen)?;
        }
        Ok(Mask::Array(ops::logical_and(&ops::greater_equal(&queries, &keys)?, &seen)?))
    }

    /// Whether the cache can go back to a position: to any, as long as nothing gave way; then as far back
    /// as all is there that the position would see. That includes the position before the last update, so a
    /// pass that was interrupted between layers can be undone. It always includes 0.
    pub fn can_rewind(&self, position: i32) -> bool {
        let enough = |ring: Ring| self.held - (self.offset - position) >= ring.size - 1;
        let whole = self.held == self.offset || position == 0;
        (0..=self.offset).contains(&position) && (whole || self.ring().is_none_or(enough))
    }

    /// Forgets all from a position on. Fails where [`KvCache::can_rewind`] says no, and changes nothing then.
    pub fn rewind(&mut self, position: i32) -> Result<()> {
        if !self.can_rewind(position) {
            let (offset, held) = (self.offset, self.held);
            return Err(Error::BadArgument(format!(
                "a cache at position {offset}, which holds {held}, cannot go back to {position}"
            )));
        }
        if position == self.offset {
            return Ok(());
        }
        self.leave_group()?;
        let held = if position == 0 { 0 } else { self.held - (self.offset - position) };
        if self.next < self.held
            && let (Some(ring), Some(tail)) = (self.ring(), &self.tail)
        {
            // The newest of a ring that went round gives way, and its place is no position's: the other ones
            // are put in order.
            let runs = [(0, ring.keep), (self.next, self.held), (ring.keep, self.next - 1)];
            let runs = runs.into_iter().filter(|(start, stop)| held > 0 && start < stop);
            let runs: Vec<Stored> =
                runs.map(|(start, stop)| tail.slice(start, stop)).collect::<Result<_>>()?;
            self.tail = Some(Rc::new(Stored::join(&runs)?));
        }
        while self.shared() > held {
            self.tail = None;
            let over = self.shared() - held;
            if let Some(piece) = self.pieces.pop()
                && piece.used > over
            {
                self.pieces.push(Piece { used: piece.used - over, ..piece });
            }
        }
        if held == self.shared() {
            self.tail = None;
        }
        (self.offset, self.held, self.next) = (position, held, held);
        Ok(())
    }

    /// A second cache with the same positions; both go on independently and share the memory of what was
    /// there, as the module's documentation says.
    pub fn fork(&mut self) -> Result<Self> {
        self.leave_group()?;
        if self.window.is_none() && self.held == self.offset {
            self.freeze()?;
        }
        Ok(KvCache { pieces: self.pieces.clone(), tail: self.tail.clone(), row: None, ..*self })
    }

    /// Makes the tail a piece.
    fn freeze(&mut self) -> Result<()> {
        let used = self.held - self.shared();
        if let Some(tail) = &self.tail
            && used > 0
        {
            let roomy = tail.capacity() - used > used / 4;
            let stored = if roomy { Rc::new(Stored::join(&[tail.slice(0, used)?])?) } else { tail.clone() };
            self.pieces.push(Piece { stored, used });
        }
        self.tail = None;
        Ok(())
    }

    /// Bytes of all buffers, shared ones included.
    pub fn bytes(&self) -> usize {
        self.pieces().map(|(_, bytes)| bytes).sum()
    }

    /// Every buffer's bytes, with a number that caches which share the buffer have in common. The number
    /// holds as long as the buffer does.
    pub fn pieces(&self) -> impl Iterator<Item = (usize, usize)> {
        let pieces = self.pieces.iter().map(|piece| &piece.stored).chain(&self.tail);
        let pieces = pieces.map(|stored| (Rc::as_ptr(stored) as usize, stored.bytes()));
        pieces.chain(self.row.iter().map(Row::piece))
    }

    /// The bytes of such a cache after so many positions, the last `chunk` of them added at once (the formula
    /// in the module's documentation).
    pub fn bytes_for(&self, shape: KvShape, positions: i32, chunk: i32) -> usize {
        let (n, m) = (i64::from(positions.max(0)), i64::from(chunk.max(1)));
        let step = i64::from(STEP);
        let grown = (n + step - 1) / step * step;
        let capacity = match self.ring().map(|ring| i64::from(ring.size)) {
            None => grown,
            Some(size) if n <= size => grown.min(size),
            Some(size) => n.min(size - 1 + m),
        };
        capacity as usize * Format::new(shape, &self.options).bytes()
    }
}
