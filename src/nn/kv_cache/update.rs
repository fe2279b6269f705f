//! How positions get into a cache, and how they are read.

use super::storage::{Format, New, Stored};
use super::{KvCache, Ring, STEP};
use crate::error::{Error, Result};
use crate::kernels::Run;
use crate::mlx::Array;
use std::rc::Rc;

impl KvCache {
    pub(super) fn too_long() -> Error {
        Error::ContextFull("a sequence has more positions than can be counted".into())
    }

    /// Adds new positions and gives all keys and values to attend to.
    pub fn update(&mut self, keys: Array, values: Array) -> Result<(Array, Array)> {
        self.add(New::Heads(keys, values))?;
        self.whole()
    }

    /// Adds new positions.
    pub fn add(&mut self, new: New) -> Result<()> {
        self.leave_group()?;
        let shape = new.shape()?;
        let format = Format::new(shape, &self.options);
        if let Some(known) = self.shape()
            && known != shape
        {
            return Err(Error::Internal(format!("a cache of {known:?} was given {shape:?}")));
        }
        let length = new.length();
        let offset = self
            .offset
            .checked_add(length)
            .filter(|end| *end < i32::MAX - STEP)
            .ok_or_else(Self::too_long)?;
        match self.ring() {
            Some(ring) if length == 1 && self.held == ring.size => self.replace(format, ring, &new)?,
            Some(ring) if length > ring.size - self.held => self.append(ring, format.encode(&new)?)?,
            ring => self.extend(format, &new, ring)?,
        }
        (self.offset, self.format) = (offset, Some(format));
        Ok(())
    }

    /// All keys and values, `[1, kv_heads, positions, dim]`.
    pub fn whole(&self) -> Result<(Array, Array)> {
        let format = self.format.ok_or_else(|| Error::Internal("an empty cache was read".into()))?;
        format.decode(match self.runs(0)?.as_slice() {
            [run] => run.clone(),
            runs => Stored::join(runs)?,
        })
    }

    /// The same where they lie.
    pub fn where_they_lie(&self) -> Result<Vec<Run>> {
        let run = |stored: &Stored, used| match &stored.0[..] {
            [keys, values] => Ok(Run { keys: keys.clone(), values: values.clone(), used }),
            _ => Err(Error::Internal("a cache lacks an array".into())),
        };
        if !self.format.is_some_and(|format| format.is_plain()) || self.row.is_some() {
            let (keys, values) = self.whole()?;
            return Ok(vec![run(&Stored(vec![keys, values]), self.held)?]);
        }
        let pieces = self.pieces.iter().map(|piece| run(&piece.stored, piece.used));
        let tail = self.tail.iter().map(|tail| run(tail, self.held - self.shared()));
        pieces.chain(tail).collect()
    }

    /// Adds positions in order, in place if there is room.
    pub(super) fn extend(&mut self, format: Format, new: &New, ring: Option<Ring>) -> Result<()> {
        // What is no longer shared becomes the buffer again, or part of it when it is made anew.
        let alone = self.pieces.iter().all(|piece| Rc::strong_count(&piece.stored) == 1);
        if alone && self.tail.is_none() && self.pieces.len() == 1 {
            self.tail = self.pieces.pop().map(|piece| piece.stored);
        }
        let (shared, length) = (self.shared(), new.length());
        let held = self.held + length;
        let tail = match self.tail.take_if(|tail| held - shared <= tail.capacity()) {
            Some(tail) => format.write(Rc::unwrap_or_clone(tail), new, self.held - shared)?,
            _ => {
                let mut runs = self.runs(if alone { 0 } else { shared })?;
                let used = held - if alone { 0 } else { shared };
                let most = ring.map_or(i32::MAX, |ring| ring.size - (held - used));
                let room = (used + STEP - 1) / STEP * STEP;
                runs.push(format.encode(new)?);
                if room.min(most) > used {
                    runs.push(format.zeros(room.min(most) - used)?);
                }
                if alone {
                    self.pieces.clear();
                }
                Stored::join(&runs)?
            }
        };
        self.tail = Some(Rc::new(tail));
        (self.held, self.next) = (held, held);
        Ok(())
    }

    /// Puts one position in the place of the oldest.
    pub(super) fn replace(&mut self, format: Format, ring: Ring, new: &New) -> Result<()> {
        self.collapse()?;
        let at = if self.next == ring.size { ring.keep } else { self.next };
        if let Some(tail) = self.tail.take() {
            self.tail = Some(Rc::new(format.write(Rc::unwrap_or_clone(tail), new, at)?));
        }
        self.next = at + 1;
        Ok(())
    }

    /// Adds positions that do not all fit a ring: those that the first of them still sees, then all new
    /// ones, in order.
    pub(super) fn append(&mut self, ring: Ring, new: Stored) -> Result<()> {
        let mut runs = self.still_seen(ring)?;
        let held = runs.iter().map(Stored::capacity).sum::<i32>() + new.capacity();
        runs.push(new);
        self.tail = Some(Rc::new(Stored::join(&runs)?));
        (self.held, self.next) = (held, held);
        Ok(())
    }

    /// Views of the positions that the next one sees, in order.
    pub(super) fn still_seen(&mut self, ring: Ring) -> Result<Vec<Stored>> {
        self.collapse()?;
        let Some(tail) = &self.tail else { return Ok(vec![]) };
        let runs = self.order((self.held - (ring.size - 1)).max(0));
        runs.map(|(start, stop)| tail.slice(start, stop)).collect()
    }

    /// Where the positions lie in the tail of a cache without pieces, in order, without the `drop` oldest
    /// ones that need not be kept.
    pub(super) fn order(&self, drop: i32) -> impl Iterator<Item = (i32, i32)> {
        let keep = self.ring().map_or(0, |ring| ring.keep);
        let runs = if self.next < self.held {
            [(0, keep), (self.next + drop, self.held), (keep, self.next)]
        } else if drop > 0 {
            [(0, keep), (keep + drop, self.held), (0, 0)]
        } else {
            [(0, self.held), (0, 0), (0, 0)]
        };
        runs.into_iter().filter(|(start, stop)| start < stop)
    }

    /// Positions in the pieces.
    pub(super) fn shared(&self) -> i32 {
        self.pieces.iter().map(|piece| piece.used).sum()
    }

    /// Views of what is held, from a position that begins a piece or the tail, as it lies.
    pub(super) fn runs(&self, from: i32) -> Result<Vec<Stored>> {
        let mut runs = vec![];
        let mut start = 0;
        for piece in &self.pieces {
            if start >= from {
                runs.push(piece.stored.slice(0, piece.used)?);
            }
            start += piece.used;
        }
        if let Some(tail) = self.tail()?
            && self.held > start
        {
            runs.push(tail.slice(0, self.held - start)?);
        }
        Ok(runs)
    }

    /// What lies behind the pieces, wherever it does.
    pub(super) fn tail(&self) -> Result<Option<Rc<Stored>>> {
        match &self.row {
            Some(row) => row.stored().map(|stored| Some(Rc::new(stored))),
            None => Ok(self.tail.clone()),
        }
    }

    /// Makes the pieces part of the tail.
    pub(super) fn collapse(&mut self) -> Result<()> {
        if !self.pieces.is_empty() {
            self.tail = Some(Rc::new(Stored::join(&self.runs(0)?)?));
            self.pieces.clear();
        }
        Ok(())
    }
}
