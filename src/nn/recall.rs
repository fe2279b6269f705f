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
    /// For MLX.
    Whole {
        /// Of the first sequences, which have one query each: keys and values
        /// `[sequences, kv_heads, positions, dim]`, and what the queries see.
        together: Option<(Array, Array, Mask)>,
        /// Of each of the other sequences: `[1, kv_heads, positions, dim]`.
        each: Vec<(Array, Array)>,
    },
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
        let kernels = keys.dtype() == Dtype::F32 && kernels::compute()?;
        let single = if kernels::compute()? { 0 } else { together(packing, &caches) };
        let (first, others) = caches.split_at_mut(single);
        let together = match first {
            [] => None,
            caches => {
                let first = |array: &Array| {
                    let first = ops::slice(array, 1, 0, single as i32)?;
                    ops::reshape(&first, &[single as i32, kv_heads, 1, -1])
                };
                Some(KvCache::update_together(caches, &first(keys)?, &first(values)?, plans)?)
            }
        };
        for (cache, rows) in others.iter_mut().zip(packing.ranges().skip(single)) {
            cache.add(New::Rows { keys, values, heads: kv_heads, rows })?;
        }
        if kernels {
            return others
                .iter()
                .map(|cache| cache.where_they_lie())
                .collect::<Result<_>>()
                .map(Recall::Lying);
        }
        let each = others.iter().map(|cache| cache.whole()).collect::<Result<_>>()?;
        Ok(Recall::Whole { together, each })
    }

    /// What the queries `[1, tokens, heads * dim]` read: `[1, tokens, heads * value_dim]`.
    pub fn attend(&self, q: &Array, packing: &Packing, scores: &Scores) -> Result<Array> {
        match self {
            Recall::Lying(sequences) => {
                if let Some(attended) = attend_kernel(q, sequences, packing, scores)? {
                    return Ok(attended);
                }
                let whole = sequences.iter().map(|runs| join(runs)).collect::<Result<Vec<_>>>()?;
                attend_each(q, &whole, packing, 0, scores, vec![])
            }
            Recall::Whole { together: None, each } => attend_each(q, each, packing, 0, scores, vec![]),
            Recall::Whole { together: Some((keys, values, mask)), each } => {
                let sequences = keys.dim(0);
                let first = ops::slice(q, 1, 0, sequences)?;
                let first = ops::reshape(&first, &[sequences, scores.heads, 1, -1])?;
                let attended = attend(&first, keys, values, mask, scores)?;
                let attended = ops::reshape(&attended, &[1, sequences, -1])?;
                attend_each(q, each, packing, sequences as usize, scores, vec![attended])
            }
        }
    }
}

/// How many sequences in front are computed together: those of one token, if there are several.
fn together(packing: &Packing, caches: &[&mut KvCache]) -> usize {
    let shape = caches.first().and_then(|cache| cache.shape());
    let joins =
        |(length, cache): (&i32, &&mut KvCache)| *length == 1 && cache.can_join() && cache.shape() == shape;
    let count = packing.lengths().iter().zip(caches).take_while(|&pair| joins(pair)).count();
    if count > 1 { count } else { 0 }
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

/// The sequences from `first` on, one by one; `attended` is what those before them read.
fn attend_each(
    q: &Array,
    memories: &[(Array, Array)],
    packing: &Packing,
    first: usize,
    scores: &Scores,
    mut attended: Vec<Array>,
) -> Result<Array> {
    let swap = |array: &Array| ops::transpose(array, &[0, 2, 1, 3]);
    let sequences = packing.ranges().zip(packing.masks()).skip(first).zip(memories);
    for ((Range { start, end }, masks), (keys, values)) in sequences {
        let q = ops::slice(q, 1, start, end)?;
        let q = swap(&ops::reshape(&q, &[1, end - start, scores.heads, -1])?)?;
        let read = swap(&attend(&q, keys, values, masks.of(scores.window)?, scores)?)?;
        attended.push(ops::reshape(&read, &[1, end - start, -1])?);
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
