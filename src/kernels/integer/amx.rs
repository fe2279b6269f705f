//! Products in integers with AMX, which multiplies 16 rows of the input with 16 of the matrix in one
//! instruction.

#![allow(clippy::needless_range_loop)] // as in avx512.rs

use super::avx512::{lanes, load, load_floats, read_groups, store_floats};
use super::input::{Form, Rounded, round_avx512};
use super::{Job, LANES, Task, Words};
use crate::kernels::amx::Tiles;
use crate::kernels::input::X;
use crate::kernels::matrix::Packed;
use crate::kernels::threads::{Tasks, with_scratch};
use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;
use std::sync::Arc;

/// Rows of the input in a tile.
const TILE: usize = 16;
/// Blocks whose part of the matrix stays in the first-level cache while all of the input goes by.
const CHUNK: usize = 16;
/// Of fewer rows of the input most of a tile would be empty.
const FEWEST: usize = 8;

/// Stripes of the matrix in a task: their results are written together, because each row's lie far from the next's.
const STRIPES: usize = 4;

/// Those of two blocks, of each row of the input those of all lanes.
#[repr(align(64))]
struct Products([[[i32; LANES]; TILE]; 2]);

/// Whether [`tasks`] takes so many rows of the input.
pub(super) fn takes(inputs: usize) -> bool {
    inputs >= FEWEST
}

/// `x @ w.T`.
pub(super) fn tasks<'a>(w: &Packed, x: &X, job: impl FnOnce(Arc<Rounded>) -> Job<'a>) -> Tasks<'a> {
    let form = Form::of(w);
    let order = [TILE, form.block / 4];
    let job = job(x.rounded((form, order), |x| Rounded::tiles(x, form, order, round_avx512)));
    let (rows, columns) = (job.w.rows, job.w.columns);
    let (groups, words) = (job.group_room(), job.word_room());
    // So many rows of the input stay in the second-level cache while the stripes go by.
    let inputs = ((512 << 10) / columns).next_multiple_of(TILE);
    let sums = STRIPES * LANES * job.inputs.next_multiple_of(TILE);
    Tasks::new(rows.div_ceil(STRIPES * LANES), move |task| {
        let row = task * STRIPES * LANES;
        let count = (STRIPES * LANES).min(rows - row);
        with_scratch(groups + sums, words + LANES * columns / 4, |floats, all_words| {
            let (groups, sums) = floats.split_at_mut(groups);
            let (words, bytes) = all_words.split_at_mut(words);
            let (sums, _) = sums.as_chunks_mut().0.as_chunks_mut();
            for first in (0..job.inputs).step_by(inputs) {
                let inputs = first..(first + inputs).min(job.inputs);
                for (stripe, row) in (row..row + count).step_by(LANES).enumerate() {
                    let task = Task { job: &job, row, count: LANES.min(rows - row), groups, words };
                    // SAFETY: the caller of this function has seen that the processor has it.
                    unsafe { rows_of(task, inputs.clone(), stripe, bytes, sums) };
                }
            }
            for (m, sums) in sums.iter().take(job.inputs).enumerate() {
                job.set(m, row, &sums.as_flattened()[..count]);
            }
        });
    })
}

/// Of each row of the input the sums of all lanes of all stripes.
type Sums = [[f32; LANES]; STRIPES];

/// Computes the sums of stripe `stripe` and these rows of the input. `bytes` has room for one of every lane and column.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn rows_of(task: Task, inputs: Range<usize>, stripe: usize, bytes: &mut [u32], sums: &mut [Sums]) {
    let Task { job, row, count, groups, words } = task;
    read_groups(job, row, count, groups);
    let mut words = lanes(job, row, count, words);
    if job.w.bits == 4 {
        let (bytes, _) = bytes.as_chunks_mut::<LANES>();
        split_nibbles(words, bytes);
        words = bytes;
    }
    let (groups, _) = groups.as_chunks::<LANES>();
    let blocks = job.w.columns / job.x.block;
    // Products are 16 rows of 16 lanes, inputs as many rows of a block, and the matrix's a row of four columns of 16
    // lanes each.
    let (products, x, w) = ([TILE, 64], [TILE, job.x.block], [job.x.block / 4, 64]);
    let tiles = Tiles::new([products, products, x, x, w, w]);
    for start in (0..blocks).step_by(CHUNK) {
        let end = (start + CHUNK).min(blocks);
        for first in inputs.clone().step_by(TILE) {
            let sums = sums[first..].first_chunk_mut::<TILE>().expect("room for whole tiles");
            chunk(job, &tiles, first, [start, end], groups, words, stripe, sums);
        }
    }
}

/// Eight columns in a word become four in two words, as [`super::input::pair`] has the input's.
#[target_feature(enable = "avx512f")]
fn split_nibbles(words: &[Words], bytes: &mut [Words]) {
    let mask = _mm512_set1_epi32(0x0f0f_0f0f);
    for (word, two) in words.iter().zip(bytes.as_chunks_mut::<2>().0) {
        let word = load(word);
        let halves = [_mm512_and_si512(word, mask), _mm512_and_si512(_mm512_srli_epi32::<4>(word), mask)];
        for (out, half) in two.iter_mut().zip(halves) {
            // SAFETY: 16 words.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), half) };
        }
    }
}

/// Adds blocks `start..end` to a stripe's sums of [`TILE`] rows of the input, from `first` on.
#[allow(clippy::too_many_arguments)] // a part of the function above
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn chunk(
    job: &Job,
    tiles: &Tiles,
    first: usize,
    [start, end]: [usize; 2],
    groups: &[[f32; LANES]],
    words: &[Words],
    stripe: usize,
    sums: &mut [Sums; TILE],
) {
    let (columns, block) = (job.w.columns, job.x.block);
    let x = &job.x.words[first * columns / 4..][..TILE * columns / 4];
    let (scales, _) = job.x.scales[first * columns / block..][..TILE * columns / block].as_chunks::<TILE>();
    let mut y = [_mm512_setzero_ps(); TILE];
    if start > 0 {
        for m in 0..TILE {
            y[m] = load_floats(&sums[m][stripe]);
        }
    }
    let quarter = block / 4;
    // The products of a block are added while the next one's are made.
    let mut products = Products([[[0; LANES]; TILE]; 2]);
    for index in start..=end {
        if index < end {
            let x = &x[index * TILE * quarter..][..TILE * quarter];
            let words = &words[index * quarter..][..quarter];
            multiply(tiles, x, words, &mut products.0[index % 2], index % 2 == 0);
        }
        if index > start {
            let index = index - 1;
            let group = 2 * (index * block / job.w.group);
            let (weight, bias) = (load_floats(&groups[group]), load_floats(&groups[group + 1]));
            for m in 0..TILE {
                let [scale, own] = scales[index][m];
                // SAFETY: 16 integers.
                let product = unsafe { _mm512_loadu_si512(products.0[index % 2][m].as_ptr().cast()) };
                let weight = _mm512_mul_ps(weight, _mm512_set1_ps(scale));
                y[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(product), weight, y[m]);
                y[m] = _mm512_fmadd_ps(bias, _mm512_set1_ps(own), y[m]);
            }
        }
    }
    for m in 0..TILE {
        store_floats(&mut sums[m][stripe], y[m]);
    }
}

/// The products of a block, in one half of the tiles or the other.
#[inline(always)]
fn multiply(_tiles: &Tiles, x: &[u32], words: &[Words], products: &mut [[i32; LANES]; TILE], half: bool) {
    let stride = x.len() / TILE * 4;
    macro_rules! multiply {
        ($sums:tt, $x:tt, $w:tt) => {
            // SAFETY: `_tiles` says that the tiles are of these shapes, which are the slices'.
            unsafe {
                asm!(
                    concat!("tileloadd ", $x, ", [{x} + {stride}]"),
                    concat!("tileloadd ", $w, ", [{w} + {line}]"),
                    concat!("tilezero ", $sums),
                    concat!("tdpbsud ", $sums, ", ", $x, ", ", $w),
                    concat!("tilestored [{y} + {line}], ", $sums),
                    x = in(reg) x.as_ptr(),
                    w = in(reg) words.as_ptr(),
                    y = in(reg) products.as_mut_ptr(),
                    stride = in(reg) stride,
                    line = in(reg) 64usize,
                    out($sums) _,
                    out($x) _,
                    out($w) _,
                    options(nostack, preserves_flags),
                );
            }
        };
    }
    if half { multiply!("tmm0", "tmm2", "tmm4") } else { multiply!("tmm1", "tmm3", "tmm5") }
}
