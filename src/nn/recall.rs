//! What the queries of a pass read from their sequences' keys and values.

use super::{Cache, KvCache, New, Packing, Plans, soft_cap};
use crate::error::Result;
use crate::kernels::{self, AttentionOptions};
use crate::mlx::ops::{self, Mask};
use crate::mlx::{Array, Dtype};
use std::ops::Range;

/// How scores come about.
#[derive(Debug, Clone, Copy)]
pub struct Scores<'a> {
    /// Heads of the queries: a multiple of those of keys and values.
    pub heads: i32,
    /// Their factor.
    pub scale: f32,
    /// The most positions that a query attends to; `None`: all.
    pub window: Option<i32>,
    /// They stay between plus and minus this, by tanh.
    pub softcap: Option<f32>,
    /// Each head's score without a value, `[heads]`.
    pub sinks: Option<&'a Array>,
}

/// One layer's keys and values, those of the pass included.
#[derive(Debug)]
pub enum Recall {
    /// Where each sequence's lie: kernels read them there.
    Lying(Vec<Vec<kernels::Run>>),
    /// For MLX, in the sequences' order.
    Whole(Vec<Part>),
}

/// Keys and values `[sequences, kv_heads, positions, dim]`.
#[derive(Debug)]
pub enum Part {
    /// Of one sequence.
    One(Array, Array),
    /// Of several with one query each, and what the queries see.
    Together(Array, Array, Mask),
}

/// Sequences of about as many positions have the same class: those that share buffers, which are all as long as
/// the longest.
pub fn length_class(positions: usize) -> u32 {
    (positions / 256 + 1).next_power_of_two().ilog2()
}

impl Recall {
    /// Adds new positions to the caches, as [`super::Memory::remember`] says.
    pub(super) fn new(
        packing: &Packing,
        plans: &mut Plans,
        caches: &mut [&mut Cache],
        [keys, values]: [&Array; 2],
        kv_heads: i32,
    ) -> Result<Self> {
        let mut caches = caches.iter_mut().map(|cache| cache.kv()).collect::<Result<Vec<_>>>()?;
        let mut ranges = packing.ranges();
        let new = |rows| New::Rows { keys, values, heads: kv_heads, rows };
        let alone = kernels::compute()?;
        if alone && keys.dtype() == Dtype::F32 {
            for (cache, rows) in caches.iter_mut().zip(ranges) {
                cache.add(new(rows))?;
            }
            let lying = caches.iter().map(|cache| cache.where_they_lie());
            return lying.collect::<Result<_>>().map(Recall::Lying);
        }
        let mut parts = vec![];
        let mut rest = &mut caches[..];
        let mut first = 0;
        while !rest.is_empty() {
            let count = if alone { 1 } else { together(&packing.lengths()[first..], rest) };
            let (members, others) = rest.split_at_mut(count);
            let rows: Vec<Range<i32>> = ranges.by_ref().take(count).collect();
            parts.push(match (members, &rows[..]) {
                ([cache], [rows]) => {
                    cache.add(new(rows.clone()))?;
                    let (keys, values) = cache.whole()?;
                    Part::One(keys, values)
                }
                (members, rows) => {
                    let (start, end) = (rows[0].start, rows[0].start + count as i32);
                    let column = |array: &Array| {
                        ops::reshape(&ops::slice(array, 1, start, end)?, &[count as i32, kv_heads, 1, -1])
                    };
                    let (keys, values) = (column(keys)?, column(values)?);
                    let (keys, values, mask) = KvCache::update_together(members, &keys, &values, plans)?;
                    Part::Together(keys, values, mask)
                }
            });
            rest = others;
            first += count;
        }
        Ok(Recall::Whole(parts))
    }

    /// What the queries `[1, tokens, heads * dim]` read: `[1, tokens, heads * value_dim]`.
    pub fn attend(&self, q: &Array, packing: &Packing, scores: &Scores) -> Result<Array> {
        match self {
            Recall::Lying(sequences) => {
                if let Some(attended) = attend_kernel(q, sequences, packing, scores)? {
                    return Ok(attended);
                }
                let part =
                    |runs: &Vec<kernels::Run>| join(runs).map(|(keys, values)| Part::One(keys, values));
                let whole = sequences.iter().map(part).collect::<Result<Vec<_>>>()?;
                attend_parts(q, &whole, packing, scores)
            }
            Recall::Whole(parts) => attend_parts(q, parts, packing, scores),
        }
    }
}

/// How many sequences in front are computed together: those of one token each and of about one length, or
/// a single sequence.
fn together(lengths: &[i32], caches: &[&mut KvCache]) -> usize {
    let kind = |cache: &KvCache| (cache.shape(), length_class(cache.offset() as usize));
    let first = caches.first().map(|cache| kind(cache));
    let joins = |(length, cache): (&i32, &&mut KvCache)| {
        *length == 1 && cache.can_join() && Some(kind(cache)) == first
    };
    lengths.iter().zip(caches).take_while(|&pair| joins(pair)).count().max(1)
}

fn attend_kernel(
    q: &Array,
    sequences: &[Vec<kernels::Run>],
    packing: &Packing,
    scores: &Scores,
) -> Result<Option<Array>> {
    let sequence = |((runs, masks), length): ((&Vec<kernels::Run>, &super::Masks), &i32)| {
        let mask = masks.of(scores.window)?.clone();
        Ok(kernels::Sequence { runs: runs.clone(), queries: *length, mask })
    };
    let sequences = sequences.iter().zip(packing.masks()).zip(packing.lengths()).map(sequence);
    let sequences: Vec<_> = sequences.collect::<Result<_>>()?;
    let kv_heads =
        sequences.first().and_then(|sequence| sequence.runs.first()).map_or(0, |run| run.keys.dim(1));
    let Scores { heads, scale, softcap, .. } = *scores;
    let options = AttentionOptions { heads, kv_heads, scale, softcap };
    kernels::attention(q, &sequences, &options, scores.sinks)
}

fn join(runs: &[kernels::Run]) -> Result<(Array, Array)> {
    let used = |array: &Array, used: i32| ops::slice(array, 2, 0, used);
    let join = |arrays: Vec<Array>| ops::concatenate(&arrays.iter().collect::<Vec<_>>(), 2);
    let keys = runs.iter().map(|run| used(&run.keys, run.used)).collect::<Result<_>>()?;
    let values = runs.iter().map(|run| used(&run.values, run.used)).collect::<Result<_>>()?;
    Ok((join(keys)?, join(values)?))
}

fn attend_parts(q: &Array, parts: &[Part], packing: &Packing, scores: &Scores) -> Result<Array> {
    let swap = |array: &Array| ops::transpose(array, &[0, 2, 1, 3]);
    let mut sequences = packing.ranges().zip(packing.masks());
    let mut attended = vec![];
    for part in parts {
        let Some((Range { start, end }, masks)) = sequences.next() else { break };
        let read = match part {
            Part::One(keys, values) => {
                let q = ops::slice(q, 1, start, end)?;
                let q = swap(&ops::reshape(&q, &[1, end - start, scores.heads, -1])?)?;
                let read = swap(&attend(&q, keys, values, masks.of(scores.window)?, scores)?)?;
                ops::reshape(&read, &[1, end - start, -1])?
            }
            Part::Together(keys, values, mask) => {
                let count = keys.dim(0);
                sequences.by_ref().take(count as usize - 1).for_each(drop);
                let q = ops::slice(q, 1, start, start + count)?;
                let q = ops::reshape(&q, &[count, scores.heads, 1, -1])?;
                ops::reshape(&attend(&q, keys, values, mask, scores)?, &[1, count, -1])?
            }
        };
        attended.push(read);
    }
    match &attended[..] {
        [only] => Ok(only.clone()),
        all => ops::concatenate(&all.iter().collect::<Vec<_>>(), 1),
    }
}

/// All `[batch, heads, length, dim]`, by MLX.
fn attend(q: &Array, k: &Array, v: &Array, mask: &Mask, scores: &Scores) -> Result<Array> {
    match scores.softcap {
        Some(cap) => soft_capped(q, k, v, scores.scale, mask, cap),
        None => ops::attention(q, k, v, scores.scale, mask, scores.sinks),
    }
}

/// [`ops::attention`] with soft-capped scores, which MLX has no fused operation for.
fn soft_capped(q: &Array, k: &Array, v: &Array, scale: f32, mask: &Mask, cap: f32) -> Result<Array> {
    let (batch, heads, length, head_dim) = (q.dim(0), q.dim(1), q.dim(2), q.dim(3));
    let (kv_heads, keys) = (k.dim(1), k.dim(2));
    let grouped = [batch, kv_heads, heads / kv_heads, length, head_dim];
    let q = ops::reshape(&ops::scale(q, scale)?, &grouped)?;
    let (k, v) = (ops::expand_dims(k, 2)?, ops::expand_dims(v, 2)?);
    let mut scores = soft_cap(&ops::matmul(&q, &ops::swap_axes(&k, -1, -2)?)?, cap)?;
    if let Some(mut mask) = mask.to_array(length, keys)? {
        if mask.shape().len() == 4 {
            mask = ops::expand_dims(&mask, 1)?;
        }
        scores = ops::select(&mask, &scores, &ops::constant(f32::NEG_INFINITY, &scores)?)?;
    }
    let attended = ops::matmul(&ops::softmax(&scores, -1, true)?, &v)?;
    ops::reshape(&attended, &[batch, heads, length, v.dim(-1)])
}
