//! Products in float32 for any processor: loops over 16 lanes, which the compiler makes vectors of.

use super::{BLOCK, E2M1, E4M3, Job, LANES, UNIT, order, sum};
use crate::kernels::math::fma;
use crate::kernels::matrix::{self, Matrix, Packed, Values};

/// See [`Job::block`].
pub(super) fn block<const KIND: u8, const BITS: usize>(
    job: &Job,
    row: usize,
    count: usize,
    scratch: &mut [f32],
) {
    block_with::<KIND, BITS, { cfg!(target_arch = "aarch64") }>(job, row, count, scratch);
}

/// The same compiled for AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub(super) fn block_avx2<const KIND: u8, const BITS: usize>(
    job: &Job,
    row: usize,
    count: usize,
    scratch: &mut [f32],
) {
    block_with::<KIND, BITS, true>(job, row, count, scratch);
}

#[inline(always)]
fn block_with<const KIND: u8, const BITS: usize, const FMA: bool>(
    job: &Job,
    row: usize,
    count: usize,
    scratch: &mut [f32],
) {
    let columns = job.columns;
    let (block, groups) = scratch.split_at_mut(columns * BLOCK);
    for (i, out) in block.chunks_exact_mut(columns).take(count).enumerate() {
        unpack_row::<KIND, BITS, FMA>(job, row + i, groups, out);
    }
    let inputs = job.inputs;
    let x = |m: usize| &job.x[m * columns..][..columns];
    let w = |i: usize| &block[i * columns..][..columns];
    for m in (0..inputs).step_by(2) {
        for i in (0..count).step_by(2) {
            let (more_m, more_i) = ((m + 1).min(inputs - 1), (i + 1).min(count - 1));
            // At an edge a row is computed twice, and written the same.
            if inputs == 1 {
                let [[a], [b]] = tile::<FMA, 2, 1>([w(i), w(more_i)], [x(m)]);
                job.set(0, row + i, a);
                job.set(0, row + more_i, b);
                continue;
            }
            let sums = tile::<FMA, 2, 2>([w(i), w(more_i)], [x(m), x(more_m)]);
            for (i, sums) in [i, more_i].into_iter().zip(sums) {
                for (m, sum) in [m, more_m].into_iter().zip(sums) {
                    job.set(m, row + i, sum);
                }
            }
        }
    }
}

/// A row as floats, in the order of [`order`]. `room`: for its scales and biases.
#[inline(always)]
pub(super) fn unpack_row<const KIND: u8, const BITS: usize, const FMA: bool>(
    job: &Job,
    row: usize,
    room: &mut [f32],
    out: &mut [f32],
) {
    match job.w {
        Matrix::Dense(w) => {
            let (values, padding) = out.split_at_mut(w.columns);
            w.values.read(row * w.columns, values);
            padding.fill(0.0);
        }
        Matrix::Packed(w) => unpack_packed::<KIND, BITS, FMA>(&w, row, &order(BITS), room, out),
    }
}

/// Row `row` of `w`, `order` saying which column of each unit goes where.
#[inline(always)]
pub(super) fn unpack_packed<const KIND: u8, const BITS: usize, const FMA: bool>(
    w: &Packed,
    row: usize,
    order: &[usize; UNIT],
    room: &mut [f32],
    out: &mut [f32],
) {
    let (first, second) = read_groups(w, row, room);
    let span = w.span();
    // A dense matrix does not come here, but the compiler wants to see that its chunks have a size.
    let units = w.words(row).chunks_exact(BITS.max(1)).zip(out.chunks_exact_mut(UNIT));
    for (index, (words, out)) in units.enumerate() {
        let group = index * UNIT / span;
        let (a, b) = (first[group], second[group]);
        for (out, &column) in out.iter_mut().zip(order) {
            let bit = column * BITS;
            let low = u64::from(words[bit / 32]);
            let high = words.get(bit / 32 + 1).map_or(0, |&word| u64::from(word));
            let q = ((high << 32 | low) >> (bit % 32)) as u32 & ((1 << BITS) - 1);
            *out = match KIND {
                E2M1 => matrix::E2M1[q as usize & 15] * if column < UNIT / 2 { a } else { b },
                E4M3 => matrix::widen_e4m3(q as u8) * a,
                _ => fma::<FMA>(q as f32, a, b),
            };
        }
    }
}

/// A row's scales and biases, or, of floats, the scales of both halves of every unit.
#[inline(always)]
pub(super) fn read_groups<'a>(w: &Packed, row: usize, room: &'a mut [f32]) -> (&'a [f32], &'a [f32]) {
    let count = w.columns / w.span();
    let (first, second) = room[..2 * count].split_at_mut(count);
    match w.values {
        Values::Integers { scales, biases } => {
            scales.read(row * count, first);
            biases.read(row * count, second);
        }
        Values::Nvfp4 { scales } => {
            let (pairs, _) = scales[2 * row * count..][..2 * count].as_chunks::<2>();
            for ((a, b), pair) in first.iter_mut().zip(second.iter_mut()).zip(pairs) {
                [*a, *b] = pair.map(matrix::widen_e4m3);
            }
        }
        Values::Mxfp4 { scales } | Values::Mxfp8 { scales } => {
            first
                .iter_mut()
                .zip(&scales[row * count..])
                .for_each(|(a, scale)| *a = matrix::widen_e8m0(*scale));
            second.copy_from_slice(first);
        }
    }
    (first, second)
}

#[inline(always)]
fn tile<const FMA: bool, const R: usize, const M: usize>(w: [&[f32]; R], x: [&[f32]; M]) -> [[f32; M]; R] {
    let mut sums = [[[0.0; LANES]; M]; R];
    let w = w.map(|row| row.as_chunks::<LANES>().0);
    let x = x.map(|row| row.as_chunks::<LANES>().0);
    for step in 0..w[0].len() {
        for r in 0..R {
            for m in 0..M {
                for lane in 0..LANES {
                    let sum = &mut sums[r][m][lane];
                    *sum = fma::<FMA>(w[r][step][lane], x[m][step][lane], *sum);
                }
            }
        }
    }
    sums.map(|row| row.map(sum))
}
