//! Products in integers with AVX-512 VNNI for few rows of the input and a matrix that lies row by row: its words are multiplied as
//! they lie in memory, and the lanes, columns of one row, are added up at the end of every block. Loops are
//! written out, as in avx512.rs.

#![allow(clippy::needless_range_loop)] // see above

use super::avx512::{first_lanes, load_floats, prefetch, read_groups, store_floats};
use super::input::{Form, Rounded, UNIT, round_avx512};
use super::{Job, LANES, Task};
use crate::kernels::input::X;
use crate::kernels::matrix::Packed;
use crate::kernels::threads::Tasks;
use std::arch::x86_64::*;
use std::sync::Arc;

/// Columns that are multiplied at once.
const SPAN: usize = 4 * UNIT;
/// From more rows on, transposing the matrix is worth its time.
const FEW: usize = 4;

/// Whether [`tasks`] takes these.
pub(super) fn takes(w: &Packed, inputs: usize) -> bool {
    (w.bits == 4 || w.bits == 8) && inputs <= FEW
}

/// `x @ w.T`.
pub(super) fn tasks<'a>(w: &Packed, x: &X, job: impl FnOnce(Arc<Rounded>) -> Job<'a>) -> Tasks<'a> {
    let form = Form::of(w);
    let x = x.rounded((form, [0, SPAN]), |x| {
        let mut x = Rounded::rows(x, form, SPAN, round_avx512);
        if w.bits == 4 {
            x.words.as_chunks_mut().0.iter_mut().for_each(planar);
        }
        x
    });
    job(x).tasks(|task| {
        // SAFETY: the caller of this function has seen that the processor has it.
        unsafe { rows(task) }
    })
}

/// Of a span, all even columns and then all odd ones.
fn planar(span: &mut [u32; SPAN / 4]) {
    let mut out = [0; SPAN / 4];
    for (i, two) in span.as_chunks::<2>().0.iter().enumerate() {
        [out[i], out[LANES + i]] = *two;
    }
    *span = out;
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn rows(task: Task) {
    match (task.job.w.bits, task.job.inputs) {
        (4, 1) => rows_of::<true, 1>(task),
        (4, 2) => rows_of::<true, 2>(task),
        (4, 3) => rows_of::<true, 3>(task),
        (4, _) => rows_of::<true, FEW>(task),
        (_, 1) => rows_of::<false, 1>(task),
        (_, 2) => rows_of::<false, 2>(task),
        (_, 3) => rows_of::<false, 3>(task),
        _ => rows_of::<false, FEW>(task),
    }
}

/// `NIBBLES`: a word holds eight columns, else four.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn rows_of<const NIBBLES: bool, const M: usize>(task: Task) {
    let Task { job, row, count, groups, .. } = task;
    read_groups(job, row, count, groups);
    let (groups, _) = groups.as_chunks::<LANES>();
    let spans = job.x.columns / SPAN;
    let (x, _) = job.x.words.as_chunks::<LANES>().0.as_chunks::<2>();
    // Units of a block.
    let each = job.x.block / UNIT;
    let mut words: [&[u32]; LANES] = [&[]; LANES];
    for lane in 0..LANES {
        words[lane] = job.w.words(row + lane.min(count - 1));
    }
    let length = words[0].len();
    let span_words = if NIBBLES { LANES } else { 2 * LANES };
    let mut y = [_mm512_setzero_ps(); M];
    for span in 0..spans {
        // sums[m][i]: rows 4 * i.. of unit 0, then of unit 1, 2, 3.
        let mut sums = [[_mm512_setzero_si512(); 4]; M];
        let start = span * span_words;
        for i in 0..4 {
            let mut products = [[_mm512_setzero_si512(); 4]; M];
            let mut products2 = [[_mm512_setzero_si512(); 4]; M];
            for r in 0..4 {
                let words = words[4 * i + r];
                prefetch(&words[start..], LANES * length);
                let first = load(words, start);
                if NIBBLES {
                    let mask = _mm512_set1_epi32(0x0f0f_0f0f);
                    let even = _mm512_and_si512(first, mask);
                    let odd = _mm512_and_si512(_mm512_srli_epi32::<4>(first), mask);
                    for m in 0..M {
                        let x = &x[m * spans + span];
                        let sum = _mm512_dpbusd_epi32(products[m][r], even, load_all(&x[0]));
                        products[m][r] = _mm512_dpbusd_epi32(sum, odd, load_all(&x[1]));
                    }
                } else {
                    let second = load(words, start + LANES);
                    prefetch(&words[start..], LANES * length + LANES);
                    for m in 0..M {
                        let x = &x[m * spans + span];
                        products[m][r] = _mm512_dpbusd_epi32(products[m][r], first, load_all(&x[0]));
                        products2[m][r] = _mm512_dpbusd_epi32(products2[m][r], second, load_all(&x[1]));
                    }
                }
            }
            for m in 0..M {
                sums[m][i] = if NIBBLES {
                    sum_quads(&products[m])
                } else {
                    // A quarter of a vector is half a unit here.
                    let (a, b) = (sum_quads(&products[m]), sum_quads(&products2[m]));
                    let even = _mm512_shuffle_i32x4::<0x88>(a, b);
                    _mm512_add_epi32(even, _mm512_shuffle_i32x4::<0xdd>(a, b))
                };
            }
        }
        for m in 0..M {
            let units = transpose_quarters(&sums[m]);
            for unit in (0..4).step_by(each) {
                let column = span * SPAN + unit * UNIT;
                if column >= job.w.columns {
                    break;
                }
                let mut sums = units[unit];
                if each == 2 {
                    sums = _mm512_add_epi32(sums, units[unit + 1]);
                }
                let group = 2 * (column / job.w.group);
                let [scale, sum] = job.x.scales[((m * spans + span) * 4 + unit) / each];
                let weight = _mm512_mul_ps(load_floats(&groups[group]), _mm512_set1_ps(scale));
                y[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), weight, y[m]);
                y[m] = _mm512_fmadd_ps(load_floats(&groups[group + 1]), _mm512_set1_ps(sum), y[m]);
            }
        }
    }
    for m in 0..M {
        let mut lanes = [0.0; LANES];
        store_floats(&mut lanes, y[m]);
        job.set(m, row, &lanes[..count]);
    }
}

/// In every quarter, the sums of the four vectors' quarters.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn sum_quads(a: &[__m512i; 4]) -> __m512i {
    let b = _mm512_add_epi32(_mm512_unpacklo_epi32(a[0], a[1]), _mm512_unpackhi_epi32(a[0], a[1]));
    let c = _mm512_add_epi32(_mm512_unpacklo_epi32(a[2], a[3]), _mm512_unpackhi_epi32(a[2], a[3]));
    _mm512_add_epi32(_mm512_unpacklo_epi64(b, c), _mm512_unpackhi_epi64(b, c))
}

/// The first quarters of all vectors, then the second ones, ..
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn transpose_quarters(a: &[__m512i; 4]) -> [__m512i; 4] {
    let low = _mm512_shuffle_i32x4::<0x88>(a[0], a[1]);
    let high = _mm512_shuffle_i32x4::<0xdd>(a[0], a[1]);
    let low2 = _mm512_shuffle_i32x4::<0x88>(a[2], a[3]);
    let high2 = _mm512_shuffle_i32x4::<0xdd>(a[2], a[3]);
    [
        _mm512_shuffle_i32x4::<0x88>(low, low2),
        _mm512_shuffle_i32x4::<0x88>(high, high2),
        _mm512_shuffle_i32x4::<0xdd>(low, low2),
        _mm512_shuffle_i32x4::<0xdd>(high, high2),
    ]
}

/// 16 words from `start` on, zeros where the row has ended.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn load(words: &[u32], start: usize) -> __m512i {
    match words.get(start..) {
        // SAFETY: the mask ends at the slice's end.
        Some(words) => unsafe { _mm512_maskz_loadu_epi32(first_lanes(words.len()), words.as_ptr().cast()) },
        None => _mm512_setzero_si512(),
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_all(words: &[u32; LANES]) -> __m512i {
    // SAFETY: 16 words.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}
