//! Products in float32: every weight is dequantised (an integer to `q * scale + bias`, rounded once), and a result is
//! the sum of [`LANES`] partial sums, lane after lane of the columns. All instruction sets add in this
//! order, so they agree bit for bit (where the processor has no FMA, to a rounding).

#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use super::interleave;
use super::isa::{Isa, sum};
use super::matrix::{Matrix, Values};
use super::output::Output;
use super::threads::{Tasks, with_scratch};
use std::borrow::Cow;

/// Partial sums of one result.
const LANES: usize = 16;
/// Columns that are unpacked together: the smallest group.
const UNIT: usize = 32;
/// Rows of the matrix that one task unpacks at once: they stay in a core's cache.
const BLOCK: usize = 16;

/// `x @ w.T` with `x` `[m, columns]`, `y` `[m, rows]`.
pub(super) fn tasks<'a>(isa: Isa, w: Matrix<'a>, x: &'a [f32], y: &'a mut [f32]) -> Tasks<'a> {
    let job = match w {
        Matrix::Packed(packed) => {
            let order = order(packed.bits);
            let ordered: Cow<[f32]> = if order.iter().enumerate().all(|(i, &j)| i == j) {
                x.into()
            } else {
                x.chunks_exact(UNIT).flat_map(|unit| order.map(|j| unit[j])).collect()
            };
            let (rows, columns) = (packed.rows, packed.columns);
            Job { w, rows, columns, first: 0, x: ordered, inputs: x.len() / columns, y: Output::new(y) }
        }
        Matrix::Dense(dense) => {
            let columns = dense.columns.next_multiple_of(LANES);
            let padded: Cow<[f32]> = if columns == dense.columns {
                x.into()
            } else {
                let zeros = std::iter::repeat_n(0.0, columns - dense.columns);
                x.chunks_exact(dense.columns).flat_map(|x| x.iter().copied().chain(zeros.clone())).collect()
            };
            let inputs = x.len() / dense.columns;
            Job { w, rows: dense.rows, columns, first: 0, x: padded, inputs, y: Output::new(y) }
        }
    };
    job.tasks(isa)
}

/// Which column of a unit each lane holds, 16 for the first step and 16 for the second. 4-bit words are
/// unpacked by shifting each of four copies by its own distance; the other widths keep the columns' order.
fn order(bits: usize) -> [usize; UNIT] {
    std::array::from_fn(|i| {
        let (step, lane) = (i / LANES, i % LANES);
        if bits == 4 { lane % 4 * 8 + lane / 4 * 2 + step } else { i }
    })
}

/// Kinds of packed values, for functions that are compiled for each.
const INTEGERS: u8 = 0;
const E2M1: u8 = 1;
const E4M3: u8 = 2;
/// In place of a quantised matrix's bits: a dense one.
const DENSE: usize = 0;

/// An expression with the kind and the bits of a packed matrix's values as constants.
macro_rules! for_format {
    ($w:expr, |$kind:ident, $bits:ident| $result:expr) => {
        match ($w.values, $w.bits) {
            (Values::Mxfp4 { .. } | Values::Nvfp4 { .. }, _) => for_format!(@E2M1, 4, $kind, $bits, $result),
            (Values::Mxfp8 { .. }, _) => for_format!(@E4M3, 8, $kind, $bits, $result),
            (_, 2) => for_format!(@INTEGERS, 2, $kind, $bits, $result),
            (_, 3) => for_format!(@INTEGERS, 3, $kind, $bits, $result),
            (_, 4) => for_format!(@INTEGERS, 4, $kind, $bits, $result),
            (_, 5) => for_format!(@INTEGERS, 5, $kind, $bits, $result),
            (_, 6) => for_format!(@INTEGERS, 6, $kind, $bits, $result),
            _ => for_format!(@INTEGERS, 8, $kind, $bits, $result),
        }
    };
    (@$values:ident, $count:literal, $kind:ident, $bits:ident, $result:expr) => {{
        const $kind: u8 = $values;
        const $bits: usize = $count;
        $result
    }};
}

/// Writes row `row` of `w` to `out`, rounded as MLX does: an integer's product first, then the sum.
pub(super) fn unpack(w: &Matrix, row: usize, out: &mut [f32]) {
    match w {
        Matrix::Dense(w) => w.values.read(row * w.columns, out),
        Matrix::Packed(w) if w.interleaved => {
            interleave::with_row(w, row, |w| unpack(&Matrix::Packed(*w), 0, out));
        }
        Matrix::Packed(w) => with_scratch(2 * w.columns / w.span(), 0, |room, _| {
            let order = std::array::from_fn(|i| i);
            for_format!(w, |KIND, BITS| portable::unpack_packed::<KIND, BITS, false>(
                w, row, &order, room, out
            ))
        }),
    }
}

struct Job<'a> {
    w: Matrix<'a>,
    /// Of the result.
    rows: usize,
    /// Which of them the matrix begins with.
    first: usize,
    /// Of a dense matrix, with zeros behind them up to a multiple of [`LANES`].
    columns: usize,
    /// In the order of [`order`].
    x: Cow<'a, [f32]>,
    /// Rows of `x`.
    inputs: usize,
    y: Output<'a>,
}

impl<'a> Job<'a> {
    fn tasks(self, isa: Isa) -> Tasks<'a> {
        let row_bytes = match self.w {
            Matrix::Packed(w) => w.columns * w.bits / 8,
            Matrix::Dense(w) => w.columns * w.values.bytes(),
        };
        // A task reads 64 KiB of weights or so: enough to be worth handing out.
        let rows = ((64 << 10) / row_bytes).next_multiple_of(BLOCK).max(BLOCK);
        Tasks::new(self.rows.div_ceil(rows), move |task| {
            let end = (task * rows + rows).min(self.rows);
            with_scratch(self.columns * (BLOCK + 2), 0, |scratch, _| {
                let blocks = (task * rows..end).step_by(BLOCK);
                blocks.for_each(|row| self.block(isa, row, BLOCK.min(end - row), scratch));
            });
        })
    }

    /// Writes the result of input row `m` and matrix row `row`, which is one of the task's.
    #[inline(always)]
    fn set(&self, m: usize, row: usize, value: f32) {
        // SAFETY: every row of the matrix belongs to one task.
        unsafe { self.y.write(m * self.rows + self.first + row, &[value]) };
    }

    /// Rows `row..row + count` of the matrix, at most [`BLOCK`], with all of `x`. `scratch` has room for
    /// them unpacked and two rows more.
    fn block(&self, isa: Isa, row: usize, count: usize, scratch: &mut [f32]) {
        match self.w {
            Matrix::Dense(_) => self.block_of::<INTEGERS, DENSE>(isa, row, count, scratch),
            Matrix::Packed(w) if w.interleaved => {
                interleave::with_stripe(&w, row, |w| {
                    let x = Cow::Borrowed(&*self.x);
                    let job = Job { w: Matrix::Packed(*w), first: row, x, ..*self };
                    job.block(isa, 0, count, scratch);
                });
            }
            Matrix::Packed(w) => {
                for_format!(w, |KIND, BITS| self.block_of::<KIND, BITS>(isa, row, count, scratch))
            }
        }
    }

    fn block_of<const KIND: u8, const BITS: usize>(
        &self,
        isa: Isa,
        row: usize,
        count: usize,
        scratch: &mut [f32],
    ) {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Vnni | Isa::Amx => {
                // SAFETY: the processor has it.
                unsafe { avx512::block::<KIND, BITS>(self, row, count, scratch) }
            }
            // SAFETY: the processor has it.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::AvxVnni => unsafe {
                portable::block_avx2::<KIND, BITS>(self, row, count, scratch)
            },
            _ => portable::block::<KIND, BITS>(self, row, count, scratch),
        }
    }
}
