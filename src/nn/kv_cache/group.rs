//! The buffers of several caches in one, `[caches, heads, capacity, columns]`, so that a step that adds one
//! position to each writes and reads all of them at once. For GPUs, where each operation costs
//! microseconds however little it does. A cache that is used alone again takes its own part out of it.

use super::storage::Stored;
use super::{KvCache, POSITIONS, STEP};
use crate::error::{Error, Result};
use crate::mlx::Array;
use crate::mlx::ops::{self, Mask};
use std::rc::Rc;

/// A cache's place in the common buffers.
#[derive(Debug, Clone)]
pub(super) struct Row {
    group: Rc<Group>,
    row: i32,
}

/// The common buffers.
#[derive(Debug)]
pub(super) struct Group(Stored);

impl Group {
    fn rows(&self) -> i32 {
        self.0.0.first().map_or(0, |array| array.dim(0))
    }
}

impl Row {
    /// Bytes of the cache's part, with a number that no other part has.
    pub(super) fn piece(&self) -> (usize, usize) {
        let number = Rc::as_ptr(&self.group) as usize + self.row as usize;
        (number, self.group.0.bytes() / self.group.rows().max(1) as usize)
    }

    /// A view of the cache's part.
    pub(super) fn stored(&self) -> Result<Stored> {
        rows_of(&self.group.0, self.row, self.row + 1)
    }
}

fn rows_of(stored: &Stored, start: i32, stop: i32) -> Result<Stored> {
    if stored.0.iter().all(|array| (start, stop) == (0, array.dim(0))) {
        return Ok(stored.clone());
    }
    stored.0.iter().map(|array| ops::slice(array, 0, start, stop)).collect::<Result<_>>().map(Stored)
}

/// Where each cache's new position goes, and which positions its query sees. Layers of one kind do the same.
#[derive(Debug)]
struct Plan {
    /// For each cache: where, and how many positions it holds then.
    places: Vec<(i32, i32)>,
    capacity: i32,
    /// `[caches, 1, 1, 1]`.
    at: Array,
    mask: Mask,
}

impl Plan {
    fn new(places: Vec<(i32, i32)>, capacity: i32) -> Result<Self> {
        let caches = places.len() as i32;
        let column = |numbers: Vec<i32>| Array::from_i32(&numbers, &[caches, 1, 1, 1]);
        let at = column(places.iter().map(|place| place.0).collect())?;
        let held = column(places.iter().map(|place| place.1).collect())?;
        let mask = match places.iter().all(|place| place.1 == capacity) {
            true => Mask::None,
            false => Mask::Array(ops::less(&ops::arange(0, capacity)?, &held)?),
        };
        Ok(Plan { places, capacity, at, mask })
    }
}

/// The plans of a pass.
#[derive(Debug, Default)]
pub struct Plans(Vec<Plan>);

impl Plans {
    fn find(&mut self, places: Vec<(i32, i32)>, capacity: i32) -> Result<&Plan> {
        let known = self.0.iter().position(|plan| plan.capacity == capacity && plan.places == places);
        let index = match known {
            Some(index) => index,
            None => {
                self.0.push(Plan::new(places, capacity)?);
                self.0.len() - 1
            }
        };
        Ok(&self.0[index])
    }
}

impl KvCache {
    /// Whether the cache can share buffers with others: it has positions, and they are not quantised.
    pub fn can_join(&self) -> bool {
        let some = self.held > 0 && self.ring().is_none_or(|ring| ring.size > 1);
        some && self.format.is_some_and(|format| format.is_plain())
    }

    /// Adds one position to each cache, `keys` and `values` `[caches, heads, 1, dim]`; gives all keys and
    /// values, `[caches, heads, capacity, dim]`, and which of them each query sees. All caches can join.
    pub fn update_together(
        caches: &mut [&mut KvCache],
        keys: &Array,
        values: &Array,
        plans: &mut Plans,
    ) -> Result<(Array, Array, Mask)> {
        let format = caches.first().and_then(|cache| cache.format);
        if caches.iter().any(|cache| cache.format != format) {
            return Err(Error::Internal("caches of different shapes cannot share buffers".into()));
        }
        caches.iter_mut().try_for_each(|cache| cache.fit_ring())?;
        let places: Vec<(i32, i32)> = caches.iter().map(|cache| cache.next_place()).collect();
        let capacity = caches.iter().zip(&places).map(|(cache, (_, held))| {
            let grown = (held + STEP - 1) / STEP * STEP;
            cache.ring().map_or(grown, |ring| grown.min(ring.size))
        });
        let plan = plans.find(places.clone(), capacity.max().unwrap_or(0))?;
        let group = match common_group(caches, plan.capacity) {
            Some(group) => group,
            None => Rc::new(build(caches, plan.capacity)?),
        };
        let write = |(old, new)| ops::put_along_axis(old, &plan.at, new, POSITIONS as i32);
        let arrays: Vec<Array> = group.0.0.iter().zip([keys, values]).map(write).collect::<Result<_>>()?;
        let [all_keys, all_values] = &arrays[..] else {
            return Err(Error::Internal("a group's caches hold keys and values".into()));
        };
        let given = (all_keys.clone(), all_values.clone(), plan.mask.clone());
        let group = Rc::new(Group(Stored(arrays)));
        for ((row, cache), (at, held)) in (0..).zip(caches).zip(places) {
            (cache.tail, cache.row) = (None, Some(Row { group: group.clone(), row }));
            cache.offset = cache.offset.checked_add(1).ok_or_else(KvCache::too_long)?;
            (cache.held, cache.next) = (held, at + 1);
        }
        Ok(given)
    }

    /// Drops what the next position does not see, if more is held than a ring has room for.
    fn fit_ring(&mut self) -> Result<()> {
        if let Some(ring) = self.ring()
            && self.held > ring.size
        {
            self.leave_group()?;
            let seen = self.still_seen(ring)?;
            self.tail = Some(Rc::new(Stored::join(&seen)?));
            (self.held, self.next) = (ring.size - 1, ring.size - 1);
        }
        Ok(())
    }

    /// Where one more position goes, and how many are held then.
    fn next_place(&self) -> (i32, i32) {
        match self.ring() {
            Some(ring) if self.held >= ring.size => {
                let at = if self.next >= ring.size { ring.keep } else { self.next };
                (at, self.held)
            }
            _ => (self.held, self.held + 1),
        }
    }

    /// Takes the cache's part out of common buffers; gives the copies, which are not computed yet and keep
    /// the common buffers until they are.
    pub fn leave_group(&mut self) -> Result<Vec<Array>> {
        let Some(row) = self.row.take() else { return Ok(vec![]) };
        let part = row.stored()?;
        let room = ((self.held + STEP - 1) / STEP * STEP).min(part.capacity());
        let copy = Stored::join(&[part.slice(0, room)?])?;
        self.tail = Some(Rc::new(copy.clone()));
        Ok(copy.0)
    }
}

/// The buffers that hold just these caches, in this order, and have room.
fn common_group(caches: &[&mut KvCache], capacity: i32) -> Option<Rc<Group>> {
    let group = &caches.first()?.row.as_ref()?.group;
    let mut rows = (0..).zip(caches);
    let same = group.rows() == caches.len() as i32
        && group.0.capacity() == capacity
        && rows.all(|(index, cache)| {
            cache.row.as_ref().is_some_and(|row| Rc::ptr_eq(&row.group, group) && row.row == index)
        });
    same.then(|| group.clone())
}

/// Common buffers of what the caches hold.
fn build(caches: &mut [&mut KvCache], capacity: i32) -> Result<Group> {
    let mut parts: Vec<Stored> = vec![];
    let mut index = 0;
    while index < caches.len() {
        // Neighbours in old buffers stay neighbours.
        let mut next = index + 1;
        let part = match &caches[index].row {
            Some(first) => {
                let follows = |cache: &KvCache, steps: usize| {
                    let row = cache.row.as_ref();
                    row.is_some_and(|row| {
                        Rc::ptr_eq(&row.group, &first.group) && row.row == first.row + steps as i32
                    })
                };
                while next < caches.len() && follows(caches[next], next - index) {
                    next += 1;
                }
                rows_of(&first.group.0, first.row, first.row + (next - index) as i32)?
            }
            None => {
                caches[index].collapse()?;
                let tail = caches[index].tail.as_deref();
                tail.cloned().ok_or_else(|| Error::Internal("an empty cache in a group".into()))?
            }
        };
        parts.push(resized(part, capacity)?);
        index = next;
    }
    let arrays = parts.first().map_or(0, |part| part.0.len());
    let join = |i: usize| {
        let arrays: Vec<&Array> = parts.iter().filter_map(|part| part.0.get(i)).collect();
        ops::concatenate(&arrays, 0)
    };
    (0..arrays).map(join).collect::<Result<_>>().map(|arrays| Group(Stored(arrays)))
}

/// The same with room for so many positions, no fewer than are held.
fn resized(stored: Stored, capacity: i32) -> Result<Stored> {
    let old = stored.capacity();
    if old >= capacity {
        return stored.slice(0, capacity);
    }
    let pad = |array: &Array| {
        let mut shape = array.shape().to_vec();
        shape[POSITIONS] = capacity - old;
        ops::concatenate(&[array, &ops::zeros(&shape, array.dtype())?], POSITIONS as i32)
    };
    stored.0.iter().map(pad).collect::<Result<_>>().map(Stored)
}
