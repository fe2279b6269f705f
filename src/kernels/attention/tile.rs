//! Rows of queries on their way through the keys.

#[cfg(target_arch = "x86_64")]
use super::avx512;
use super::{BLOCK, portable};
use crate::kernels::isa::Isa;
use crate::kernels::math::exp_negative;

/// Up to [`BLOCK`] keys and their values.
pub(super) struct Block<'a> {
    pub keys: &'a [&'a [f32]],
    pub values: &'a [&'a [f32]],
    /// Whether each query sees them. Those behind the last are not seen.
    pub seen: &'a [[bool; BLOCK]],
}

/// Rows that attend together.
pub(super) struct Tile<'a> {
    /// A row for each head of a query's group, times the scale.
    pub q: &'a [f32],
    /// Room for a block's keys, one column behind the other.
    pub keys: &'a mut [[f32; BLOCK]],
    /// Room for a block's scores, of each row.
    pub scores: &'a mut [[f32; BLOCK]],
    pub state: State<'a>,
    /// Widths of a key and of a value.
    pub dims: [usize; 2],
    pub softcap: Option<f32>,
    /// Rows of one query.
    pub group: usize,
    /// How many rows of the first query are not in this tile.
    pub first: usize,
}

impl Tile<'_> {
    /// Adds a block's values, weighed.
    pub fn attend(&mut self, isa: Isa, block: &Block) {
        match isa {
            // SAFETY: the processor has it.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Vnni | Isa::Amx => unsafe { avx512::attend(self, block) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::AvxVnni => unsafe { portable::attend_avx2(self, block) },
            _ => portable::attend(self, block),
        }
    }
}

/// What rows have attended to so far.
pub(super) struct State<'a> {
    /// The largest score of each row.
    pub max: &'a mut [f32],
    /// The sum of `exp(score - max)`.
    pub sum: &'a mut [f32],
    /// The sums of `exp(score - max) * value`, each row with zeros up to whole lanes.
    pub out: &'a mut [f32],
}

impl<'a> State<'a> {
    /// Of memory for `rows * (width + 2)` floats.
    pub fn new(memory: &'a mut [f32], rows: usize) -> Self {
        let (max, rest) = memory.split_at_mut(rows);
        let (sum, out) = rest.split_at_mut(rows);
        State { max, sum, out }
    }

    /// To nothing seen.
    pub fn clear(&mut self) {
        self.max.fill(f32::NEG_INFINITY);
        self.sum.fill(0.0);
        self.out.fill(0.0);
    }

    /// Adds what the same rows saw of later keys.
    pub fn merge(&mut self, other: &State) {
        let width = self.out.len() / self.max.len();
        let outs = self.out.chunks_exact_mut(width).zip(other.out.chunks_exact(width));
        for (row, (out, other_out)) in outs.enumerate() {
            let (max, [ours, others]) = factors(self.max[row], other.max[row]);
            self.max[row] = max;
            self.sum[row] = self.sum[row] * ours + other.sum[row] * others;
            out.iter_mut().zip(other_out).for_each(|(out, other)| *out = *out * ours + other * others);
        }
    }

    /// A row's result. `sink`: a score without a value. A row that saw nothing gives zeros.
    pub fn finish(&mut self, row: usize, sink: Option<f32>) -> &[f32] {
        let (_, [ours, sinks]) = factors(self.max[row], sink.unwrap_or(f32::NEG_INFINITY));
        let sum = self.sum[row] * ours + sinks;
        let factor = if sum == 0.0 { 0.0 } else { ours / sum };
        let width = self.out.len() / self.max.len();
        let out = &mut self.out[row * width..][..width];
        out.iter_mut().for_each(|out| *out *= factor);
        out
    }
}

/// The larger maximum, and what sums are multiplied with that were relative to each. Where nothing was
/// seen, -infinity, the factor is 0.
fn factors(a: f32, b: f32) -> (f32, [f32; 2]) {
    let max = a.max(b);
    let base = finite(max);
    (max, [a, b].map(|max| exp_negative::<false>(max - base)))
}

/// What scores are taken relative to: the maximum, or anything where nothing was seen.
#[inline(always)]
pub(super) fn finite(max: f32) -> f32 {
    if max == f32::NEG_INFINITY { 0.0 } else { max }
}
