//! Several sequences in one pass. Their new tokens are packed, one sequence's behind another's: layers
//! without memory see one long sequence, nothing is padded, and prompts and single tokens mix. Layers
//! with memory take the sequences apart, so what one of them computes does not depend on the others.

use super::{Cache, Masks, Plans, Recall};
use crate::error::{Error, Result};
use crate::mlx::{Array, ops};
use std::ops::Range;

/// How the sequences of a pass lie behind each other, and what their new positions attend to.
#[derive(Debug)]
pub struct Packing {
    lengths: Vec<i32>,
    /// The position of each sequence's first new token.
    offsets: Vec<i32>,
    /// Every token's position, int32 `[tokens]`.
    positions: Array,
    masks: Vec<Masks>,
}

impl Packing {
    fn new(sequences: &[(&mut [Cache], i32)]) -> Result<Self> {
        let lengths: Vec<i32> = sequences.iter().map(|(_, length)| *length).collect();
        // All layers are at the same position.
        let offset = |caches: &[Cache]| caches.first().map_or(0, Cache::offset);
        let offsets: Vec<i32> = sequences.iter().map(|(caches, _)| offset(caches)).collect();
        let each = offsets.iter().zip(&lengths).flat_map(|(&offset, &length)| offset..offset + length);
        let positions: Vec<i32> = each.collect();
        let masks = sequences.iter().map(|(caches, length)| Masks::new(caches, *length));
        Ok(Packing {
            positions: Array::from_i32(&positions, &[positions.len() as i32])?,
            masks: masks.collect::<Result<_>>()?,
            lengths,
            offsets,
        })
    }

    /// New tokens of each sequence.
    pub fn lengths(&self) -> &[i32] {
        &self.lengths
    }

    /// The position of each sequence's first new token.
    pub fn offsets(&self) -> &[i32] {
        &self.offsets
    }

    /// Every token's position, int32 `[tokens]`.
    pub fn positions(&self) -> &Array {
        &self.positions
    }

    /// Which tokens are each sequence's.
    pub fn ranges(&self) -> impl Iterator<Item = Range<i32>> {
        let mut start = 0;
        self.lengths.iter().map(move |length| {
            let range = start..start + length;
            start = range.end;
            range
        })
    }

    /// Takes packed arrays apart along `axis`: the same sequence's pieces of all of them together.
    pub fn split<const N: usize>(&self, axis: usize, packed: [&Array; N]) -> Result<Vec<[Array; N]>> {
        if self.lengths.len() == 1 {
            return Ok(vec![packed.map(Array::clone)]);
        }
        let cut = |range: Range<i32>| {
            let pieces = packed.map(|array| ops::slice(array, axis, range.start, range.end));
            let pieces: Result<Vec<Array>> = pieces.into_iter().collect();
            Ok(pieces?.try_into().expect("one of each"))
        };
        self.ranges().map(cut).collect()
    }

    /// The opposite, for one array.
    pub fn join(&self, axis: i32, pieces: Vec<Array>) -> Result<Array> {
        match &pieces[..] {
            [only] => Ok(only.clone()),
            pieces => ops::concatenate(&pieces.iter().collect::<Vec<_>>(), axis),
        }
    }

    /// Each sequence's masks.
    pub fn masks(&self) -> &[Masks] {
        &self.masks
    }
}

/// The sequences of a pass with what the model remembers of each.
#[derive(Debug)]
pub struct Batch<'a> {
    packing: Packing,
    plans: Plans,
    caches: Vec<&'a mut [Cache]>,
}

impl<'a> Batch<'a> {
    /// Sequences in the order in which they are packed: their caches and how many new tokens each has. Where
    /// MLX computes, neighbours with one new token each and of one [`super::length_class`] are computed together.
    pub fn new(sequences: impl IntoIterator<Item = (&'a mut [Cache], i32)>) -> Result<Self> {
        let sequences: Vec<_> = sequences.into_iter().collect();
        let packing = Packing::new(&sequences)?;
        let caches = sequences.into_iter().map(|(caches, _)| caches).collect();
        Ok(Batch { packing, plans: Plans::default(), caches })
    }

    /// A single sequence.
    pub fn one(caches: &'a mut [Cache], length: i32) -> Result<Self> {
        Self::new([(caches, length)])
    }

    /// How the sequences lie.
    pub fn packing(&self) -> &Packing {
        &self.packing
    }

    /// What the layer with cache `index` remembers of each sequence.
    pub fn layer(&mut self, index: usize) -> Result<Memory<'_>> {
        let caches = self.caches.iter_mut().map(|caches| caches.get_mut(index));
        let caches: Option<Vec<_>> = caches.collect();
        let caches = caches.ok_or_else(|| Error::Internal("too few caches for the model".into()))?;
        Ok(Memory { packing: &self.packing, plans: &mut self.plans, caches })
    }
}

/// What one layer remembers of each sequence.
#[derive(Debug)]
pub struct Memory<'a> {
    packing: &'a Packing,
    plans: &'a mut Plans,
    caches: Vec<&'a mut Cache>,
}

impl Memory<'_> {
    /// How the sequences lie.
    pub fn packing(&self) -> &Packing {
        self.packing
    }

    /// Maps packed arrays sequence by sequence, each with its own cache and masks. The sequences lie
    /// behind each other along `axis` of the inputs and of what comes out.
    pub fn each<const N: usize>(
        &mut self,
        axis: usize,
        packed: [&Array; N],
        mut map: impl FnMut([Array; N], &mut Cache, &Masks) -> Result<Array>,
    ) -> Result<Array> {
        let pieces = self.packing.split(axis, packed)?.into_iter();
        let sequences = pieces.zip(&mut self.caches).zip(&self.packing.masks);
        let mapped = sequences.map(|((pieces, cache), masks)| map(pieces, cache, masks));
        self.packing.join(axis as i32, mapped.collect::<Result<_>>()?)
    }

    /// Adds the new positions to each sequence's keys and values, and gives all of them: `keys` and `values`
    /// `[1, tokens, kv_heads * dim]`, keys turned to their positions.
    pub fn remember(&mut self, keys: &Array, values: &Array, kv_heads: i32) -> Result<Recall> {
        Recall::new(self.packing, self.plans, &mut self.caches, [keys, values], kv_heads)
    }
}
