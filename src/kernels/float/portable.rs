//! Products in float32 for any processor: loops over 16 lanes, which the compiler makes vectors of.

use super::{BLOCK, Job, LANES, Matrix, UNIT, order, sum};
use crate::kernels::affine::Affine;

/// See [`Job::block`].
pub(super) fn block<const BITS: usize>(job: &Job, row: usize, count: usize, scratch: &mut [f32]) {
    block_with::<BITS, { cfg!(target_arch = "aarch64") }>(job, row, count, scratch);
}

/// The same compiled for AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub(super) fn block_avx2<const BITS: usize>(job: &Job, row: usize, count: usize, scratch: &mut [f32]) {
    block_with::<BITS, true>(job, row, count, scratch);
}

#[inline(always)]
fn block_with<const BITS: usize, const FMA: bool>(job: &Job, row: usize, count: usize, scratch: &mut [f32]) {
    let columns = job.columns;
    let (block, groups) = scratch.split_at_mut(columns * BLOCK);
    for (i, out) in block.chunks_exact_mut(columns).take(count).enumerate() {
        unpack_row::<BITS, FMA>(job, row + i, groups, out);
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
pub(super) fn unpack_row<const BITS: usize, const FMA: bool>(
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
        Matrix::Affine(w) => unpack_affine::<BITS, FMA>(w, row, room, out),
    }
}

#[inline(always)]
fn unpack_affine<const BITS: usize, const FMA: bool>(
    w: &Affine,
    row: usize,
    room: &mut [f32],
    out: &mut [f32],
) {
    let (scales, biases) = read_groups(w, row, room);
    let order = order(BITS);
    // A dense matrix does not come here, but the compiler wants to see that its chunks have a size.
    let units = w.words(row).chunks_exact(BITS.max(1)).zip(out.chunks_exact_mut(UNIT));
    for (index, (words, out)) in units.enumerate() {
        let group = index * UNIT / w.group;
        let (scale, bias) = (scales[group], biases[group]);
        for (out, &column) in out.iter_mut().zip(&order) {
            let bit = column * BITS;
            let low = u64::from(words[bit / 32]);
            let high = words.get(bit / 32 + 1).map_or(0, |&word| u64::from(word));
            let q = ((high << 32 | low) >> (bit % 32)) as u32 & ((1 << BITS) - 1);
            *out = fma::<FMA>(q as f32, scale, bias);
        }
    }
}

/// A row's scales and biases.
#[inline(always)]
pub(super) fn read_groups<'a>(w: &Affine, row: usize, room: &'a mut [f32]) -> (&'a [f32], &'a [f32]) {
    let groups = w.columns / w.group;
    let (scales, biases) = room[..2 * groups].split_at_mut(groups);
    w.scales.read(row * groups, scales);
    w.biases.read(row * groups, biases);
    (scales, biases)
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

/// `a * b + c`, rounded once if the processor can.
#[inline(always)]
fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}
