//! Products in integers for any processor: loops over 16 rows of the matrix, which the compiler makes
//! vectors of.

#[cfg(target_arch = "x86_64")]
use super::input::round_avx2;
use super::input::{Form, Rounded, UNIT, round};
use super::{Job, LANES, Task};
use crate::kernels::input::X;
use crate::kernels::matrix::Packed;
use crate::kernels::threads::Tasks;
use std::sync::Arc;

/// `x @ w.T`.
pub(super) fn tasks<'a>(w: &Packed, x: &X, job: impl FnOnce(Arc<Rounded>) -> Job<'a>) -> Tasks<'a> {
    let form = Form::of(w);
    let x = x.rounded((form, [0, 1]), |x| Rounded::rows(x, form, 1, round));
    job(x).tasks(rows)
}

/// The same compiled for AVX2.
#[cfg(target_arch = "x86_64")]
pub(super) fn tasks_avx2<'a>(w: &Packed, x: &X, job: impl FnOnce(Arc<Rounded>) -> Job<'a>) -> Tasks<'a> {
    let form = Form::of(w);
    let x = x.rounded((form, [0, 1]), |x| Rounded::rows(x, form, 1, round_avx2));
    job(x).tasks(|task| {
        // SAFETY: the caller of this function has seen that the processor has it.
        unsafe { rows_avx2(task) }
    })
}

fn rows(task: Task) {
    const FMA: bool = cfg!(target_arch = "aarch64");
    match task.job.w.bits {
        2 => rows_of::<2, FMA>(task),
        3 => rows_of::<3, FMA>(task),
        4 => rows_of::<4, FMA>(task),
        5 => rows_of::<5, FMA>(task),
        6 => rows_of::<6, FMA>(task),
        _ => rows_of::<8, FMA>(task),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn rows_avx2(task: Task) {
    match task.job.w.bits {
        2 => rows_of::<2, true>(task),
        3 => rows_of::<3, true>(task),
        4 => rows_of::<4, true>(task),
        5 => rows_of::<5, true>(task),
        6 => rows_of::<6, true>(task),
        _ => rows_of::<8, true>(task),
    }
}

#[inline(always)]
fn rows_of<const BITS: usize, const FMA: bool>(task: Task) {
    let Task { job, row, count, groups, words } = task;
    read_groups(job, row, count, groups);
    if BITS == 4 {
        transpose(job, row, count, words);
    } else {
        unpack::<BITS>(job, row, count, words);
    }
    for m in 0..job.inputs {
        job.set(m, row, &row_of::<BITS, FMA>(job, m, groups, words)[..count]);
    }
}

/// A group's scales of all lanes, then its biases. At the matrix's edge the last row is in several lanes.
#[inline(always)]
pub(super) fn read_groups(job: &Job, row: usize, count: usize, out: &mut [f32]) {
    let groups = job.w.columns / job.w.group;
    for lane in 0..LANES {
        let start = (row + lane.min(count - 1)) * groups;
        for group in 0..groups {
            let mut value = [0.0];
            job.scales.read(start + group, &mut value);
            out[group * 2 * LANES + lane] = value[0];
            job.biases.read(start + group, &mut value);
            out[(group * 2 + 1) * LANES + lane] = value[0];
        }
    }
}

/// The rows' words, each followed by that of the next lane.
#[inline(always)]
fn transpose(job: &Job, row: usize, count: usize, out: &mut [u32]) {
    for lane in 0..LANES {
        for (i, word) in job.w.words(row + lane.min(count - 1)).iter().enumerate() {
            out[i * LANES + lane] = *word;
        }
    }
}

/// The same of words that hold four columns, a byte for each.
#[inline(always)]
pub(super) fn unpack<const BITS: usize>(job: &Job, row: usize, count: usize, out: &mut [u32]) {
    for lane in 0..LANES {
        let words = job.w.words(row + lane.min(count - 1));
        for i in 0..job.w.columns / 4 {
            let value = |column: usize| {
                let bit = column * BITS;
                let low = u64::from(words[bit / 32]);
                let high = words.get(bit / 32 + 1).map_or(0, |&word| u64::from(word));
                ((high << 32 | low) >> (bit % 32)) as u32 & ((1 << BITS) - 1)
            };
            let bytes = (0..4).fold(0, |bytes, j| bytes | value(4 * i + j) << (8 * j));
            out[i * LANES + lane] = bytes;
        }
    }
}

/// The results of all lanes for input row `m`.
#[inline(always)]
fn row_of<const BITS: usize, const FMA: bool>(
    job: &Job,
    m: usize,
    groups: &[f32],
    words: &[u32],
) -> [f32; LANES] {
    let block = job.x.block;
    let blocks = job.w.columns / block;
    let (x, _) = job.x.words[m * job.w.columns / 4..][..job.w.columns / 4].as_chunks::<{ UNIT / 4 }>();
    let scales = &job.x.scales[m * blocks..][..blocks];
    let words = words.as_chunks::<LANES>().0;
    let groups = groups.as_chunks::<LANES>().0;
    let mut y = [0.0; LANES];
    for (index, x) in x.chunks_exact(block / UNIT).enumerate() {
        let mut sums = [0; LANES];
        for (unit, x) in x.iter().enumerate() {
            let steps = if BITS == 4 { 4 } else { 8 };
            let words = &words[(index * block / UNIT + unit) * steps..][..steps];
            if BITS == 4 {
                for (words, x) in words.iter().zip(x.as_chunks::<2>().0) {
                    add::<0>(&mut sums, words, x[0], 0x0f);
                    add::<4>(&mut sums, words, x[1], 0x0f);
                }
            } else {
                for (words, x) in words.iter().zip(x) {
                    add::<0>(&mut sums, words, *x, 0xff);
                }
            }
        }
        let group = index * block / job.w.group;
        let [scale, sum] = scales[index];
        for lane in 0..LANES {
            let weight = groups[2 * group][lane] * scale;
            y[lane] = fma::<FMA>(sums[lane] as f32, weight, y[lane]);
            y[lane] = fma::<FMA>(groups[2 * group + 1][lane], sum, y[lane]);
        }
    }
    y
}

/// Adds the products of four columns to each lane's sum.
#[inline(always)]
fn add<const SHIFT: usize>(sums: &mut [i32; LANES], words: &[u32; LANES], x: u32, mask: u32) {
    for (j, x) in x.to_le_bytes().into_iter().enumerate() {
        for lane in 0..LANES {
            let q = words[lane] >> (8 * j + SHIFT) & mask;
            sums[lane] += q as i32 * i32::from(x as i8);
        }
    }
}

/// `a * b + c`, rounded once if the processor can.
#[inline(always)]
fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}
