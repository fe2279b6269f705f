//! Products in float32: every weight is dequantised to `q * scale + bias`, rounded once, and a result is
//! the sum of [`LANES`] partial sums, lane after lane of the columns. All instruction sets add in this
//! order, so they agree bit for bit (where the processor has no FMA, to a rounding).

#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use super::affine::{Affine, Dense};
use super::isa::Isa;
use super::output::Output;
use super::threads;

/// Partial sums of one result.
const LANES: usize = 16;
/// Columns that are unpacked together: the smallest group.
const UNIT: usize = 32;
/// Rows of the matrix that one task unpacks at once: they stay in a core's cache.
const BLOCK: usize = 16;

/// `x @ w.T` with `x` `[m, columns]`, `y` `[m, rows]`.
pub(super) fn matmul(isa: Isa, w: &Affine, x: &[f32], y: &mut [f32]) {
    let order = order(w.bits);
    let ordered: Vec<f32>;
    let x = if order.iter().enumerate().all(|(i, &j)| i == j) {
        x
    } else {
        ordered = x.chunks_exact(UNIT).flat_map(|unit| order.map(|j| unit[j])).collect();
        &ordered
    };
    let inputs = x.len() / w.columns;
    let job = Job { w: Matrix::Affine(w), rows: w.rows, columns: w.columns, x, inputs, y: Output::new(y) };
    job.run(isa, w.columns * w.bits / 8);
}

/// The same with a matrix of floats.
pub(super) fn dense_matmul(isa: Isa, w: &Dense, x: &[f32], y: &mut [f32]) {
    let columns = w.columns.next_multiple_of(LANES);
    let padded: Vec<f32>;
    let inputs = x.len() / w.columns;
    let x = if columns == w.columns {
        x
    } else {
        let zeros = std::iter::repeat_n(0.0, columns - w.columns);
        padded = x.chunks_exact(w.columns).flat_map(|x| x.iter().copied().chain(zeros.clone())).collect();
        &padded
    };
    let job = Job { w: Matrix::Dense(w), rows: w.rows, columns, x, inputs, y: Output::new(y) };
    job.run(isa, w.columns * w.values.bytes());
}

/// Which column of a unit each lane holds, 16 for the first step and 16 for the second. 4-bit words are
/// unpacked by shifting each of four copies by its own distance; the other widths keep the columns' order.
fn order(bits: usize) -> [usize; UNIT] {
    std::array::from_fn(|i| {
        let (step, lane) = (i / LANES, i % LANES);
        if bits == 4 { lane % 4 * 8 + lane / 4 * 2 + step } else { i }
    })
}

#[derive(Clone, Copy)]
enum Matrix<'a> {
    Affine(&'a Affine<'a>),
    Dense(&'a Dense<'a>),
}

/// In place of a quantised matrix's bits: a dense one.
const DENSE: usize = 0;

struct Job<'a> {
    w: Matrix<'a>,
    rows: usize,
    /// Of a dense matrix, with zeros behind them up to a multiple of [`LANES`].
    columns: usize,
    /// In the order of [`order`].
    x: &'a [f32],
    /// Rows of `x`.
    inputs: usize,
    y: Output<'a>,
}

impl Job<'_> {
    fn run(&self, isa: Isa, row_bytes: usize) {
        // A task reads 64 KiB of weights or so: enough to be worth handing out.
        let rows = ((64 << 10) / row_bytes).next_multiple_of(BLOCK);
        threads::for_each(self.rows.div_ceil(rows), |task| {
            let end = (task * rows + rows).min(self.rows);
            threads::with_scratch(self.columns * (BLOCK + 2), 0, |scratch, _| {
                let blocks = (task * rows..end).step_by(BLOCK);
                blocks.for_each(|row| self.block(isa, row, BLOCK.min(end - row), scratch));
            });
        });
    }

    /// Writes the result of input row `m` and matrix row `row`, which is one of the task's.
    #[inline(always)]
    fn set(&self, m: usize, row: usize, value: f32) {
        // SAFETY: every row of the matrix belongs to one task.
        unsafe { self.y.write(m * self.rows + row, &[value]) };
    }

    /// Rows `row..row + count` of the matrix, at most [`BLOCK`], with all of `x`. `scratch` has room for
    /// them unpacked and two rows more.
    fn block(&self, isa: Isa, row: usize, count: usize, scratch: &mut [f32]) {
        let bits = match self.w {
            Matrix::Affine(w) => w.bits,
            Matrix::Dense(_) => DENSE,
        };
        match bits {
            DENSE => self.block_of::<DENSE>(isa, row, count, scratch),
            2 => self.block_of::<2>(isa, row, count, scratch),
            3 => self.block_of::<3>(isa, row, count, scratch),
            4 => self.block_of::<4>(isa, row, count, scratch),
            5 => self.block_of::<5>(isa, row, count, scratch),
            6 => self.block_of::<6>(isa, row, count, scratch),
            _ => self.block_of::<8>(isa, row, count, scratch),
        }
    }

    fn block_of<const BITS: usize>(&self, isa: Isa, row: usize, count: usize, scratch: &mut [f32]) {
        match isa {
            // SAFETY: the processor has it.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Vnni => unsafe { avx512::block::<BITS>(self, row, count, scratch) },
            // SAFETY: the processor has it.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { portable::block_avx2::<BITS>(self, row, count, scratch) },
            _ => portable::block::<BITS>(self, row, count, scratch),
        }
    }
}

/// The sum of the lanes, halves added to halves.
#[inline(always)]
fn sum(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}
