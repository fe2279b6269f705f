//! Products in integers with AVX-512 VNNI for few rows of the input and an interleaved matrix, whose words go from
//! memory into the sums.

#![allow(clippy::needless_range_loop)] // as in avx512.rs

use super::avx512::{load, load_widened, prefetch, store_floats};
use super::input::{Form, Rounded, round_avx512};
use super::{Job, LANES, Words};
use crate::kernels::input::X;
use crate::kernels::matrix::{Floats, Packed};
use crate::kernels::threads::Tasks;
use std::arch::x86_64::*;
use std::sync::Arc;

/// Up to so many rows of the input.
const FEW: usize = 8;
/// Stripes that are read side by side: memory gives more to several streams than to one.
const STREAMS: usize = 4;
/// How many words of 16 lanes ahead memory is asked for.
const AHEAD: usize = 64;

/// Whether [`tasks`] takes these.
pub(super) fn takes(w: &Packed, inputs: usize) -> bool {
    w.interleaved && inputs <= FEW
}

/// `x @ w.T`.
pub(super) fn tasks<'a>(w: &Packed, x: &X, job: impl FnOnce(Arc<Rounded>) -> Job<'a>) -> Tasks<'a> {
    let inputs = x.len() / w.columns;
    // Zeros in place of a row or two spare some versions of the code.
    let rows = if inputs > 4 { inputs.next_multiple_of(2) } else { inputs };
    let (form, order) = (Form::of(w), [rows, 1]);
    let x = x.rounded((form, order), |x| Rounded::tiles(x, form, order, round_avx512));
    let (job, stripes) = (job(x), w.rows / LANES);
    Tasks::new(stripes.div_ceil(STREAMS), move |task| {
        let first = task * STREAMS;
        // SAFETY: the caller of this function has seen that the processor has it.
        unsafe { of_inputs(&job, first, stripes - first, rows) }
    })
}

/// Up to [`STREAMS`] stripes from `stripe` on.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn of_inputs(job: &Job, stripe: usize, count: usize, inputs: usize) {
    if count >= STREAMS {
        return of_stripes::<STREAMS>(job, stripe, inputs);
    }
    for stripe in stripe..stripe + count {
        of_stripes::<1>(job, stripe, inputs);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn of_stripes<const S: usize>(job: &Job, stripe: usize, inputs: usize) {
    let rows = std::array::from_fn(|s| (stripe + s) * LANES);
    match (job.w.bits, inputs) {
        (4, 1) => product::<true, S, 1>(job, rows),
        (4, 2) => product::<true, S, 2>(job, rows),
        (4, 3) => product::<true, S, 3>(job, rows),
        (4, 4) => product::<true, S, 4>(job, rows),
        (4, 6) => product::<true, S, 6>(job, rows),
        (4, _) => product::<true, S, FEW>(job, rows),
        (_, 1) => product::<false, S, 1>(job, rows),
        (_, 2) => product::<false, S, 2>(job, rows),
        (_, 3) => product::<false, S, 3>(job, rows),
        (_, 4) => product::<false, S, 4>(job, rows),
        (_, 6) => product::<false, S, 6>(job, rows),
        _ => product::<false, S, FEW>(job, rows),
    }
}

/// The stripes that begin with these rows with `M` rows of the input. `NIBBLES`: a word holds eight columns, else four.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn product<const NIBBLES: bool, const S: usize, const M: usize>(job: &Job, rows: [usize; S]) {
    let block = job.x.block;
    // Words of a block and a lane.
    let steps = if NIBBLES { block / 8 } else { block / 4 };
    let groups = job.w.columns / job.w.group;
    let (x, _) = job.x.words.as_chunks::<M>();
    let (scales, _) = job.x.scales.as_chunks::<M>();
    let mut words: [&[Words]; S] = [&[]; S];
    for s in 0..S {
        (words[s], _) = job.w.stripe(rows[s]).as_chunks();
    }
    let (low, high) = (_mm512_set1_epi32(0x0f0f_0f0f), _mm512_set1_epi32(0xf0f0_f0f0_u32 as i32));
    let mut y = [[_mm512_setzero_ps(); M]; S];
    let each = job.w.group / block;
    for group in 0..groups {
        let mut weights = [_mm512_setzero_ps(); S];
        let mut biases = [_mm512_setzero_ps(); S];
        for s in 0..S {
            let start = rows[s] * groups + group * LANES;
            weights[s] = group_of(&job.scales, start);
            biases[s] = group_of(&job.biases, start);
        }
        for index in group * each..(group + 1) * each {
            let x = &x[index * block / 4..][..block / 4];
            // Behind a stripe's end comes its stream's next stripe.
            let ends = index * steps + AHEAD >= words[0].len();
            let ahead = if ends { AHEAD + (S - 1) * words[0].len() } else { AHEAD };
            for s in 0..S {
                let words = &words[s][index * steps..];
                let mut sums = [_mm512_setzero_si512(); M];
                let mut high_sums = [_mm512_setzero_si512(); M];
                for (step, word) in words[..steps].iter().enumerate() {
                    prefetch(&words[step..], ahead);
                    let word = load(word);
                    if NIBBLES {
                        let x = &x[2 * step..][..2];
                        let (even, odd) = (_mm512_and_si512(word, low), _mm512_and_si512(word, high));
                        for m in 0..M {
                            sums[m] = _mm512_dpbusd_epi32(sums[m], even, broadcast(x[0][m]));
                            high_sums[m] = _mm512_dpbusd_epi32(high_sums[m], odd, broadcast(x[1][m]));
                        }
                    } else {
                        for m in 0..M {
                            sums[m] = _mm512_dpbusd_epi32(sums[m], word, broadcast(x[step][m]));
                        }
                    }
                }
                for m in 0..M {
                    // Those of the high nibbles are 16 times what they should be.
                    let sum = _mm512_add_epi32(sums[m], _mm512_srai_epi32::<4>(high_sums[m]));
                    let [scale, own] = scales[index][m];
                    let weight = _mm512_mul_ps(weights[s], _mm512_set1_ps(scale));
                    y[s][m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), weight, y[s][m]);
                    y[s][m] = _mm512_fmadd_ps(biases[s], _mm512_set1_ps(own), y[s][m]);
                }
            }
        }
    }
    for s in 0..S {
        for m in 0..M.min(job.inputs) {
            let mut lanes = [0.0; LANES];
            store_floats(&mut lanes, y[s][m]);
            job.set(m, rows[s], &lanes);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn group_of(floats: &Floats, start: usize) -> __m512 {
    _mm512_castsi512_ps(load_widened(floats, start, LANES, 0))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn broadcast(word: u32) -> __m512i {
    _mm512_set1_epi32(word.cast_signed())
}
