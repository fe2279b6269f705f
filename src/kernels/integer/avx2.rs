//! Products in integers with AVX2, and with AVX-VNNI where there is that. What uses them is `#[inline(always)]`
//! and becomes part of a function that has them.

#![allow(clippy::needless_range_loop)] // as in avx512.rs

use super::input::{Form, Rounded, UNIT, round_avx2};
use super::portable::{lanes, read_groups};
use super::{Job, LANES, Task, Words};
use crate::kernels::input::X;
use crate::kernels::matrix::Packed;
use crate::kernels::threads::Tasks;
use std::arch::x86_64::*;
use std::sync::Arc;

/// Rows of the input that are computed at once: there are registers for no more.
const TILE: usize = 4;

/// `x @ w.T`, with AVX-VNNI or without.
pub(super) fn tasks<'a>(
    vnni: bool,
    w: &Packed,
    x: &X,
    job: impl FnOnce(Arc<Rounded>) -> Job<'a>,
) -> Tasks<'a> {
    let tile = (x.len() / w.columns).clamp(1, TILE);
    let (form, order) = (Form::of(w), [tile, 1]);
    let x = x.rounded((form, order), |x| Rounded::tiles(x, form, order, round_avx2));
    job(x).tasks(move |task| {
        // SAFETY: the caller of this function has seen that the processor has it.
        unsafe { if vnni { rows_vnni(task, tile) } else { rows(task, tile) } }
    })
}

#[target_feature(enable = "avx2,fma")]
fn rows(task: Task, tile: usize) {
    // SAFETY: this function has it.
    unsafe { rows_of::<false>(task, tile) }
}

#[target_feature(enable = "avx2,fma,avxvnni")]
fn rows_vnni(task: Task, tile: usize) {
    // SAFETY: this function has it.
    unsafe { rows_of::<true>(task, tile) }
}

/// # Safety
/// The caller has AVX2 and FMA, and AVX-VNNI if `VNNI` says so. So have those of the functions below.
#[inline(always)]
unsafe fn rows_of<const VNNI: bool>(task: Task, tile: usize) {
    let Task { job, row, count, groups, words } = task;
    read_groups(job, row, count, groups);
    let words = lanes(job, row, count, words);
    let (groups, _) = groups.as_chunks();
    // SAFETY: the caller's promise.
    unsafe {
        match (job.w.bits, tile) {
            (4, 1) => tiles::<VNNI, true, 1>(job, row, count, groups, words),
            (4, 2) => tiles::<VNNI, true, 2>(job, row, count, groups, words),
            (4, 3) => tiles::<VNNI, true, 3>(job, row, count, groups, words),
            (4, _) => tiles::<VNNI, true, TILE>(job, row, count, groups, words),
            (_, 1) => tiles::<VNNI, false, 1>(job, row, count, groups, words),
            (_, 2) => tiles::<VNNI, false, 2>(job, row, count, groups, words),
            (_, 3) => tiles::<VNNI, false, 3>(job, row, count, groups, words),
            _ => tiles::<VNNI, false, TILE>(job, row, count, groups, words),
        }
    }
}

/// All of the input, `M` rows at a time. `NIBBLES`: a word holds eight columns, else four.
#[inline(always)]
unsafe fn tiles<const VNNI: bool, const NIBBLES: bool, const M: usize>(
    job: &Job,
    row: usize,
    count: usize,
    groups: &[[f32; LANES]],
    words: &[Words],
) {
    let columns = job.w.columns;
    let x =
        job.x.words.chunks_exact(M * columns / 4).zip(job.x.scales.chunks_exact(M * columns / job.x.block));
    for (tile, (x, scales)) in x.enumerate() {
        let (x, scales) = (x.as_chunks().0.as_chunks().0, scales.as_chunks().0);
        // SAFETY: the caller's promise.
        let y: [_; M] = unsafe { product::<VNNI, NIBBLES, M>(job, x, scales, groups, words) };
        for m in 0..M.min(job.inputs - tile * M) {
            job.set(tile * M + m, row, &y[m][..count]);
        }
    }
}

/// Of `x` units, and of each block's scales, those of `M` rows.
#[inline(always)]
unsafe fn product<const VNNI: bool, const NIBBLES: bool, const M: usize>(
    job: &Job,
    x: &[[[u32; M]; UNIT / 4]],
    scales: &[[[f32; 2]; M]],
    groups: &[[f32; LANES]],
    words: &[Words],
) -> [[f32; LANES]; M] {
    let (block, each) = (job.x.block, job.x.block / UNIT);
    let steps = if NIBBLES { UNIT / 8 } else { UNIT / 4 };
    let mut y = [[0.0; LANES]; M];
    // SAFETY: the caller's promise; eight floats each are read and written.
    unsafe {
        let mut sums = [[_mm256_setzero_ps(); 2]; M];
        let (mut group, mut left) = (0, job.w.group);
        for (index, scales) in scales.iter().enumerate() {
            for half in 0..2 {
                let mut products = [_mm256_setzero_si256(); M];
                for unit in index * each..(index + 1) * each {
                    let words = &words[unit * steps..][..steps];
                    add::<VNNI, NIBBLES, M>(&mut products, words, half, &x[unit]);
                }
                let weight = _mm256_loadu_ps(groups[group][8 * half..][..8].as_ptr());
                let bias = _mm256_loadu_ps(groups[group + 1][8 * half..][..8].as_ptr());
                for m in 0..M {
                    let [scale, sum] = scales[m];
                    let weight = _mm256_mul_ps(weight, _mm256_set1_ps(scale));
                    let y = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products[m]), weight, sums[m][half]);
                    sums[m][half] = _mm256_fmadd_ps(bias, _mm256_set1_ps(sum), y);
                }
            }
            left -= block;
            if left == 0 {
                (group, left) = (group + 2, job.w.group);
            }
        }
        for m in 0..M {
            for half in 0..2 {
                _mm256_storeu_ps(y[m][8 * half..][..8].as_mut_ptr(), sums[m][half]);
            }
        }
    }
    y
}

/// Adds the products of a unit's columns and of one half of the lanes.
#[inline(always)]
unsafe fn add<const VNNI: bool, const NIBBLES: bool, const M: usize>(
    sums: &mut [__m256i; M],
    words: &[Words],
    half: usize,
    x: &[[u32; M]; UNIT / 4],
) {
    // SAFETY: the caller's promise; eight words are read.
    unsafe {
        let mask = _mm256_set1_epi8(0x0f);
        // Without AVX-VNNI two products are added in 16 bits, where there is room for 16 of nibbles: no more are
        // there of a unit, of which bytes have two.
        let mut low = [_mm256_setzero_si256(); M];
        let mut high = [_mm256_setzero_si256(); M];
        for (step, words) in words.iter().enumerate() {
            let word = _mm256_loadu_si256(words[8 * half..][..8].as_ptr().cast());
            let nibbles =
                [_mm256_and_si256(word, mask), _mm256_and_si256(_mm256_srli_epi32::<4>(word), mask)];
            for m in 0..M {
                if NIBBLES {
                    let (even, odd) = (broadcast(x[2 * step][m]), broadcast(x[2 * step + 1][m]));
                    if VNNI {
                        sums[m] = _mm256_dpbusd_avx_epi32(sums[m], nibbles[0], even);
                        high[m] = _mm256_dpbusd_avx_epi32(high[m], nibbles[1], odd);
                    } else {
                        low[m] = _mm256_add_epi16(low[m], _mm256_maddubs_epi16(nibbles[0], even));
                        low[m] = _mm256_add_epi16(low[m], _mm256_maddubs_epi16(nibbles[1], odd));
                    }
                } else {
                    let x = broadcast(x[step][m]);
                    if VNNI {
                        sums[m] = _mm256_dpbusd_avx_epi32(sums[m], word, x);
                    } else {
                        low[m] = _mm256_add_epi16(low[m], _mm256_maddubs_epi16(nibbles[0], x));
                        high[m] = _mm256_add_epi16(high[m], _mm256_maddubs_epi16(nibbles[1], x));
                    }
                }
            }
        }
        for m in 0..M {
            if VNNI {
                sums[m] = _mm256_add_epi32(sums[m], high[m]);
                continue;
            }
            sums[m] = _mm256_add_epi32(sums[m], _mm256_madd_epi16(low[m], _mm256_set1_epi16(1)));
            if !NIBBLES {
                sums[m] = _mm256_add_epi32(sums[m], _mm256_madd_epi16(high[m], _mm256_set1_epi16(16)));
            }
        }
    }
}

#[inline(always)]
unsafe fn broadcast(word: u32) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe { _mm256_set1_epi32(word.cast_signed()) }
}
