//! Several sequences in one pass. Their new tokens are packed, one sequence's behind another's: layers
//! without memory see one long sequence, nothing is padded, and prompts and single tokens mix. Layers
//! with memory take the sequences apart, so what one of them computes does not depend on the others.

use super::{Cache, Masks};
use crate::error::{Error, Result};
use crate::mlx::{Array, ops};

/// How the sequences of a pass lie behind each other, and what their new positions attend to.
#[derive(Debug)]
pub struct Packing {
    lengths: Vec<i32>,
    masks: Vec<Masks>,
}

impl Packing {
    /// Takes packed arrays apart along `axis`: the same sequence's pieces of all of them together.
    pub fn split<const N: usize>(&self, axis: usize, packed: [&Array; N]) -> Result<Vec<[Array; N]>> {
        if self.lengths.len() == 1 {
            return Ok(vec![packed.map(Array::clone)]);
        }
        let mut start = 0;
        let mut cut = |&length: &i32| {
            let end = start + length;
            let pieces = packed.map(|array| ops::slice(array, axis, start, end));
            start = end;
            let pieces: Result<Vec<Array>> = pieces.into_iter().collect();
            Ok(pieces?.try_into().expect("one of each"))
        };
        self.lengths.iter().map(&mut cut).collect()
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
    caches: Vec<&'a mut [Cache]>,
}

impl<'a> Batch<'a> {
    /// Sequences in the order in which they are packed: their caches and how many new tokens each has.
    pub fn new(sequences: impl IntoIterator<Item = (&'a mut [Cache], i32)>) -> Result<Self> {
        let (caches, lengths): (Vec<_>, Vec<_>) = sequences.into_iter().unzip();
        let masks = caches.iter().zip(&lengths).map(|(caches, &length)| Masks::new(caches, length));
        let masks = masks.collect::<Result<_>>()?;
        Ok(Batch { packing: Packing { lengths, masks }, caches })
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
        Ok(Memory { packing: &self.packing, caches })
    }
}

/// What one layer remembers of each sequence.
#[derive(Debug)]
pub struct Memory<'a> {
    packing: &'a Packing,
    caches: Vec<&'a mut Cache>,
}

impl Memory<'_> {
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

    /// Each sequence's cache.
    pub fn caches(&mut self) -> impl Iterator<Item = &mut Cache> {
        self.caches.iter_mut().map(|cache| &mut **cache)
    }
}
