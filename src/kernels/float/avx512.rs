//! Products in float32 with AVX-512. Loops are written out: the compiler does not inline these
//! functions into closures, which know nothing of AVX-512.

#![allow(clippy::needless_range_loop)] // see above

use super::portable::{read_groups, unpack_row};
use super::{BLOCK, DENSE, E2M1, E4M3, Job, LANES, UNIT, sum};
use crate::kernels::matrix::{self, Floats, Matrix, Packed};
use half::{bf16, f16};
use std::arch::x86_64::*;

/// Rows of the matrix in a tile of registers.
const ROWS: usize = 4;
/// Rows of the input in a tile of registers.
const INPUTS: usize = 6;
/// Up to so many rows of the input, weights go from memory through registers into the sums.
const FEW: usize = 4;

/// See [`Job::block`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
pub(super) fn block<const KIND: u8, const BITS: usize>(
    job: &Job,
    row: usize,
    count: usize,
    scratch: &mut [f32],
) {
    let fused = matches!(BITS, DENSE | 4 | 8);
    if job.inputs > FEW || !fused {
        return many::<KIND, BITS>(job, row, count, scratch);
    }
    for i in (0..count).step_by(ROWS) {
        let rows = tile_rows(row, i, count);
        match job.inputs {
            1 => few::<KIND, BITS, 1>(job, rows, scratch),
            2 => few::<KIND, BITS, 2>(job, rows, scratch),
            3 => few::<KIND, BITS, 3>(job, rows, scratch),
            _ => few::<KIND, BITS, FEW>(job, rows, scratch),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
fn few<const KIND: u8, const BITS: usize, const M: usize>(
    job: &Job,
    rows: [usize; ROWS],
    scratch: &mut [f32],
) {
    match job.w {
        Matrix::Packed(w) => few_packed::<KIND, BITS, M>(job, &w, rows, scratch),
        Matrix::Dense(w) => match w.values {
            Floats::F32(values) => few_dense::<f32, M>(job, values, w.columns, rows),
            Floats::F16(values) => few_dense::<f16, M>(job, values, w.columns, rows),
            Floats::BF16(values) => few_dense::<bf16, M>(job, values, w.columns, rows),
        },
    }
}

/// Four rows from `row + i` on. At the edge the last one is computed again, and written the same.
fn tile_rows(row: usize, i: usize, count: usize) -> [usize; ROWS] {
    std::array::from_fn(|r| row + (i + r).min(count - 1))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn few_packed<const KIND: u8, const BITS: usize, const M: usize>(
    job: &Job,
    w: &Packed,
    rows: [usize; ROWS],
    scratch: &mut [f32],
) {
    let groups = w.columns / w.span();
    let units = w.span() / UNIT;
    let (x, _) = job.x.as_chunks::<UNIT>();
    // Of each row: its words, a unit at a time, and its scales and biases.
    let mut words: [&[[u32; BITS]]; ROWS] = [&[]; ROWS];
    let mut parts: [(&[f32], &[f32]); ROWS] = [(&[], &[]); ROWS];
    let mut room = scratch.chunks_exact_mut(2 * groups);
    for r in 0..ROWS {
        words[r] = &w.words(rows[r]).as_chunks().0[..groups * units];
        parts[r] = read_groups(w, rows[r], room.next().expect("two rows hold four rows' groups"));
    }
    let mut sums = [[_mm512_setzero_ps(); M]; ROWS];
    for group in 0..groups {
        let mut tables = [Group::new::<KIND>(parts[0].0[group], parts[0].1[group]); ROWS];
        for r in 1..ROWS {
            tables[r] = Group::new::<KIND>(parts[r].0[group], parts[r].1[group]);
        }
        for unit in group * units..(group + 1) * units {
            for r in 0..ROWS {
                // The tile after this one, which the processor does not foresee.
                _mm_prefetch::<_MM_HINT_T0>(
                    words[r].as_ptr().wrapping_add(unit + ROWS * groups * units).cast(),
                );
                let w = tables[r].unpack::<KIND, BITS>(&words[r][unit]);
                for m in 0..M {
                    let (x, _) = x[m * groups * units + unit].as_chunks();
                    sums[r][m] = _mm512_fmadd_ps(w[0], load(&x[0]), sums[r][m]);
                    sums[r][m] = _mm512_fmadd_ps(w[1], load(&x[1]), sums[r][m]);
                }
            }
        }
    }
    for r in 0..ROWS {
        for m in 0..M {
            job.set(m, rows[r], sum(store(sums[r][m])));
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn many<const KIND: u8, const BITS: usize>(job: &Job, row: usize, count: usize, scratch: &mut [f32]) {
    let columns = job.columns;
    let (block, room) = scratch.split_at_mut(columns * BLOCK);
    for (i, out) in block.chunks_exact_mut(columns).take(count).enumerate() {
        let w = match job.w {
            Matrix::Packed(ref w) if BITS == 4 || BITS == 8 => w,
            _ => {
                unpack_row::<KIND, BITS, true>(job, row + i, room, out);
                continue;
            }
        };
        let (scales, biases) = read_groups(w, row + i, room);
        let units = w.words(row + i).as_chunks::<BITS>().0;
        for (unit, (words, out)) in units.iter().zip(out.as_chunks_mut::<UNIT>().0).enumerate() {
            let group = unit * UNIT / w.span();
            let w = Group::new::<KIND>(scales[group], biases[group]).unpack::<KIND, BITS>(words);
            let (steps, _) = out.as_chunks_mut();
            steps[0] = store(w[0]);
            steps[1] = store(w[1]);
        }
    }
    let inputs = job.inputs;
    for m in (0..inputs).step_by(INPUTS) {
        for i in (0..count).step_by(ROWS) {
            let rows = tile_rows(row, i, count);
            match inputs - m {
                1 => tile::<1>(job, rows, block, row, m),
                2 => tile::<2>(job, rows, block, row, m),
                3 => tile::<3>(job, rows, block, row, m),
                4 => tile::<4>(job, rows, block, row, m),
                5 => tile::<5>(job, rows, block, row, m),
                _ => tile::<INPUTS>(job, rows, block, row, m),
            }
        }
    }
}

/// `block` holds the matrix's rows from `start` on, unpacked.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn tile<const M: usize>(job: &Job, rows: [usize; ROWS], block: &[f32], start: usize, first: usize) {
    let columns = job.columns;
    let steps = columns / LANES;
    let mut w: [&[[f32; LANES]]; ROWS] = [&[]; ROWS];
    for r in 0..ROWS {
        w[r] = &block[(rows[r] - start) * columns..].as_chunks().0[..steps];
    }
    let mut x: [&[[f32; LANES]]; M] = [&[]; M];
    for m in 0..M {
        x[m] = &job.x[(first + m) * columns..].as_chunks().0[..steps];
    }
    let mut sums = [[_mm512_setzero_ps(); M]; ROWS];
    for step in 0..steps {
        let w = [load(&w[0][step]), load(&w[1][step]), load(&w[2][step]), load(&w[3][step])];
        for m in 0..M {
            let x = load(&x[m][step]);
            for r in 0..ROWS {
                sums[r][m] = _mm512_fmadd_ps(w[r], x, sums[r][m]);
            }
        }
    }
    for r in 0..ROWS {
        for m in 0..M {
            job.set(first + m, rows[r], sum(store(sums[r][m])));
        }
    }
}

/// Few rows of the input with a dense matrix's `values`, whose rows have `columns`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
fn few_dense<T: Widen, const M: usize>(job: &Job, values: &[T], columns: usize, rows: [usize; ROWS]) {
    let steps = job.columns / LANES;
    let mut w: [&[T]; ROWS] = [&[]; ROWS];
    for r in 0..ROWS {
        w[r] = &values[rows[r] * columns..][..columns];
    }
    let (x, _) = job.x.as_chunks::<LANES>();
    let mut sums = [[_mm512_setzero_ps(); M]; ROWS];
    for step in 0..steps {
        let left = columns - step * LANES;
        let mask = if left >= LANES { u16::MAX } else { (1 << left) - 1 };
        for r in 0..ROWS {
            let values = &w[r][step * LANES..];
            // The tile after this one, which the processor does not foresee.
            _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().wrapping_add(ROWS * columns).cast());
            // SAFETY: the mask ends at the row's end.
            let w = unsafe { T::widen(values.as_ptr(), mask) };
            for m in 0..M {
                sums[r][m] = _mm512_fmadd_ps(w, load(&x[m * steps + step]), sums[r][m]);
            }
        }
    }
    for r in 0..ROWS {
        for m in 0..M {
            job.set(m, rows[r], sum(store(sums[r][m])));
        }
    }
}

/// A type that matrices are stored in.
trait Widen: Copy {
    /// The masked ones of 16 values as float32, zeros in place of the others.
    ///
    /// # Safety
    /// The processor has AVX-512, and the masked values can be read.
    unsafe fn widen(values: *const Self, mask: u16) -> __m512;
}

impl Widen for f32 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn widen(values: *const Self, mask: u16) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_maskz_loadu_ps(mask, values) }
    }
}

impl Widen for f16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn widen(values: *const Self, mask: u16) -> __m512 {
        // SAFETY: the caller's promise.
        _mm512_cvtph_ps(unsafe { _mm256_maskz_loadu_epi16(mask, values.cast()) })
    }
}

impl Widen for bf16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn widen(values: *const Self, mask: u16) -> __m512 {
        // SAFETY: the caller's promise.
        let halves = unsafe { _mm256_maskz_loadu_epi16(mask, values.cast()) };
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
    }
}

/// A group's scale and bias, and what each 4-bit value stands for (a 4-bit float without the scale).
#[derive(Clone, Copy)]
struct Group {
    scale: __m512,
    bias: __m512,
    table: __m512,
}

impl Group {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    fn new<const KIND: u8>(scale: f32, bias: f32) -> Self {
        if KIND == E2M1 {
            // Two scales. Every second pair of lanes holds columns of a unit's second half.
            let scale = _mm512_mask_blend_ps(0xcccc, _mm512_set1_ps(scale), _mm512_set1_ps(bias));
            return Group { scale, bias: scale, table: load(&matrix::E2M1) };
        }
        let (scale, bias) = (_mm512_set1_ps(scale), _mm512_set1_ps(bias));
        let values = _mm512_setr_ps(0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.);
        Group { scale, bias, table: _mm512_fmadd_ps(values, scale, bias) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    fn unpack<const KIND: u8, const BITS: usize>(&self, words: &[u32; BITS]) -> [__m512; 2] {
        let (halves, _) = words.as_chunks::<4>();
        if BITS == 4 {
            // Four copies of the four words; lane / 4 * 2 + step is the nibble that a lane takes.
            let words = _mm512_broadcast_i32x4(load_words(&halves[0]));
            let shifts = _mm512_setr_epi32(0, 0, 0, 0, 8, 8, 8, 8, 16, 16, 16, 16, 24, 24, 24, 24);
            let words = _mm512_srlv_epi32(words, shifts);
            // The permutation looks at the lowest four bits alone.
            let first = _mm512_permutexvar_ps(words, self.table);
            let second = _mm512_permutexvar_ps(_mm512_srli_epi32::<4>(words), self.table);
            if KIND == E2M1 {
                return [_mm512_mul_ps(first, self.scale), _mm512_mul_ps(second, self.scale)];
            }
            [first, second]
        } else if KIND == E4M3 {
            let first = widen_e4m3(load_words(&halves[0]));
            let second = widen_e4m3(load_words(&halves[1]));
            [_mm512_mul_ps(first, self.scale), _mm512_mul_ps(second, self.scale)]
        } else {
            let first = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load_words(&halves[0])));
            let second = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load_words(&halves[1])));
            let (scale, bias) = (self.scale, self.bias);
            [_mm512_fmadd_ps(first, scale, bias), _mm512_fmadd_ps(second, scale, bias)]
        }
    }
}

/// As [`matrix::widen_e4m3`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn widen_e4m3(bytes: __m128i) -> __m512 {
    let words = _mm512_cvtepu8_epi32(bytes);
    let sign = _mm512_slli_epi32::<24>(_mm512_and_si512(words, _mm512_set1_epi32(0x80)));
    let magnitude = _mm512_slli_epi32::<20>(_mm512_and_si512(words, _mm512_set1_epi32(0x7f)));
    let factor = _mm512_castsi512_ps(_mm512_set1_epi32((127 + 120) << 23));
    _mm512_mul_ps(_mm512_castsi512_ps(_mm512_or_si512(magnitude, sign)), factor)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_words(words: &[u32; 4]) -> __m128i {
    // SAFETY: 16 bytes.
    unsafe { _mm_loadu_si128(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(lanes: &[f32; LANES]) -> __m512 {
    // SAFETY: 16 floats.
    unsafe { _mm512_loadu_ps(lanes.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(lanes: __m512) -> [f32; LANES] {
    let mut out = [0.0; LANES];
    // SAFETY: 16 floats.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), lanes) };
    out
}
