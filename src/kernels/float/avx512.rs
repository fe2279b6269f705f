//! Products in float32 with AVX-512. Loops are written out: the compiler does not inline these
//! functions into closures, which know nothing of AVX-512.

use super::portable::{read_groups, unpack};
use super::{BLOCK, Job, LANES, UNIT, sum};
use std::arch::x86_64::*;

/// Rows of the matrix in a tile of registers.
const ROWS: usize = 4;
/// Rows of the input in a tile of registers.
const INPUTS: usize = 6;
/// Up to so many rows of the input, weights go from memory through registers into the sums.
const FEW: usize = 4;

/// See [`Job::block`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) fn block<const BITS: usize>(job: &Job, row: usize, count: usize, scratch: &mut [f32]) {
    let inputs = job.x.len() / job.w.columns;
    if inputs > FEW || !(BITS == 4 || BITS == 8) {
        return many::<BITS>(job, row, count, scratch);
    }
    for i in (0..count).step_by(ROWS) {
        let rows = tile_rows(row, i, count);
        match inputs {
            1 => few::<BITS, 1>(job, rows, scratch),
            2 => few::<BITS, 2>(job, rows, scratch),
            3 => few::<BITS, 3>(job, rows, scratch),
            _ => few::<BITS, FEW>(job, rows, scratch),
        }
    }
}

/// Four rows from `row + i` on. At the edge the last one is computed again, and written the same.
fn tile_rows(row: usize, i: usize, count: usize) -> [usize; ROWS] {
    std::array::from_fn(|r| row + (i + r).min(count - 1))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn few<const BITS: usize, const M: usize>(job: &Job, rows: [usize; ROWS], scratch: &mut [f32]) {
    let groups = job.w.columns / job.w.group;
    let units = job.w.group / UNIT;
    let (x, _) = job.x.as_chunks::<UNIT>();
    // Of each row: its words, a unit at a time, and its scales and biases.
    let mut words: [&[[u32; BITS]]; ROWS] = [&[]; ROWS];
    let mut parts: [(&[f32], &[f32]); ROWS] = [(&[], &[]); ROWS];
    let mut room = scratch.chunks_exact_mut(2 * groups);
    for r in 0..ROWS {
        words[r] = &job.w.words(rows[r]).as_chunks().0[..groups * units];
        parts[r] = read_groups(job, rows[r], room.next().expect("two rows hold four rows' groups"));
    }
    let mut sums = [[_mm512_setzero_ps(); M]; ROWS];
    for group in 0..groups {
        let mut tables = [Group::new(parts[0].0[group], parts[0].1[group]); ROWS];
        for r in 1..ROWS {
            tables[r] = Group::new(parts[r].0[group], parts[r].1[group]);
        }
        for unit in group * units..(group + 1) * units {
            for r in 0..ROWS {
                // The tile after this one, which the processor does not foresee.
                _mm_prefetch::<_MM_HINT_T0>(
                    words[r].as_ptr().wrapping_add(unit + ROWS * groups * units).cast(),
                );
                let w = tables[r].unpack(&words[r][unit]);
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
fn many<const BITS: usize>(job: &Job, row: usize, count: usize, scratch: &mut [f32]) {
    let columns = job.w.columns;
    let (block, room) = scratch.split_at_mut(columns * BLOCK);
    for (i, out) in block.chunks_exact_mut(columns).take(count).enumerate() {
        if BITS != 4 && BITS != 8 {
            unpack::<BITS, true>(job, row + i, room, out);
            continue;
        }
        let (scales, biases) = read_groups(job, row + i, room);
        let units = job.w.words(row + i).as_chunks::<BITS>().0;
        for (unit, (words, out)) in units.iter().zip(out.as_chunks_mut::<UNIT>().0).enumerate() {
            let group = unit * UNIT / job.w.group;
            let w = Group::new(scales[group], biases[group]).unpack(words);
            let (steps, _) = out.as_chunks_mut();
            steps[0] = store(w[0]);
            steps[1] = store(w[1]);
        }
    }
    let inputs = job.x.len() / columns;
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
    let columns = job.w.columns;
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

/// A group's scale and bias, and what each 4-bit value stands for.
#[derive(Clone, Copy)]
struct Group {
    scale: __m512,
    bias: __m512,
    table: __m512,
}

impl Group {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    fn new(scale: f32, bias: f32) -> Self {
        let (scale, bias) = (_mm512_set1_ps(scale), _mm512_set1_ps(bias));
        let values = _mm512_setr_ps(0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.);
        Group { scale, bias, table: _mm512_fmadd_ps(values, scale, bias) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    fn unpack<const BITS: usize>(&self, words: &[u32; BITS]) -> [__m512; 2] {
        let (halves, _) = words.as_chunks::<4>();
        if BITS == 4 {
            // Four copies of the four words; lane / 4 * 2 + step is the nibble that a lane takes.
            let words = _mm512_broadcast_i32x4(load_words(&halves[0]));
            let shifts = _mm512_setr_epi32(0, 0, 0, 0, 8, 8, 8, 8, 16, 16, 16, 16, 24, 24, 24, 24);
            let words = _mm512_srlv_epi32(words, shifts);
            // The permutation looks at the lowest four bits alone.
            let first = _mm512_permutexvar_ps(words, self.table);
            [first, _mm512_permutexvar_ps(_mm512_srli_epi32::<4>(words), self.table)]
        } else {
            let first = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load_words(&halves[0])));
            let second = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load_words(&halves[1])));
            let (scale, bias) = (self.scale, self.bias);
            [_mm512_fmadd_ps(first, scale, bias), _mm512_fmadd_ps(second, scale, bias)]
        }
    }
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
