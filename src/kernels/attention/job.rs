//! The decomposition of attention into tasks.

use super::tile::{self, State, Tile};
use super::{BLOCK, LANES, SPLIT, misfit};
use crate::error::Result;
use crate::kernels::isa::Isa;
use crate::kernels::output::Output;
use crate::kernels::threads::{self, with_scratch};
use crate::mlx::primitive::Bool;
use std::borrow::Cow;
use std::ops::Range;

/// Rows of queries, one for each head of a group, that are computed together: with a block of keys they stay
/// in a core's cache, and copying that block is little beside what they compute.
const ROWS: usize = 48;
/// Up to so many multiplications a thread computes alone: waking another takes as long.
const ALONE: usize = 300_000;

/// Rows of floats, of one or several heads.
pub(super) struct Rows<'a> {
    values: Cow<'a, [f32]>,
    head: usize,
    row: usize,
    width: usize,
}

impl<'a> Rows<'a> {
    /// `values` `[heads, rows, width]`, or `[1, rows, width]` with a stride of 0, as they lie. They are
    /// copied if a row does not lie in one piece.
    pub fn new(values: &'a [f32], [head, row, column]: [usize; 3], shape: &[i32]) -> Result<Self> {
        let &[heads, rows, width] = shape else { return Err(misfit()) };
        let [heads, rows, width] = [heads, rows, width].map(|length| length as usize);
        if column == 1 || width == 1 {
            return Ok(Rows { values: values.into(), head, row, width });
        }
        let starts = (0..heads).flat_map(|h| (0..rows).map(move |r| h * head + r * row));
        let copy = starts.flat_map(|start| (0..width).map(move |i| values[start + i * column]));
        Ok(Rows { values: copy.collect(), head: rows * width, row: width, width })
    }

    #[inline(always)]
    fn row(&self, head: usize, row: usize) -> &[f32] {
        &self.values[head * self.head + row * self.row..][..self.width]
    }
}

/// Which keys the queries of a sequence see.
pub(super) enum Seen<'a> {
    All,
    /// Those up to their own position.
    Before,
    /// Where this is true; strides of queries and keys.
    Where(&'a [Bool], [usize; 2]),
}

pub(super) struct SequenceJob<'a> {
    /// Keys, values, and how many of them count.
    runs: Vec<(Rows<'a>, Rows<'a>, usize)>,
    keys: usize,
    /// Where its queries begin.
    first: usize,
    queries: usize,
    seen: Seen<'a>,
}

impl<'a> SequenceJob<'a> {
    pub fn new(runs: Vec<(Rows<'a>, Rows<'a>, usize)>, first: usize, queries: usize, seen: Seen<'a>) -> Self {
        let keys = runs.iter().map(|(_, _, used)| used).sum();
        SequenceJob { runs, keys, first, queries, seen }
    }

    /// Behind the last key that the query may see.
    fn end(&self, query: usize) -> usize {
        match self.seen {
            Seen::Before => (self.keys + query + 1).saturating_sub(self.queries),
            _ => self.keys,
        }
    }

    /// Whether the query sees each key from `start` on.
    fn see(&self, query: usize, start: usize, seen: &mut [bool; BLOCK]) {
        let end = self.end(query);
        for (j, seen) in seen.iter_mut().enumerate() {
            *seen = start + j < end;
        }
        if let Seen::Where(mask, [row, column]) = self.seen {
            let count = (self.keys - start).min(BLOCK);
            let mask = &mask[query * row + start * column..];
            if column == 1 {
                seen.iter_mut().zip(&mask[..count]).for_each(|(seen, mask)| *seen = mask.is_true());
            } else {
                (0..count).for_each(|j| seen[j] = mask[j * column].is_true());
            }
        }
    }

    /// A head's keys and values from `start` on, up to `count`.
    fn block(&self, head: usize, start: usize, count: usize) -> [[&[f32]; BLOCK]; 2] {
        let mut block = [[[].as_slice(); BLOCK]; 2];
        let (mut before, mut filled) = (0, 0);
        for (keys, values, used) in &self.runs {
            while filled < count && start + filled < before + used {
                let row = start + filled - before;
                (block[0][filled], block[1][filled]) = (keys.row(head, row), values.row(head, row));
                filled += 1;
            }
            before += used;
        }
        block
    }
}

pub(super) struct Job<'a> {
    pub isa: Isa,
    /// Of all the sequences, the heads of a query side by side.
    pub queries: Rows<'a>,
    pub sequences: Vec<SequenceJob<'a>>,
    /// Of each head.
    pub sinks: Option<Vec<f32>>,
    pub heads: usize,
    /// Heads that share keys.
    pub group: usize,
    /// Widths of a key and of a value.
    pub dims: [usize; 2],
    pub scale: f32,
    pub softcap: Option<f32>,
}

/// Rows that are computed together: of one sequence and one head of keys, the group's heads of the first
/// query, then those of the next.
struct Place {
    sequence: usize,
    kv_head: usize,
    rows: Range<usize>,
    /// Where its splits' results begin, if splits are tasks of their own.
    partials: Option<usize>,
}

impl Job<'_> {
    /// Writes the result of all.
    pub fn run(&self, output: &mut [f32]) {
        let output = Output::new(output);
        let (mut places, mut tasks, mut multiplications, mut room) = (vec![], vec![], 0, 0);
        for (sequence, s) in self.sequences.iter().enumerate() {
            let (rows, kv_heads) = (s.queries * self.group, self.heads / self.group);
            // Of few tiles, splits are tasks of their own, or threads would have nothing to do.
            let split = s.keys > SPLIT && kv_heads * rows.div_ceil(ROWS) < 2 * threads::count();
            // The last rows see the most keys, and long tasks come first.
            for first in (0..rows).step_by(ROWS).rev() {
                for kv_head in 0..kv_heads {
                    let rows = first..(first + ROWS).min(rows);
                    let place =
                        Place { sequence, kv_head, rows: rows.clone(), partials: split.then_some(room) };
                    multiplications += rows.len() * self.end(&place) * (self.dims[0] + self.dims[1]);
                    if split {
                        let splits = self.end(&place).div_ceil(SPLIT);
                        tasks.extend((0..splits).map(|split| (places.len(), Some(split))));
                        room += splits * rows.len() * (self.width() + 2);
                    } else {
                        tasks.push((places.len(), None));
                    }
                    places.push(place);
                }
            }
        }
        let each = |count: usize, size: usize, work: &(dyn Fn(usize) + Sync)| {
            if size < ALONE { (0..count).for_each(work) } else { threads::for_each(count, work) }
        };
        let mut partials = vec![0.0; room];
        let shared = Output::new(&mut partials);
        each(tasks.len(), multiplications, &|task| {
            let (place, split) = tasks[task];
            self.task(&places[place], split, &shared, &output);
        });
        places.retain(|place| place.partials.is_some());
        each(places.len(), room, &|index| self.merge(&places[index], &partials, &output));
    }

    /// A row of values, rounded up to whole lanes.
    fn width(&self) -> usize {
        self.dims[1].next_multiple_of(LANES)
    }

    /// Behind the last key that any row may see.
    fn end(&self, place: &Place) -> usize {
        self.sequences[place.sequence].end((place.rows.end - 1) / self.group)
    }

    /// Computes one split, or all of them and the result.
    fn task(&self, place: &Place, split: Option<usize>, partials: &Output, output: &Output) {
        let ([dim, _], width, rows) = (self.dims, self.width(), place.rows.len());
        let size = rows * (width + 2);
        with_scratch(rows * dim + BLOCK * dim + rows * BLOCK + 2 * size, 0, |scratch, _| {
            let (q, scratch) = scratch.split_at_mut(rows * dim);
            let (keys, scratch) = scratch.split_at_mut(BLOCK * dim);
            let (scores, scratch) = scratch.split_at_mut(rows * BLOCK);
            let (part, total) = scratch.split_at_mut(size);
            for (row, q) in place.rows.clone().zip(q.chunks_exact_mut(dim)) {
                let (query, head) = self.query_and_head(place, row);
                let from = &self.queries.row(0, query)[head * dim..][..dim];
                q.iter_mut().zip(from).for_each(|(q, from)| *q = from * self.scale);
            }
            let (keys, scores) = (keys.as_chunks_mut().0, scores.as_chunks_mut().0);
            let mut tile = Tile {
                q,
                keys,
                scores,
                state: State::new(part, rows),
                dims: self.dims,
                softcap: self.softcap,
                group: self.group,
                first: place.rows.start % self.group,
            };
            if let (Some(split), Some(start)) = (split, place.partials) {
                self.attend(place, split, &mut tile);
                // SAFETY: every split has a place of its own.
                unsafe { partials.write(start + split * size, part) };
                return;
            }
            let mut total = State::new(total, rows);
            total.clear();
            for split in 0..self.end(place).div_ceil(SPLIT) {
                self.attend(place, split, &mut tile);
                total.merge(&tile.state);
            }
            self.finish(place, &mut total, output);
        });
    }

    /// The query that a row of the place is of, and its head.
    fn query_and_head(&self, place: &Place, row: usize) -> (usize, usize) {
        let query = self.sequences[place.sequence].first + row / self.group;
        (query, place.kv_head * self.group + row % self.group)
    }

    /// Attends to the keys of one split.
    fn attend(&self, place: &Place, split: usize, tile: &mut Tile) {
        tile.state.clear();
        let sequence = &self.sequences[place.sequence];
        let queries = place.rows.start / self.group..place.rows.end.div_ceil(self.group);
        let mut seen = vec![[false; BLOCK]; queries.len()];
        let end = self.end(place).min((split + 1) * SPLIT);
        for start in (split * SPLIT..end).step_by(BLOCK) {
            for (query, seen) in queries.clone().zip(&mut seen) {
                sequence.see(query, start, seen);
            }
            let last = seen.iter().filter_map(|seen| seen.iter().rposition(|seen| *seen)).max();
            let Some(last) = last else { continue };
            let [keys, values] = sequence.block(place.kv_head, start, last + 1);
            let block = tile::Block { keys: &keys[..=last], values: &values[..=last], seen: &seen };
            tile.attend(self.isa, &block);
        }
    }

    /// The result of splits that were tasks of their own.
    fn merge(&self, place: &Place, partials: &[f32], output: &Output) {
        let (Some(start), rows) = (place.partials, place.rows.len()) else { return };
        let size = rows * (self.width() + 2);
        with_scratch(2 * size, 0, |scratch, _| {
            let (part, total) = scratch.split_at_mut(size);
            let mut total = State::new(total, rows);
            total.clear();
            let splits = self.end(place).div_ceil(SPLIT);
            for partial in partials[start..].chunks_exact(size).take(splits) {
                part.copy_from_slice(partial);
                total.merge(&State::new(part, rows));
            }
            self.finish(place, &mut total, output);
        });
    }

    /// Divides by the sums, and writes.
    fn finish(&self, place: &Place, total: &mut State, output: &Output) {
        let dim = self.dims[1];
        for (index, row) in place.rows.clone().enumerate() {
            let (query, head) = self.query_and_head(place, row);
            let sink = self.sinks.as_ref().and_then(|sinks| sinks.get(head)).copied();
            let values = &total.finish(index, sink)[..dim];
            // SAFETY: every row belongs to one place.
            unsafe { output.write((query * self.heads + head) * dim, values) };
        }
    }
}
