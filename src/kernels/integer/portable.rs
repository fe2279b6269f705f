//! Products in integers for any processor: loops over 16 rows of the matrix, which the compiler makes
//! vectors of.

use super::input::{Form, Rounded, UNIT, round};
use super::{Job, LANES, Task, Words};
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

fn rows(task: Task) {
    const FMA: bool = cfg!(target_arch = "aarch64");
    let Task { job, row, count, groups, words } = task;
    read_groups(job, row, count, groups);
    let words = lanes(job, row, count, words);
    for m in 0..job.inputs {
        let y = match job.w.bits {
            4 => row_of::<true, FMA>(job, m, groups, words),
            _ => row_of::<false, FMA>(job, m, groups, words),
        };
        job.set(m, row, &y[..count]);
    }
}

/// A group's scales of all lanes, then its biases. At the matrix's edge the last row is in several lanes.
#[inline(always)]
pub(super) fn read_groups(job: &Job, row: usize, count: usize, out: &mut [f32]) {
    let groups = job.w.columns / job.w.group;
    if job.w.interleaved {
        let (scales, _) = out.as_chunks_mut::<LANES>().0.as_chunks_mut();
        for (group, [scales, biases]) in scales.iter_mut().take(groups).enumerate() {
            job.scales.read(row * groups + group * LANES, scales);
            job.biases.read(row * groups + group * LANES, biases);
        }
        return;
    }
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

/// The words of all lanes: as they are if eight columns or four are in each, else four.
#[inline(always)]
pub(super) fn lanes<'a>(job: &'a Job, row: usize, count: usize, room: &'a mut [u32]) -> &'a [Words] {
    if job.w.interleaved {
        return job.w.stripe(row).as_chunks().0;
    }
    match job.w.bits {
        2 => unpack::<2>(job, row, count, room),
        3 => unpack::<3>(job, row, count, room),
        5 => unpack::<5>(job, row, count, room),
        6 => unpack::<6>(job, row, count, room),
        _ => transpose(job, row, count, room),
    }
    room.as_chunks().0
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

/// The results of all lanes for input row `m`. `NIBBLES`: a word holds eight columns, else four.
fn row_of<const NIBBLES: bool, const FMA: bool>(
    job: &Job,
    m: usize,
    groups: &[f32],
    words: &[Words],
) -> [f32; LANES] {
    let block = job.x.block;
    let blocks = job.w.columns / block;
    let (x, _) = job.x.words[m * job.w.columns / 4..][..job.w.columns / 4].as_chunks::<{ UNIT / 4 }>();
    let scales = &job.x.scales[m * blocks..][..blocks];
    let groups = groups.as_chunks::<LANES>().0;
    let mut y = [0.0; LANES];
    for (index, x) in x.chunks_exact(block / UNIT).enumerate() {
        let mut sums = [0; LANES];
        for (unit, x) in x.iter().enumerate() {
            let steps = if NIBBLES { 4 } else { 8 };
            let words = &words[(index * block / UNIT + unit) * steps..][..steps];
            if NIBBLES {
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
