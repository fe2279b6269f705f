//! Products in integers with aarch64's dot products. Loops are written out, as in avx512.rs.

#![allow(clippy::needless_range_loop)] // see above

use super::input::{Form, Rounded, round};
use super::portable::{lanes, read_groups};
use super::{Job, LANES, Task, Words};
use crate::kernels::input::X;
use crate::kernels::matrix::Packed;
use crate::kernels::threads::Tasks;
use std::arch::aarch64::*;
use std::arch::asm;
use std::sync::Arc;

/// Rows of the input that are computed at once: there are registers for no more.
const TILE: usize = 4;
/// Columns of the input in a vector.
const SPAN: usize = 16;

/// `x @ w.T`.
pub(super) fn tasks<'a>(w: &Packed, x: &X, job: impl FnOnce(Arc<Rounded>) -> Job<'a>) -> Tasks<'a> {
    let tile = (x.len() / w.columns).clamp(1, TILE);
    let (form, order) = (Form::of(w), [tile, SPAN / 4]);
    let x = x.rounded((form, order), |x| Rounded::tiles(x, form, order, round));
    job(x).tasks(move |task| {
        // SAFETY: the caller of this function has seen that the processor has it.
        unsafe { rows(task, tile) }
    })
}

#[target_feature(enable = "neon,dotprod")]
fn rows(task: Task, tile: usize) {
    let Task { job, row, count, groups, words } = task;
    read_groups(job, row, count, groups);
    let words = lanes(job, row, count, words);
    let (groups, _) = groups.as_chunks();
    match (job.w.bits, tile) {
        (4, 1) => tiles::<true, 1>(job, row, count, groups, words),
        (4, 2) => tiles::<true, 2>(job, row, count, groups, words),
        (4, 3) => tiles::<true, 3>(job, row, count, groups, words),
        (4, _) => tiles::<true, TILE>(job, row, count, groups, words),
        (_, 1) => tiles::<false, 1>(job, row, count, groups, words),
        (_, 2) => tiles::<false, 2>(job, row, count, groups, words),
        (_, 3) => tiles::<false, 3>(job, row, count, groups, words),
        _ => tiles::<false, TILE>(job, row, count, groups, words),
    }
}

/// The sums of 16 lanes.
type Sums = [int32x4_t; 4];

/// All of the input, `M` rows at a time. `NIBBLES`: a word holds eight columns, else four.
#[target_feature(enable = "neon,dotprod")]
fn tiles<const NIBBLES: bool, const M: usize>(
    job: &Job,
    row: usize,
    count: usize,
    groups: &[[f32; LANES]],
    words: &[Words],
) {
    let columns = job.x.columns;
    let x =
        job.x.words.chunks_exact(M * columns / 4).zip(job.x.scales.chunks_exact(M * columns / job.x.block));
    for (tile, (x, scales)) in x.enumerate() {
        let (x, scales) = (x.as_chunks().0.as_chunks().0, scales.as_chunks().0);
        let y: [_; M] = product::<NIBBLES, M>(job, x, scales, groups, words);
        for m in 0..M.min(job.inputs - tile * M) {
            job.set(tile * M + m, row, &y[m][..count]);
        }
    }
}

/// Of `x` spans, and of each block's scales, those of `M` rows.
#[target_feature(enable = "neon,dotprod")]
fn product<const NIBBLES: bool, const M: usize>(
    job: &Job,
    x: &[[[u32; SPAN / 4]; M]],
    scales: &[[[f32; 2]; M]],
    groups: &[[f32; LANES]],
    words: &[Words],
) -> [[f32; LANES]; M] {
    let (block, each) = (job.x.block, job.x.block / SPAN);
    let mut y = [[vdupq_n_f32(0.0); 4]; M];
    let (mut group, mut left) = (0, job.w.group);
    for (index, scales) in scales.iter().enumerate() {
        let mut sums = [[vdupq_n_s32(0); 4]; M];
        let mut own = [vdupq_n_s32(0); M];
        for span in index * each..(index + 1) * each {
            let mut columns = [vdupq_n_s8(0); M];
            for m in 0..M {
                columns[m] = load_columns(&x[span][m]);
            }
            if NIBBLES {
                let words = &words[2 * span..][..2];
                add_nibbles::<0, 1, M>(&mut sums, &words[0], &columns);
                add_nibbles::<2, 3, M>(&mut sums, &words[1], &columns);
            } else {
                let words = &words[4 * span..][..4];
                add_bytes::<0, M>(&mut sums, &words[0], &columns);
                add_bytes::<1, M>(&mut sums, &words[1], &columns);
                add_bytes::<2, M>(&mut sums, &words[2], &columns);
                add_bytes::<3, M>(&mut sums, &words[3], &columns);
                for m in 0..M {
                    own[m] = dot::<0>(own[m], columns[m], vdupq_n_s8(1));
                }
            }
        }
        for m in 0..M {
            let [scale, sum] = scales[m];
            // What `add_bytes` took away of each byte.
            let missing = vdupq_n_s32(if NIBBLES { 0 } else { 128 * vaddvq_s32(own[m]) });
            for i in 0..4 {
                let product = vcvtq_f32_s32(vaddq_s32(sums[m][i], missing));
                let weight = vmulq_n_f32(load_floats(&groups[group], i), scale);
                y[m][i] = vfmaq_f32(y[m][i], product, weight);
                y[m][i] = vfmaq_f32(y[m][i], load_floats(&groups[group + 1], i), vdupq_n_f32(sum));
            }
        }
        left -= block;
        if left == 0 {
            (group, left) = (group + 2, job.w.group);
        }
    }
    let mut out = [[0.0; LANES]; M];
    for m in 0..M {
        for i in 0..4 {
            // SAFETY: four floats.
            unsafe { vst1q_f32(out[m][4 * i..][..4].as_mut_ptr(), y[m][i]) };
        }
    }
    out
}

/// Adds the products of eight columns, in words `EVEN` and `ODD` of the input's.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn add_nibbles<const EVEN: usize, const ODD: usize, const M: usize>(
    sums: &mut [Sums; M],
    words: &Words,
    x: &[int8x16_t; M],
) {
    for i in 0..4 {
        let word = load(words, i);
        let even = vreinterpretq_s8_u8(vandq_u8(word, vdupq_n_u8(0x0f)));
        let odd = vreinterpretq_s8_u8(vshrq_n_u8::<4>(word));
        for m in 0..M {
            sums[m][i] = dot::<EVEN>(sums[m][i], even, x[m]);
            sums[m][i] = dot::<ODD>(sums[m][i], odd, x[m]);
        }
    }
}

/// Adds the products of four columns, in word `LANE` of the input's, whose bytes are taken to be 128 less than they
/// are: the instruction's are signed.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn add_bytes<const LANE: usize, const M: usize>(sums: &mut [Sums; M], words: &Words, x: &[int8x16_t; M]) {
    for i in 0..4 {
        let bytes = vreinterpretq_s8_u8(veorq_u8(load(words, i), vdupq_n_u8(0x80)));
        for m in 0..M {
            sums[m][i] = dot::<LANE>(sums[m][i], bytes, x[m]);
        }
    }
}

/// Adds to each sum the products of its four bytes with those of word `LANE` of `x`. In assembly because the
/// intrinsic is not yet stable.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot<const LANE: usize>(mut sums: int32x4_t, bytes: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: this function has it, and registers are all that it touches.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {bytes:v}.16b, {x:v}.4b[{lane}]",
            sums = inout(vreg) sums,
            bytes = in(vreg) bytes,
            x = in(vreg) x,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

#[inline]
#[target_feature(enable = "neon")]
fn load(words: &Words, quarter: usize) -> uint8x16_t {
    // SAFETY: four words.
    unsafe { vld1q_u8(words[4 * quarter..][..4].as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn load_columns(words: &[u32; SPAN / 4]) -> int8x16_t {
    // SAFETY: as many bytes.
    unsafe { vld1q_s8(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn load_floats(lanes: &[f32; LANES], quarter: usize) -> float32x4_t {
    // SAFETY: four floats.
    unsafe { vld1q_f32(lanes[4 * quarter..][..4].as_ptr()) }
}
