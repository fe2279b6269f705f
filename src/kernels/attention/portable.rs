//! Attention for any processor: loops over 16 lanes, which the compiler makes vectors of.

#![allow(clippy::needless_range_loop)] // plain loops become vectors

use super::tile::{Block, Tile, finite};
use super::{BLOCK, LANES};
use crate::kernels::math::{exp_negative, fma, tanh};

/// See [`Tile::attend`].
pub(super) fn attend(tile: &mut Tile, block: &Block) {
    attend_with::<{ cfg!(target_arch = "aarch64") }>(tile, block);
}

/// The same compiled for AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub(super) fn attend_avx2(tile: &mut Tile, block: &Block) {
    attend_with::<true>(tile, block);
}

#[inline(always)]
fn attend_with<const FMA: bool>(tile: &mut Tile, block: &Block) {
    for (column, keys) in tile.keys.iter_mut().enumerate() {
        keys.iter_mut().zip(block.keys).for_each(|(to, key)| *to = key[column]);
    }
    let rows = tile.scores.len();
    for row in (0..rows).step_by(2) {
        for part in 0..block.keys.len().div_ceil(2 * LANES) {
            if rows - row == 1 {
                scores::<FMA, 1>(tile, row, part);
            } else {
                scores::<FMA, 2>(tile, row, part);
            }
        }
    }
    for row in 0..rows {
        weigh::<FMA>(tile, block, row);
    }
    let dim = tile.dims[1];
    for column in (0..dim).step_by(LANES) {
        let mut room = [[0.0; LANES]; BLOCK];
        for (to, value) in room.iter_mut().zip(block.values) {
            let value = &value[column..];
            let count = value.len().min(LANES);
            to[..count].copy_from_slice(&value[..count]);
        }
        let values = &room[..block.values.len()];
        for row in (0..rows).step_by(4) {
            match rows - row {
                1 => add_values::<FMA, 1>(tile, values, row, column),
                2 => add_values::<FMA, 2>(tile, values, row, column),
                3 => add_values::<FMA, 3>(tile, values, row, column),
                _ => add_values::<FMA, 4>(tile, values, row, column),
            }
        }
    }
}

/// Scores of `R` rows with 32 keys: a score is summed column by column.
#[inline(always)]
fn scores<const FMA: bool, const R: usize>(tile: &mut Tile, row: usize, part: usize) {
    let dim = tile.dims[0];
    let q: [&[f32]; R] = std::array::from_fn(|r| &tile.q[(row + r) * dim..][..dim]);
    let mut sums = [[[0.0; LANES]; 2]; R];
    for (column, keys) in tile.keys.iter().enumerate() {
        let keys = &keys.as_chunks::<LANES>().0[2 * part..][..2];
        for r in 0..R {
            for (sums, keys) in sums[r].iter_mut().zip(keys) {
                for lane in 0..LANES {
                    sums[lane] = fma::<FMA>(q[r][column], keys[lane], sums[lane]);
                }
            }
        }
    }
    for (scores, sums) in tile.scores[row..].iter_mut().zip(sums) {
        scores.as_chunks_mut::<LANES>().0[2 * part..][..2].copy_from_slice(&sums);
    }
}

/// Makes weights of a row's scores, and puts what it has summed so far relative to the new maximum.
#[inline(always)]
pub(super) fn weigh<const FMA: bool>(tile: &mut Tile, block: &Block, row: usize) {
    let scores = &mut tile.scores[row];
    let seen = &block.seen[(tile.first + row) / tile.group];
    if let Some(cap) = tile.softcap {
        scores.iter_mut().for_each(|score| *score = cap * tanh::<FMA>(*score / cap));
    }
    let (parts, seen) = (scores.as_chunks_mut::<LANES>().0, seen.as_chunks::<LANES>().0);
    let mut maxima = [f32::NEG_INFINITY; LANES];
    for (scores, seen) in parts.iter_mut().zip(seen) {
        for lane in 0..LANES {
            scores[lane] = if seen[lane] { scores[lane] } else { f32::NEG_INFINITY };
            maxima[lane] = if scores[lane] > maxima[lane] { scores[lane] } else { maxima[lane] };
        }
    }
    let old = tile.state.max[row];
    let max = reduce(maxima, f32::max).max(old);
    let base = finite(max);
    let mut sums = [0.0; LANES];
    for scores in parts {
        for lane in 0..LANES {
            scores[lane] = exp_negative::<FMA>(scores[lane] - base);
            sums[lane] += scores[lane];
        }
    }
    tile.state.max[row] = max;
    let sum = reduce(sums, |a, b| a + b);
    let factor = exp_negative::<FMA>(old - base);
    tile.state.sum[row] = tile.state.sum[row] * factor + sum;
    if factor != 1.0 {
        let width = tile.dims[1].next_multiple_of(LANES);
        tile.state.out[row * width..][..width].iter_mut().for_each(|out| *out *= factor);
    }
}

/// Halves with halves.
#[inline(always)]
fn reduce(mut lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = join(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// Adds 16 columns of the weighed values to `R` rows, key by key.
#[inline(always)]
fn add_values<const FMA: bool, const R: usize>(
    tile: &mut Tile,
    values: &[[f32; LANES]],
    row: usize,
    column: usize,
) {
    let width = tile.dims[1].next_multiple_of(LANES);
    let out = &mut *tile.state.out;
    let mut sums = [[0.0; LANES]; R];
    for r in 0..R {
        sums[r].copy_from_slice(&out[(row + r) * width + column..][..LANES]);
    }
    for (key, value) in values.iter().enumerate() {
        for r in 0..R {
            let weight = tile.scores[row + r][key];
            for lane in 0..LANES {
                sums[r][lane] = fma::<FMA>(weight, value[lane], sums[r][lane]);
            }
        }
    }
    for r in 0..R {
        out[(row + r) * width + column..][..LANES].copy_from_slice(&sums[r]);
    }
}
