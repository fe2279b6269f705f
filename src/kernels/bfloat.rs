//! Products of bfloat16 matrices with AMX. The input is split into two bfloat16 numbers whose sum has twice their
//! precision, 16 bits, and both are multiplied; sums are float32. Every 32 columns are added in one instruction, so
//! a result does not depend on how many there are beside it.

#![allow(clippy::needless_range_loop)] // the compiler does not inline these functions into closures

use super::amx::Tiles;
use super::input::X;
use super::isa::Isa;
use super::lines::Words;
use super::matrix::{Dense, Floats};
use super::output::Output;
use super::threads::{Tasks, for_each, with_scratch};
use half::bf16;
use parking_lot::Mutex;
use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::Arc;

/// Rows of a tile, and numbers in a row of the sums'.
const TILE: usize = 16;
/// Columns that are multiplied in one instruction.
const CHUNK: usize = 32;
/// Rows of the matrix that are multiplied at once: two tiles.
const ROWS: usize = 2 * TILE;
/// Tiles of the input whose words stay in the second-level cache while the matrix's rows go by.
const GROUP: usize = 4;
/// Rows of the matrix in a task: their results are written together, because each input row's lie far from the next's.
const MOST_ROWS: usize = 4 * ROWS;
/// How many columns ahead memory is asked for where there are few rows of the input: the processor does not foresee so
/// many rows of a matrix.
const AHEAD: usize = 8 * CHUNK;

/// Rows of an input in two parts.
pub(super) struct Split {
    /// Tile after tile, and of each chunk after chunk, first the high parts and then the low ones: of each pair of
    /// columns those of all rows.
    words: Words,
    /// Rows in a tile: [`TILE`], with zeros behind the last row, or as many as there are.
    width: usize,
    tiles: usize,
    chunks: usize,
}

/// The matrix's values, if there is such a product.
pub(super) fn values<'a>(isa: Isa, w: &Dense<'a>) -> Option<&'a [bf16]> {
    match w.values {
        Floats::BF16(values) if isa == Isa::Amx && w.columns.is_multiple_of(CHUNK) && w.rows >= ROWS => {
            Some(values)
        }
        _ => None,
    }
}

/// `x @ w.T` with `x` `[m, columns]`, `y` `[m, rows]`, of `w`'s [`values`].
pub(super) fn tasks<'a>(values: &'a [bf16], columns: usize, x: &X, y: &'a mut [f32]) -> Tasks<'a> {
    let rows = values.len() / columns;
    let inputs = x.len() / columns;
    let x = x.split(|x| split(x, columns));
    let job = Job { values, rows, columns, x, inputs, y: Output::new(y) };
    // Many rows of the input are worth staying with some rows of the matrix.
    let each = if job.x.tiles > 1 { MOST_ROWS } else { ROWS };
    Tasks::new(rows.div_ceil(each), move |task| {
        let end = (task * each + each).min(job.rows);
        with_scratch(GROUP * TILE * MOST_ROWS, 0, |results, _| {
            // SAFETY: the caller of this function has seen that the processor has it.
            unsafe { job.rows(task * each, end, results.as_chunks_mut().0) };
        });
    })
}

/// Four tiles' sums.
#[repr(align(64))]
struct Sums([[[f32; TILE]; TILE]; 4]);

struct Job<'a> {
    values: &'a [bf16],
    rows: usize,
    columns: usize,
    x: Arc<Split>,
    inputs: usize,
    y: Output<'a>,
}

fn split(x: &[f32], columns: usize) -> Split {
    let inputs = x.len() / columns;
    let width = inputs.min(TILE);
    let (tiles, chunks) = (inputs.div_ceil(width), columns / CHUNK);
    let each = chunks * 2 * CHUNK / 2 * width;
    let mut words = Words::room(tiles * each);
    if tiles * width > inputs {
        words[(tiles - 1) * each..].fill(0);
    }
    let parts: Vec<_> = x.chunks(width * columns).zip(words.chunks_exact_mut(each)).map(Mutex::new).collect();
    for_each(parts.len(), |part| {
        let (x, words) = &mut *parts[part].lock();
        for (m, x) in x.chunks_exact(columns).enumerate() {
            // SAFETY: whoever asks for these products has seen that the processor has it.
            unsafe { split_row(x, &mut words[m..], width) };
        }
    });
    Split { words, width, tiles, chunks }
}

#[target_feature(enable = "avx2")]
fn split_row(x: &[f32], words: &mut [u32], width: usize) {
    for (chunk, x) in x.as_chunks::<CHUNK>().0.iter().enumerate() {
        let words = &mut words[chunk * CHUNK * width..];
        for (pair, x) in x.as_chunks::<2>().0.iter().enumerate() {
            let high = x.map(round);
            let low = [0, 1].map(|i| round(x[i] - f32::from_bits(high[i] << 16)));
            words[pair * width] = high[0] | high[1] << 16;
            words[(CHUNK / 2 + pair) * width] = low[0] | low[1] << 16;
        }
    }
}

/// The nearest bfloat16's bits, of two the even one; what is not finite stays so.
#[inline(always)]
fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    if bits & 0x7f80_0000 == 0x7f80_0000 {
        return bits >> 16 | u32::from(bits & 0x007f_ffff != 0) << 6;
    }
    (bits + 0x7fff + (bits >> 16 & 1)) >> 16
}

impl Job<'_> {
    /// Rows `start..end` of the matrix with all of the input. `results` has room for a [`GROUP`] of tiles.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn rows(&self, start: usize, end: usize, results: &mut [[f32; MOST_ROWS]]) {
        let Split { width, tiles, .. } = *self.x;
        // Four of sums, two of the matrix, two of the input.
        let (sums, matrix) = ([TILE, 4 * width], [TILE, 2 * CHUNK]);
        let _tiles = Tiles::new([sums, sums, sums, sums, matrix, matrix, sums, sums]);
        for group in (0..tiles).step_by(GROUP) {
            let last = (group + GROUP).min(tiles);
            for row in (start..end).step_by(ROWS) {
                for tile in (group..last).step_by(2) {
                    // At the edge the last rows are computed again.
                    let first = row.min(self.rows - ROWS);
                    let mut sums = Sums([[[0.0; TILE]; TILE]; 4]);
                    if tile + 1 < last {
                        self.block::<2>(first, tile, &mut sums);
                    } else {
                        self.block::<1>(first, tile, &mut sums);
                    }
                    for (half, sums) in sums.0.iter().enumerate() {
                        let results = &mut results[(tile - group + half / 2) * width..];
                        // Computed already what lies before `start`.
                        for (r, sums) in sums.iter().enumerate() {
                            if let Some(at) = (first + half % 2 * TILE + r).checked_sub(start) {
                                results.iter_mut().zip(&sums[..width]).for_each(|(out, sum)| out[at] = *sum);
                            }
                        }
                        if tile + 1 == last && half == 1 {
                            break;
                        }
                    }
                }
            }
            for m in group * width..self.inputs.min(last * width) {
                let results = &results[m - group * width][..end - start];
                // SAFETY: every row of the matrix belongs to one task.
                unsafe { self.y.write(m * self.rows + start, results) };
            }
        }
    }

    /// The sums of [`ROWS`] rows and of `T` tiles of the input, which begin with `row` and `tile`: of the first tile
    /// those of the first half of the rows, then of the second, then the next tile's; of each row those of all
    /// inputs.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn block<const T: usize>(&self, row: usize, tile: usize, Sums(sums): &mut Sums) {
        let Split { width, chunks, .. } = *self.x;
        let each = 2 * CHUNK / 2 * width;
        let values = &self.values[row * self.columns..][..ROWS * self.columns];
        let x = &self.x.words[tile * chunks * each..][..T * chunks * each];
        let stride = 2 * self.columns;
        let line = 4 * width;
        // SAFETY: the tiles, which `rows` has shaped, are read from the slices and written to `sums`.
        unsafe {
            asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, options(nostack, nomem));
            for chunk in 0..chunks {
                let w = values.as_ptr().add(chunk * CHUNK);
                if T == 1 {
                    for row in 0..ROWS {
                        _mm_prefetch::<_MM_HINT_T1>(w.wrapping_add(row * self.columns + AHEAD).cast());
                    }
                }
                let x = x.as_ptr().add(chunk * each);
                asm!(
                    "tileloadd tmm4, [{w} + {stride}]",
                    "tileloadd tmm6, [{x} + {line}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm5, [{v} + {stride}]",
                    "tdpbf16ps tmm1, tmm5, tmm6",
                    "tileloadd tmm7, [{z} + {line}]",
                    "tdpbf16ps tmm0, tmm4, tmm7",
                    "tdpbf16ps tmm1, tmm5, tmm7",
                    w = in(reg) w,
                    v = in(reg) w.add(TILE * self.columns),
                    x = in(reg) x,
                    z = in(reg) x.add(each / 2),
                    stride = in(reg) stride,
                    line = in(reg) line,
                    out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack, readonly, preserves_flags),
                );
                if T == 2 {
                    let x = x.add(chunks * each);
                    asm!(
                        "tileloadd tmm6, [{x} + {line}]",
                        "tdpbf16ps tmm2, tmm4, tmm6",
                        "tdpbf16ps tmm3, tmm5, tmm6",
                        "tileloadd tmm7, [{z} + {line}]",
                        "tdpbf16ps tmm2, tmm4, tmm7",
                        "tdpbf16ps tmm3, tmm5, tmm7",
                        x = in(reg) x,
                        z = in(reg) x.add(each / 2),
                        line = in(reg) line,
                        out("tmm2") _, out("tmm3") _, out("tmm6") _, out("tmm7") _,
                        options(nostack, readonly, preserves_flags),
                    );
                }
            }
            asm!(
                "tilestored [{a} + {line}], tmm0",
                "tilestored [{b} + {line}], tmm1",
                "tilestored [{c} + {line}], tmm2",
                "tilestored [{d} + {line}], tmm3",
                a = in(reg) sums[0].as_mut_ptr(),
                b = in(reg) sums[1].as_mut_ptr(),
                c = in(reg) sums[2].as_mut_ptr(),
                d = in(reg) sums[3].as_mut_ptr(),
                line = in(reg) 4 * TILE,
                options(nostack, preserves_flags),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::tests::{normal, relative_error};
    use crate::kernels::threads::run_all;
    use crate::mlx::{Array, Device, ops, use_device};
    use rand::SeedableRng;
    use rand_pcg::Pcg64;

    fn product(w: &[bf16], columns: usize, x: &[f32]) -> Vec<f32> {
        let mut y = vec![f32::NAN; x.len() / columns * (w.len() / columns)];
        run_all(&[tasks(w, columns, &x.into(), &mut y)]);
        y
    }

    #[test]
    fn bfloat16_products_are_mlxs() {
        if !Isa::available().contains(&Isa::Amx) {
            return println!("skipped: kernels::bfloat: this processor has no AMX");
        }
        use_device(Device::Cpu).unwrap();
        let mut rng = Pcg64::seed_from_u64(31);
        for [m, rows, columns] in [
            [1, 32, 32],
            [2, 37, 64],
            [5, 64, 480],
            [16, 33, 96],
            [17, 200, 128],
            [33, 90, 64],
            [150, 300, 96],
        ] {
            let x: Vec<f32> = (0..m * columns).map(|_| normal(&mut rng)).collect();
            let w: Vec<bf16> = (0..rows * columns).map(|_| bf16::from_f32(normal(&mut rng))).collect();
            let wide: Vec<f32> = w.iter().map(|w| w.to_f32()).collect();
            let stored = Array::from_f32(&wide, &[rows as i32, columns as i32]).unwrap();
            let input = Array::from_f32(&x, &[m as i32, columns as i32]).unwrap();
            let expected = ops::matmul(&input, &ops::transpose(&stored, &[1, 0]).unwrap()).unwrap();
            let ours = product(&w, columns, &x);
            let error = relative_error(&ours, &expected.to_vec_f32().unwrap());
            assert!(error < 1e-5, "{m} x {rows} x {columns}: {error}");
            // A row depends on itself alone.
            for row in [0, m / 2, m - 1] {
                let alone = product(&w, columns, &x[row * columns..][..columns]);
                assert!(alone == ours[row * rows..][..rows], "{m} x {rows} x {columns}: {row}");
            }
            let mut broken = x.clone();
            broken[m / 2 * columns + 17] = f32::INFINITY;
            let broken = product(&w, columns, &broken);
            assert!(broken[m / 2 * rows..][..rows].iter().all(|y| !y.is_finite()));
        }
    }

    #[test]
    fn numbers_are_rounded_to_the_nearest() {
        for bits in (0..u32::MAX).step_by(997) {
            let x = f32::from_bits(bits);
            let (ours, theirs) = (bf16::from_bits(round(x) as u16), bf16::from_f32(x));
            assert!(ours == theirs || x.is_nan() && ours.is_nan(), "{x}: {ours}, {theirs}");
        }
    }
}
