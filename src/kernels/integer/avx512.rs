//! Products in integers with AVX-512 VNNI. Loops are written out: the compiler does not inline these
//! functions into closures, which know nothing of AVX-512.

#![allow(clippy::needless_range_loop)] // see above

use super::input::{Form, Rounded, UNIT, round_avx512};
use super::portable::unpack;
use super::{Job, LANES, Task, Words};
use crate::kernels::input::X;
use crate::kernels::matrix::{Floats, Packed};
use crate::kernels::threads::Tasks;
use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::Arc;

/// Rows of the input that are computed at once.
const TILE: usize = 8;

/// `x @ w.T`.
pub(super) fn tasks<'a>(w: &Packed, x: &X, job: impl FnOnce(Arc<Rounded>) -> Job<'a>) -> Tasks<'a> {
    let (form, order) = (Form::of(w), [TILE, 1]);
    let x = x.rounded((form, order), |x| Rounded::tiles(x, form, order, round_avx512));
    job(x).tasks(|task| {
        // SAFETY: the caller of this function has seen that the processor has it.
        unsafe { rows(task) }
    })
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn rows(task: Task) {
    let Task { job, row, count, groups, words } = task;
    read_groups(job, row, count, groups);
    let words = lanes(job, row, count, words);
    for m in (0..job.inputs).step_by(TILE) {
        match job.w.bits {
            4 => tile::<true>(job, row, count, m, groups, words),
            _ => tile::<false>(job, row, count, m, groups, words),
        }
    }
}

/// The words of all lanes: as they are if eight columns or four are in each, else four.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) fn lanes<'a>(job: &'a Job, row: usize, count: usize, room: &'a mut [u32]) -> &'a [Words] {
    if job.w.interleaved {
        return job.w.stripe(row).as_chunks().0;
    }
    // What MLX packs in nibbles or bytes is as good as unpacked.
    match job.w.bits {
        2 => unpack::<2>(job, row, count, room),
        3 => unpack::<3>(job, row, count, room),
        5 => unpack::<5>(job, row, count, room),
        6 => unpack::<6>(job, row, count, room),
        bits => {
            let (chunks, _) = room.as_chunks_mut().0.as_chunks_mut();
            let count_of_chunks = (job.w.columns / 32 * bits).div_ceil(LANES);
            for (chunk, out) in chunks.iter_mut().take(count_of_chunks).enumerate() {
                transpose_words(job, row, count, chunk, out);
            }
        }
    }
    room.as_chunks().0
}

/// The results of [`TILE`] rows of the input, from `first` on. `NIBBLES`: a word holds eight columns.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn tile<const NIBBLES: bool>(
    job: &Job,
    row: usize,
    count: usize,
    first: usize,
    groups: &[f32],
    words: &[Words],
) {
    let (columns, block) = (job.w.columns, job.x.block);
    let x = &job.x.words[first * columns / 4..][..TILE * columns / 4];
    let (x, _) = x.as_chunks::<TILE>().0.as_chunks::<{ UNIT / 4 }>();
    let (scales, _) = job.x.scales[first * columns / block..][..TILE * columns / block].as_chunks::<TILE>();
    let (groups, _) = groups.as_chunks::<LANES>();
    let steps = if NIBBLES { UNIT / 8 } else { UNIT / 4 };
    let mask = _mm512_set1_epi32(0x0f0f_0f0f);
    let mut y = [_mm512_setzero_ps(); TILE];
    let (mut group, mut left) = (0, job.w.group);
    let each = block / UNIT;
    for ((x, scales), words) in x.chunks_exact(each).zip(scales).zip(words.chunks_exact(each * steps)) {
        let mut sums = [_mm512_setzero_si512(); TILE];
        for (x, words) in x.iter().zip(words.chunks_exact(steps)) {
            for step in 0..steps {
                let word = load(&words[step]);
                if NIBBLES {
                    add(&mut sums, _mm512_and_si512(word, mask), &x[2 * step]);
                    let odd = _mm512_and_si512(_mm512_srli_epi32::<4>(word), mask);
                    add(&mut sums, odd, &x[2 * step + 1]);
                } else {
                    add(&mut sums, word, &x[step]);
                }
            }
        }
        let (weight, bias) = (load_floats(&groups[group]), load_floats(&groups[group + 1]));
        for m in 0..TILE {
            let [scale, sum] = scales[m];
            let weight = _mm512_mul_ps(weight, _mm512_set1_ps(scale));
            y[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[m]), weight, y[m]);
            y[m] = _mm512_fmadd_ps(bias, _mm512_set1_ps(sum), y[m]);
        }
        left -= block;
        if left == 0 {
            (group, left) = (group + 2, job.w.group);
        }
    }
    for m in 0..TILE.min(job.inputs - first) {
        let mut lanes = [0.0; LANES];
        store_floats(&mut lanes, y[m]);
        job.set(first + m, row, &lanes[..count]);
    }
}

/// Adds to each row's sums the products of its four columns with those of the matrix's lanes. Written
/// in assembly because the compiler loads all of `x` beforehand, for which there are not registers enough.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn add(sums: &mut [__m512i; TILE], words: __m512i, x: &[u32; TILE]) {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *sums;
    // SAFETY: reads the eight words of `x`.
    unsafe {
        asm!(
            "vpdpbusd {a}, {w}, dword ptr [{x}]{{1to16}}",
            "vpdpbusd {b}, {w}, dword ptr [{x} + 4]{{1to16}}",
            "vpdpbusd {c}, {w}, dword ptr [{x} + 8]{{1to16}}",
            "vpdpbusd {d}, {w}, dword ptr [{x} + 12]{{1to16}}",
            "vpdpbusd {e}, {w}, dword ptr [{x} + 16]{{1to16}}",
            "vpdpbusd {f}, {w}, dword ptr [{x} + 20]{{1to16}}",
            "vpdpbusd {g}, {w}, dword ptr [{x} + 24]{{1to16}}",
            "vpdpbusd {h}, {w}, dword ptr [{x} + 28]{{1to16}}",
            a = inout(zmm_reg) a,
            b = inout(zmm_reg) b,
            c = inout(zmm_reg) c,
            d = inout(zmm_reg) d,
            e = inout(zmm_reg) e,
            f = inout(zmm_reg) f,
            g = inout(zmm_reg) g,
            h = inout(zmm_reg) h,
            w = in(zmm_reg) words,
            x = in(reg) x.as_ptr(),
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    *sums = [a, b, c, d, e, f, g, h];
}

/// The words `chunk * 16..` of all lanes: `out[i]` holds every lane's i-th.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn transpose_words(job: &Job, row: usize, count: usize, chunk: usize, out: &mut [Words; LANES]) {
    let length = job.w.columns / 32 * job.w.bits;
    let start = chunk * LANES;
    let mask = first_lanes(length - start);
    let mut lanes = [_mm512_setzero_si512(); LANES];
    for lane in 0..LANES {
        let words = &job.w.words(row + lane.min(count - 1))[start..];
        prefetch(words, LANES * length);
        // SAFETY: the mask ends at the row's end.
        lanes[lane] = unsafe { _mm512_maskz_loadu_epi32(mask, words.as_ptr().cast()) };
    }
    transpose(&mut lanes);
    for lane in 0..LANES {
        // SAFETY: 16 words.
        unsafe { _mm512_storeu_si512(out[lane].as_mut_ptr().cast(), lanes[lane]) };
    }
}

/// Asks for what lies `distance` behind: the next rows, which the processor does not foresee. Into the
/// second-level cache, because rows that lie a power of two apart push each other out of the first.
#[inline(always)]
pub(super) fn prefetch<T>(values: &[T], distance: usize) {
    // SAFETY: a hint, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(values.as_ptr().wrapping_add(distance).cast()) };
}

/// As the portable one.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) fn read_groups(job: &Job, row: usize, count: usize, out: &mut [f32]) {
    let groups = job.w.columns / job.w.group;
    let (out, _) = out.as_chunks_mut::<LANES>();
    if job.w.interleaved {
        for group in 0..groups {
            for (part, floats) in [&job.scales, &job.biases].into_iter().enumerate() {
                let lanes = load_widened(floats, row * groups + group * LANES, LANES, 0);
                store_floats(&mut out[2 * group + part], _mm512_castsi512_ps(lanes));
            }
        }
        return;
    }
    for first in (0..groups).step_by(LANES) {
        for (part, floats) in [&job.scales, &job.biases].into_iter().enumerate() {
            let mut lanes = [_mm512_setzero_si512(); LANES];
            for lane in 0..LANES {
                let start = (row + lane.min(count - 1)) * groups + first;
                lanes[lane] = load_widened(floats, start, (groups - first).min(LANES), LANES * groups);
            }
            transpose(&mut lanes);
            for i in 0..(groups - first).min(LANES) {
                store_floats(&mut out[2 * (first + i) + part], _mm512_castsi512_ps(lanes[i]));
            }
        }
    }
}

/// `count` floats, at most 16, as float32. `next`: how far behind lie those that are needed next.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) fn load_widened(floats: &Floats, start: usize, count: usize, next: usize) -> __m512i {
    let mask = first_lanes(count);
    match floats {
        Floats::F32(values) => {
            let values = &values[start..start + count];
            prefetch(values, next);
            // SAFETY: the mask ends at the slice's end.
            unsafe { _mm512_maskz_loadu_epi32(mask, values.as_ptr().cast()) }
        }
        Floats::BF16(values) => {
            let values = &values[start..start + count];
            prefetch(values, next);
            // SAFETY: as above.
            let halves = unsafe { _mm256_maskz_loadu_epi16(mask, values.as_ptr().cast()) };
            _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves))
        }
        Floats::F16(values) => {
            let values = &values[start..start + count];
            prefetch(values, next);
            // SAFETY: as above.
            let halves = unsafe { _mm256_maskz_loadu_epi16(mask, values.as_ptr().cast()) };
            _mm512_castps_si512(_mm512_cvtph_ps(halves))
        }
    }
}

pub(super) fn first_lanes(count: usize) -> u16 {
    if count >= LANES { u16::MAX } else { (1 << count) - 1 }
}

/// Turns 16 rows of 16 words into columns.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn transpose(a: &mut [__m512i; LANES]) {
    let mut b = *a;
    for i in 0..8 {
        b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
        b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
    }
    for i in 0..4 {
        a[4 * i] = _mm512_unpacklo_epi64(b[4 * i], b[4 * i + 2]);
        a[4 * i + 1] = _mm512_unpackhi_epi64(b[4 * i], b[4 * i + 2]);
        a[4 * i + 2] = _mm512_unpacklo_epi64(b[4 * i + 1], b[4 * i + 3]);
        a[4 * i + 3] = _mm512_unpackhi_epi64(b[4 * i + 1], b[4 * i + 3]);
    }
    for i in 0..4 {
        let low = _mm512_shuffle_i32x4::<0x88>(a[i], a[4 + i]);
        let high = _mm512_shuffle_i32x4::<0xdd>(a[i], a[4 + i]);
        let low2 = _mm512_shuffle_i32x4::<0x88>(a[8 + i], a[12 + i]);
        let high2 = _mm512_shuffle_i32x4::<0xdd>(a[8 + i], a[12 + i]);
        b[i] = _mm512_shuffle_i32x4::<0x88>(low, low2);
        b[4 + i] = _mm512_shuffle_i32x4::<0x88>(high, high2);
        b[8 + i] = _mm512_shuffle_i32x4::<0xdd>(low, low2);
        b[12 + i] = _mm512_shuffle_i32x4::<0xdd>(high, high2);
    }
    *a = b;
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(words: &Words) -> __m512i {
    // SAFETY: 16 words.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_floats(lanes: &[f32; LANES]) -> __m512 {
    // SAFETY: 16 floats.
    unsafe { _mm512_loadu_ps(lanes.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store_floats(out: &mut [f32; LANES], lanes: __m512) {
    // SAFETY: 16 floats.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), lanes) };
}
