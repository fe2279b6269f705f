//! Products in integers. Every [`BLOCK`] columns of an input row are rounded to 8-bit integers with a
//! scale of their own, as llama.cpp's Q8_0 does, and multiplied with the matrix's integers:
//!
//! ```text
//! y = sum over blocks of (q . p) * (scale_w * scale_x) + bias_w * sum(p) * scale_x
//! ```
//!
//! The sums over a block are exact and the blocks are added in their order, so all instruction sets agree
//! bit for bit (where the processor has no FMA, to a rounding).

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_few;
mod input;
mod portable;

use super::isa::Isa;
use super::matrix::{Floats, Packed};
use super::output::Output;
use super::threads::{Tasks, with_scratch};
use input::Rounded;

/// Columns of the input that share a scale: the smallest group of a matrix.
const BLOCK: usize = 32;
/// Rows of the matrix that are computed together, one in each lane.
const LANES: usize = 16;

/// `x @ w.T` with `x` `[m, columns]`, `y` `[m, rows]`; `w` holds integers with these scales and biases.
pub(super) fn tasks<'a>(
    isa: Isa,
    w: Packed<'a>,
    [scales, biases]: [Floats<'a>; 2],
    x: &[f32],
    y: &'a mut [f32],
) -> Tasks<'a> {
    let inputs = x.len() / w.columns;
    let y = Output::new(y);
    let job = move |x| Job { w, scales, biases, x, inputs, y };
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni if avx512_few::takes(&w, inputs) => avx512_few::tasks(&w, x, job),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => avx512::tasks(&w, x, job),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512 => portable::tasks_avx2(&w, x, job),
        _ => portable::tasks(&w, x, job),
    }
}

struct Job<'a> {
    w: Packed<'a>,
    scales: Floats<'a>,
    biases: Floats<'a>,
    x: Rounded,
    /// Rows of the input.
    inputs: usize,
    y: Output<'a>,
}

/// Rows `row..row + count` of the matrix, at most [`LANES`], to be multiplied with all of the input.
struct Task<'a> {
    job: &'a Job<'a>,
    row: usize,
    count: usize,
    /// Room for a scale and a bias of every lane and group.
    groups: &'a mut [f32],
    /// Room for the lanes' words: four columns in each at least.
    words: &'a mut [u32],
}

impl<'a> Job<'a> {
    /// All rows of the matrix.
    fn tasks(self, rows_of: impl Fn(Task) + Sync + 'a) -> Tasks<'a> {
        let w = self.w;
        // A thread takes 64 KiB of weights or so: enough to be worth handing out.
        let rows = ((64 << 10) / (w.columns * w.bits / 8)).next_multiple_of(LANES).max(LANES);
        let groups = 2 * LANES * (w.columns / w.group);
        Tasks::new(w.rows.div_ceil(rows), move |task| {
            let end = (task * rows + rows).min(w.rows);
            with_scratch(groups, LANES * (w.columns / 4 + LANES), |groups, words| {
                for row in (task * rows..end).step_by(LANES) {
                    rows_of(Task { job: &self, row, count: LANES.min(end - row), groups, words });
                }
            });
        })
    }

    /// Writes the results of input row `m` and of the task's matrix rows from `row` on.
    #[inline(always)]
    fn set(&self, m: usize, row: usize, values: &[f32]) {
        // SAFETY: every row of the matrix belongs to one task.
        unsafe { self.y.write(m * self.w.rows + row, values) };
    }
}
