//! Products in float32 with AVX-512.

use super::portable::{read_groups, unpack};
use super::{BLOCK, Job, LANES, UNIT, sum};
use crate::kernels::threads::with_scratch;
use std::arch::x86_64::*;

/// Rows of the matrix in a tile of registers.
const ROWS: usize = 4;
/// Rows of the input in a tile of registers.
const INPUTS: usize = 6;
/// Up to so many rows of the input, weights go from memory through registers into the sums.
const FEW: usize = 4;

/// See [`Job::block`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) fn block<const BITS: usize>(job: &Job, row: usize, count: usize) {
    let inputs = job.x.len() / job.w.columns;
    let fused = BITS == 4 || BITS == 8;
    for i in (0..count).step_by(ROWS) {
        // At the edge the last row is computed again, and written the same.
        let rows: [usize; ROWS] = std::array::from_fn(|r| row + (i + r).min(count - 1));
        match inputs {
            _ if !fused => break,
            1 => few::<BITS, 1>(job, rows),
            2 => few::<BITS, 2>(job, rows),
            3 => few::<BITS, 3>(job, rows),
            FEW => few::<BITS, FEW>(job, rows),
            _ => break,
        }
    }
    if !fused || inputs > FEW {
        many::<BITS>(job, row, count);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn few<const BITS: usize, const M: usize>(job: &Job, rows: [usize; ROWS]) {
    let columns = job.w.columns;
    let groups = columns / job.w.group;
    with_scratch(ROWS * 2 * groups, |scratch| {
        let mut sums = [[_mm512_setzero_ps(); M]; ROWS];
        let mut room = scratch.chunks_exact_mut(2 * groups);
        let parts: [(&[f32], &[f32]); ROWS] =
            rows.map(|row| read_groups(job, row, room.next().expect("one for each row")));
        let words = rows.map(|row| job.w.words(row).as_chunks::<BITS>().0);
        let (x, _) = job.x.as_chunks::<UNIT>();
        let units = job.w.group / UNIT;
        for group in 0..groups {
            let tables: [Group; ROWS] =
                std::array::from_fn(|r| Group::new(parts[r].0[group], parts[r].1[group]));
            for unit in group * units..(group + 1) * units {
                let w: [[__m512; 2]; ROWS] = std::array::from_fn(|r| tables[r].unpack(&words[r][unit]));
                for m in 0..M {
                    let x = &x[m * (columns / UNIT) + unit];
                    for step in 0..2 {
                        let x = load(&x.as_chunks().0[step]);
                        for r in 0..ROWS {
                            sums[r][m] = _mm512_fmadd_ps(w[r][step], x, sums[r][m]);
                        }
                    }
                }
            }
        }
        for (row, sums) in rows.into_iter().zip(sums) {
            for (m, lanes) in sums.into_iter().enumerate() {
                job.y.set(m * job.w.rows + row, sum(store(lanes)));
            }
        }
    });
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn many<const BITS: usize>(job: &Job, row: usize, count: usize) {
    let columns = job.w.columns;
    with_scratch(columns * (BLOCK + 2), |scratch| {
        let (block, room) = scratch.split_at_mut(columns * BLOCK);
        for (i, out) in block.chunks_exact_mut(columns).take(count).enumerate() {
            if BITS == 4 || BITS == 8 {
                let (scales, biases) = read_groups(job, row + i, room);
                let units = job.w.words(row + i).as_chunks::<BITS>().0;
                for (unit, (words, out)) in units.iter().zip(out.as_chunks_mut::<UNIT>().0).enumerate() {
                    let group = unit * UNIT / job.w.group;
                    let w = Group::new(scales[group], biases[group]).unpack(words);
                    for (out, w) in out.as_chunks_mut().0.iter_mut().zip(w) {
                        *out = store(w);
                    }
                }
            } else {
                unpack::<BITS, true>(job, row + i, room, out);
            }
        }
        let inputs = job.x.len() / columns;
        for m in (0..inputs).step_by(INPUTS) {
            for i in (0..count).step_by(ROWS) {
                let index: [usize; ROWS] = std::array::from_fn(|r| (i + r).min(count - 1));
                let w = index.map(|i| block[i * columns..][..columns].as_chunks().0);
                let rows = index.map(|i| row + i);
                match inputs - m {
                    1 => tile::<1>(job, rows, w, m),
                    2 => tile::<2>(job, rows, w, m),
                    3 => tile::<3>(job, rows, w, m),
                    4 => tile::<4>(job, rows, w, m),
                    5 => tile::<5>(job, rows, w, m),
                    _ => tile::<INPUTS>(job, rows, w, m),
                }
            }
        }
    });
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn tile<const M: usize>(job: &Job, rows: [usize; ROWS], w: [&[[f32; LANES]]; ROWS], first: usize) {
    let columns = job.w.columns;
    let steps = columns / LANES;
    let w = w.map(|row| &row[..steps]);
    let x: [&[[f32; LANES]]; M] =
        std::array::from_fn(|m| &job.x[(first + m) * columns..].as_chunks().0[..steps]);
    let mut sums = [[_mm512_setzero_ps(); M]; ROWS];
    for step in 0..steps {
        let w = w.map(|row| load(&row[step]));
        for m in 0..M {
            let x = load(&x[m][step]);
            for r in 0..ROWS {
                sums[r][m] = _mm512_fmadd_ps(w[r], x, sums[r][m]);
            }
        }
    }
    for (row, sums) in rows.into_iter().zip(sums) {
        for (m, lanes) in sums.into_iter().enumerate() {
            job.y.set((first + m) * job.w.rows + row, sum(store(lanes)));
        }
    }
}

/// A group's scale and bias, and what each 4-bit value stands for.
struct Group {
    scale: __m512,
    bias: __m512,
    table: __m512,
}

impl Group {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    fn new(scale: f32, bias: f32) -> Self {
        let (scale, bias) = (_mm512_set1_ps(scale), _mm512_set1_ps(bias));
        let values = _mm512_setr_ps(0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.);
        Group { scale, bias, table: _mm512_fmadd_ps(values, scale, bias) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    fn unpack<const BITS: usize>(&self, words: &[u32; BITS]) -> [__m512; 2] {
        if BITS == 4 {
            // Four copies of the four words; lane / 4 * 2 + step is the nibble that a lane takes.
            // SAFETY: 16 bytes.
            let words = unsafe { _mm_loadu_si128(words.as_ptr().cast()) };
            let words = _mm512_broadcast_i32x4(words);
            let shifts = _mm512_setr_epi32(0, 0, 0, 0, 8, 8, 8, 8, 16, 16, 16, 16, 24, 24, 24, 24);
            // The permutation looks at the lowest four bits alone.
            [words, _mm512_srli_epi32::<4>(words)]
                .map(|words| _mm512_permutexvar_ps(_mm512_srlv_epi32(words, shifts), self.table))
        } else {
            let (halves, _) = words.as_chunks::<4>();
            [0, 1].map(|step| {
                // SAFETY: 16 bytes.
                let bytes = unsafe { _mm_loadu_si128(halves[step].as_ptr().cast()) };
                _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)), self.scale, self.bias)
            })
        }
    }
}

#[target_feature(enable = "avx512f")]
fn load(lanes: &[f32; LANES]) -> __m512 {
    // SAFETY: 16 floats.
    unsafe { _mm512_loadu_ps(lanes.as_ptr()) }
}

#[target_feature(enable = "avx512f")]
fn store(lanes: __m512) -> [f32; LANES] {
    let mut out = [0.0; LANES];
    // SAFETY: 16 floats.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), lanes) };
    out
}
