//! Keys and values of past positions, `[batch, kv_heads, positions, head_dim]`.

use crate::error::Result;
use crate::mlx::Array;
use crate::mlx::ops::{self, Mask};

/// The axis of positions.
const POSITIONS: usize = 2;
/// Buffers grow by this many positions, so that most steps write in place.
const STEP: i32 = 256;

/// Of `length` queries behind `past` positions, and of all keys: `[length, 1]` and `[1, past + length]`.
fn positions(past: i32, length: i32) -> Result<(Array, Array)> {
    let all = past + length;
    Ok((
        ops::reshape(&ops::arange(past, all)?, &[length, 1])?,
        ops::reshape(&ops::arange(0, all)?, &[1, all])?,
    ))
}

/// Where `length` queries behind `past` positions may look: true at their own position and before,
/// `[length, past + length]`.
pub fn causal_mask(past: i32, length: i32) -> Result<Array> {
    let (queries, keys) = positions(past, length)?;
    ops::greater_equal(&queries, &keys)
}

/// One layer's cache.
#[derive(Debug)]
pub struct KvCache {
    /// Keys and values; what lies behind the used positions is undefined.
    buffers: Option<[Array; 2]>,
    /// Positions seen so far.
    offset: i32,
    /// Where the next position goes in the buffers.
    next: i32,
    /// The most positions that a query attends to, its own included.
    window: Option<i32>,
}

impl KvCache {
    /// A cache that keeps every position.
    pub fn full() -> Self {
        KvCache { buffers: None, offset: 0, next: 0, window: None }
    }

    /// A cache for layers that attend to the last `window` positions. It keeps those as a ring.
    pub fn sliding(window: i32) -> Self {
        KvCache { window: Some(window.max(1)), ..Self::full() }
    }

    /// Positions seen so far: the position of the next token.
    pub fn offset(&self) -> i32 {
        self.offset
    }

    /// The most positions that a query attends to; `None`: all.
    pub fn window(&self) -> Option<i32> {
        self.window
    }

    /// What `length` new positions may attend to among the keys that [`KvCache::update`] will give.
    pub fn mask(&self, length: i32) -> Result<Mask> {
        if length == 1 {
            return Ok(Mask::None);
        }
        let Some(window) = self.window else { return Ok(Mask::Causal) };
        let past = self.offset.min(window - 1);
        if past + length <= window {
            return Ok(Mask::Causal);
        }
        let (queries, keys) = positions(past, length)?;
        let causal = ops::greater_equal(&queries, &keys)?;
        let reach = Array::from_i32(&[window], &[1, 1])?;
        let near = ops::less(&queries, &ops::add(&keys, &reach)?)?;
        Ok(Mask::Array(ops::logical_and(&causal, &near)?))
    }

    /// Adds new positions and gives all keys and values to attend to.
    pub fn update(&mut self, keys: Array, values: Array) -> Result<(Array, Array)> {
        let length = keys.dim(POSITIONS as i32);
        match self.window {
            None => self.grow(self.offset + length, [&keys, &values])?,
            Some(window) if length == 1 => self.make_room_in_ring(window, [&keys, &values])?,
            Some(window) => return self.append(window, keys, values),
        }
        // The old buffers are given up before the new ones are computed, so MLX writes in place.
        let [old_keys, old_values] = self.buffers.take().expect("grown above");
        let new_keys = ops::slice_update(&old_keys, &keys, POSITIONS, self.next)?;
        let new_values = ops::slice_update(&old_values, &values, POSITIONS, self.next)?;
        self.next += length;
        self.offset += length;
        let used = self.offset.min(new_keys.dim(POSITIONS as i32));
        let view = (ops::slice(&new_keys, POSITIONS, 0, used)?, ops::slice(&new_values, POSITIONS, 0, used)?);
        self.buffers = Some([new_keys, new_values]);
        Ok(view)
    }

    fn capacity(&self) -> i32 {
        self.buffers.as_ref().map_or(0, |[keys, _]| keys.dim(POSITIONS as i32))
    }

    /// Makes the buffers at least `needed` positions long. `like` gives shape and type.
    fn grow(&mut self, needed: i32, like: [&Array; 2]) -> Result<()> {
        if needed <= self.capacity() {
            return Ok(());
        }
        let extra = (needed - self.capacity() + STEP - 1) / STEP * STEP;
        self.extend(extra, like)
    }

    fn extend(&mut self, extra: i32, like: [&Array; 2]) -> Result<()> {
        let space = |like: &Array| {
            let mut shape = like.shape().to_vec();
            shape[POSITIONS] = extra;
            ops::zeros(&shape, like.dtype())
        };
        let [keys, values] = [space(like[0])?, space(like[1])?];
        self.buffers = Some(match self.buffers.take() {
            None => [keys, values],
            Some([old_keys, old_values]) => [
                ops::concatenate(&[&old_keys, &keys], POSITIONS as i32)?,
                ops::concatenate(&[&old_values, &values], POSITIONS as i32)?,
            ],
        });
        Ok(())
    }

    /// Prepares the ring for one position at `next`: the oldest gives way once the window is full.
    fn make_room_in_ring(&mut self, window: i32, like: [&Array; 2]) -> Result<()> {
        if self.capacity() > window {
            // A long prompt left more than the window: keep the last ones, in order.
            let drop = self.capacity() - window;
            let [keys, values] = self.buffers.take().expect("has capacity");
            self.buffers = Some([
                ops::slice(&keys, POSITIONS, drop, drop + window)?,
                ops::slice(&values, POSITIONS, drop, drop + window)?,
            ]);
            self.next = window;
        }
        if self.next == self.capacity() && self.capacity() < window {
            self.extend(STEP.min(window - self.capacity()), like)?;
        }
        if self.next == window {
            self.next = 0;
        }
        Ok(())
    }

    /// Adds many positions to a sliding cache: those that the first of them still sees, then all new
    /// ones, in order.
    fn append(&mut self, window: i32, keys: Array, values: Array) -> Result<(Array, Array)> {
        let length = keys.dim(POSITIONS as i32);
        let (keys, values) = match self.buffers.take() {
            None => (keys, values),
            Some([old_keys, old_values]) => {
                (self.join(&old_keys, &keys, window)?, self.join(&old_values, &values, window)?)
            }
        };
        self.offset += length;
        self.next = keys.dim(POSITIONS as i32);
        self.buffers = Some([keys.clone(), values.clone()]);
        Ok((keys, values))
    }

    fn join(&self, ring: &Array, new: &Array, window: i32) -> Result<Array> {
        let capacity = ring.dim(POSITIONS as i32);
        let wrapped = self.next < capacity && self.offset > self.next;
        let ordered = if wrapped {
            ops::concatenate(
                &[
                    &ops::slice(ring, POSITIONS, self.next, capacity)?,
                    &ops::slice(ring, POSITIONS, 0, self.next)?,
                ],
                POSITIONS as i32,
            )?
        } else {
            ops::slice(ring, POSITIONS, 0, self.next)?
        };
        let length = ordered.dim(POSITIONS as i32);
        let seen = ops::slice(&ordered, POSITIONS, (length - (window - 1)).max(0), length)?;
        ops::concatenate(&[&seen, new], POSITIONS as i32)
    }
}
