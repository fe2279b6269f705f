//! Attention with AVX-512. Loops are written out: the compiler does not inline these functions into
//! closures, which know nothing of AVX-512.

#![allow(clippy::needless_range_loop)] // see above

use super::portable::weigh;
use super::tile::{Block, Tile};
use super::{BLOCK, LANES};
use std::arch::x86_64::*;

/// Rows in a tile of registers.
const ROWS: usize = 6;
/// Vectors of keys, or of a value's columns, in a tile of registers.
const VECTORS: usize = BLOCK / LANES;

/// See [`Tile::attend`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) fn attend(tile: &mut Tile, block: &Block) {
    let vectors = block.keys.len().div_ceil(LANES);
    for vector in 0..vectors {
        transpose(block, vector, tile.keys);
    }
    let rows = tile.scores.len();
    for row in (0..rows).step_by(ROWS) {
        match rows - row {
            1 => scores_of::<1>(tile, row, vectors),
            2 => scores_of::<2>(tile, row, vectors),
            3 => scores_of::<3>(tile, row, vectors),
            4 => scores_of::<4>(tile, row, vectors),
            5 => scores_of::<5>(tile, row, vectors),
            _ => scores_of::<ROWS>(tile, row, vectors),
        }
    }
    for row in 0..rows {
        weigh::<true>(tile, block, row);
    }
    for row in (0..rows).step_by(ROWS) {
        match rows - row {
            1 => add_values_to::<1>(tile, block, row),
            2 => add_values_to::<2>(tile, block, row),
            3 => add_values_to::<3>(tile, block, row),
            4 => add_values_to::<4>(tile, block, row),
            5 => add_values_to::<5>(tile, block, row),
            _ => add_values_to::<ROWS>(tile, block, row),
        }
    }
}

/// Puts 16 keys into the columns of `out`, zeros for those that the block lacks.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn transpose(block: &Block, vector: usize, out: &mut [[f32; BLOCK]]) {
    let keys = &block.keys[vector * LANES..];
    let values = &block.values[vector * LANES..];
    for (part, out) in out.chunks_mut(LANES).enumerate() {
        let mask = mask(out.len());
        let mut rows = [_mm512_setzero_ps(); LANES];
        for ((row, key), value) in rows.iter_mut().zip(keys).zip(values) {
            *row = load(key, part * LANES, mask);
            prefetch(value, part * LANES);
        }
        let columns = transposed(rows);
        for (out, column) in out.iter_mut().zip(columns) {
            // SAFETY: 16 floats.
            unsafe { _mm512_storeu_ps(out[vector * LANES..][..LANES].as_mut_ptr(), column) };
        }
    }
}

/// A matrix of 16 rows and columns, transposed: within quarters of a register, then quarters with each other.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(rows: [__m512; LANES]) -> [__m512; LANES] {
    let mut quads = rows;
    for i in (0..LANES).step_by(4) {
        let [a, b, c, d] = [rows[i], rows[i + 1], rows[i + 2], rows[i + 3]];
        let ab = _mm512_castps_pd(_mm512_unpacklo_ps(a, b));
        let cd = _mm512_castps_pd(_mm512_unpacklo_ps(c, d));
        quads[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
        quads[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
        let ab = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
        let cd = _mm512_castps_pd(_mm512_unpackhi_ps(c, d));
        quads[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
        quads[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
    }
    // Register 4 i + c now holds column 4 k + c of rows 4 i.. in quarter k.
    let mut columns = quads;
    for c in 0..4 {
        let [x, y, z, w] = [quads[c], quads[4 + c], quads[8 + c], quads[12 + c]];
        let (xy, zw) = (_mm512_shuffle_f32x4::<0x88>(x, y), _mm512_shuffle_f32x4::<0x88>(z, w));
        columns[c] = _mm512_shuffle_f32x4::<0x88>(xy, zw);
        columns[8 + c] = _mm512_shuffle_f32x4::<0xdd>(xy, zw);
        let (xy, zw) = (_mm512_shuffle_f32x4::<0xdd>(x, y), _mm512_shuffle_f32x4::<0xdd>(z, w));
        columns[4 + c] = _mm512_shuffle_f32x4::<0x88>(xy, zw);
        columns[12 + c] = _mm512_shuffle_f32x4::<0xdd>(xy, zw);
    }
    columns
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn scores_of<const R: usize>(tile: &mut Tile, row: usize, vectors: usize) {
    if vectors == VECTORS {
        return scores::<R, VECTORS>(tile, row, 0);
    }
    for vector in 0..vectors {
        scores::<R, 1>(tile, row, vector);
    }
}

/// Scores of `R` rows with `V` vectors of keys: a score is summed column by column.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn scores<const R: usize, const V: usize>(tile: &mut Tile, row: usize, vector: usize) {
    let dim = tile.keys.len();
    let mut q: [&[f32]; R] = [&[]; R];
    for r in 0..R {
        q[r] = &tile.q[(row + r) * dim..][..dim];
    }
    let mut sums = [[_mm512_setzero_ps(); V]; R];
    for (column, keys) in tile.keys.iter().enumerate() {
        let keys = &keys.as_chunks::<LANES>().0[vector..][..V];
        let mut k = [_mm512_setzero_ps(); V];
        for v in 0..V {
            k[v] = load(&keys[v], 0, u16::MAX);
        }
        for r in 0..R {
            let q = _mm512_set1_ps(q[r][column]);
            for v in 0..V {
                sums[r][v] = _mm512_fmadd_ps(q, k[v], sums[r][v]);
            }
        }
    }
    for r in 0..R {
        let scores = &mut tile.scores[row + r].as_chunks_mut::<LANES>().0[vector..][..V];
        for v in 0..V {
            store(&mut scores[v], sums[r][v]);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn add_values_to<const R: usize>(tile: &mut Tile, block: &Block, row: usize) {
    let vectors = tile.dims[1].div_ceil(LANES);
    let whole = vectors / VECTORS * VECTORS;
    for vector in (0..whole).step_by(VECTORS) {
        add_values::<R, VECTORS>(tile, block, row, vector * LANES);
    }
    for vector in whole..vectors {
        add_values::<R, 1>(tile, block, row, vector * LANES);
    }
}

/// Adds `V` vectors of the weighed values, from `column` on, to `R` rows, key by key.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn add_values<const R: usize, const V: usize>(tile: &mut Tile, block: &Block, row: usize, column: usize) {
    let dim = tile.dims[1];
    let width = dim.next_multiple_of(LANES);
    // Only the last vector may be cut off.
    let last = mask(dim - column - (V - 1) * LANES);
    let mut weights = [[0.0; BLOCK].as_slice(); R];
    let mut sums = [[_mm512_setzero_ps(); V]; R];
    for r in 0..R {
        weights[r] = &tile.scores[row + r][..block.values.len()];
        let out = &tile.state.out[(row + r) * width + column..].as_chunks::<LANES>().0[..V];
        for v in 0..V {
            sums[r][v] = load(&out[v], 0, u16::MAX);
        }
    }
    for (key, values) in block.values.iter().enumerate() {
        if row == 0 && column == 0 {
            // The next block, if it lies behind this one.
            let dim = block.keys[key].len();
            for start in (0..dim).step_by(LANES) {
                prefetch(block.keys[key], BLOCK * dim + start);
            }
        }
        let mut value = [_mm512_setzero_ps(); V];
        for v in 0..V {
            let mask = if v == V - 1 { last } else { u16::MAX };
            value[v] = load(values, column + v * LANES, mask);
        }
        for r in 0..R {
            let weight = _mm512_set1_ps(weights[r][key]);
            for v in 0..V {
                sums[r][v] = _mm512_fmadd_ps(weight, value[v], sums[r][v]);
            }
        }
    }
    for r in 0..R {
        let out = &mut tile.state.out[(row + r) * width + column..].as_chunks_mut::<LANES>().0[..V];
        for v in 0..V {
            store(&mut out[v], sums[r][v]);
        }
    }
}

/// The first `count` lanes.
fn mask(count: usize) -> u16 {
    if count >= LANES { u16::MAX } else { (1 << count) - 1 }
}

/// The masked floats from `start` on, the first of which lie in `values`; zeros in place of the others.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[f32], start: usize, mask: u16) -> __m512 {
    let count = LANES - mask.leading_zeros() as usize;
    let values = &values[start..][..count];
    // SAFETY: the masked floats are those of the slice.
    unsafe { _mm512_maskz_loadu_ps(mask, values.as_ptr()) }
}

/// Begins to bring what lies at `start` from memory, if anything does.
#[inline]
#[target_feature(enable = "avx512f")]
fn prefetch(values: &[f32], start: usize) {
    _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().wrapping_add(start).cast());
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(out: &mut [f32; LANES], lanes: __m512) {
    // SAFETY: 16 floats.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), lanes) };
}
