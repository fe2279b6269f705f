//! Products in integers. Every block of columns of an input row is rounded to 8-bit integers with a scale of its own, as llama.cpp's Q8_0 does, and multiplied with the matrix's integers:
//!
//! ```text
//! y = sum over blocks of (q . p) * (scale_w * scale_x) + bias_w * sum(p) * scale_x
//! ```
//!
//! The sums over a block are exact and the blocks are added in their order, so all instruction sets agree
//! bit for bit (where the processor has no FMA, to a rounding).

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_few;
#[cfg(target_arch = "x86_64")]
mod avx512_lanes;
mod input;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

use super::input::X;
use super::isa::Isa;
use super::matrix::{Floats, Packed};
use super::output::Output;
use super::threads::{Tasks, with_scratch};
pub(super) use input::{Form, Rounded};
use std::sync::Arc;

/// Rows of the matrix that are computed together, one in each lane.
pub(super) const LANES: usize = 16;

/// A word of each lane.
type Words = [u32; LANES];

impl Form {
    fn of(w: &Packed) -> Self {
        // Of few bits the matrix's own rounding is the larger error, whatever the input's.
        let block = if w.bits > 4 { 32 } else { 64 };
        Form { columns: w.columns, block: w.group.min(block), paired: w.bits == 4 }
    }
}

/// `x @ w.T` with `x` `[m, columns]`, `y` `[m, rows]`; `w` holds integers with these scales and biases.
pub(super) fn tasks<'a>(
    isa: Isa,
    w: Packed<'a>,
    [scales, biases]: [Floats<'a>; 2],
    x: &X,
    y: &'a mut [f32],
) -> Tasks<'a> {
    let inputs = x.len() / w.columns;
    let y = Output::new(y);
    let job = move |x| Job { w, scales, biases, x, inputs, y };
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni | Isa::Amx if avx512_lanes::takes(&w, inputs) => avx512_lanes::tasks(&w, x, job),
        #[cfg(target_arch = "x86_64")]
        Isa::Amx if amx::takes(inputs) => amx::tasks(&w, x, job),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni | Isa::Amx if avx512_few::takes(&w, inputs) => avx512_few::tasks(&w, x, job),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni | Isa::Amx => avx512::tasks(&w, x, job),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::AvxVnni | Isa::Avx512 => avx2::tasks(isa == Isa::AvxVnni, &w, x, job),
        #[cfg(target_arch = "aarch64")]
        Isa::Dotprod => neon::tasks(&w, x, job),
        _ => portable::tasks(&w, x, job),
    }
}

struct Job<'a> {
    w: Packed<'a>,
    scales: Floats<'a>,
    biases: Floats<'a>,
    x: Arc<Rounded>,
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
        Tasks::new(w.rows.div_ceil(rows), move |task| {
            let end = (task * rows + rows).min(w.rows);
            with_scratch(self.group_room(), self.word_room(), |groups, words| {
                for row in (task * rows..end).step_by(LANES) {
                    rows_of(Task { job: &self, row, count: LANES.min(end - row), groups, words });
                }
            });
        })
    }

    /// Floats that a [`Task`]'s groups need.
    fn group_room(&self) -> usize {
        2 * LANES * (self.w.columns / self.w.group)
    }

    /// Words that a [`Task`]'s words need.
    fn word_room(&self) -> usize {
        LANES * (self.w.columns / 4 + LANES)
    }

    /// Writes the results of input row `m` and of the task's matrix rows from `row` on.
    #[inline(always)]
    fn set(&self, m: usize, row: usize, values: &[f32]) {
        // SAFETY: every row of the matrix belongs to one task.
        unsafe { self.y.write(m * self.w.rows + row, values) };
    }
}
