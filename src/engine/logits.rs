//! What a step has to show for itself: the logits of the rows that somebody wants, or just the best token
//! where that is all that counts, which a GPU finds without sending hundreds of kilobytes for each.

use crate::error::Result;
use crate::mlx::{Array, Dtype, ops};
use std::time::{Duration, Instant};

/// A row of the packed tokens whose logits somebody wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub row: i32,
    /// The most likely token and its probability are enough.
    pub best_only: bool,
}

/// The logits behind one row.
pub(super) enum Row<'a> {
    /// The most likely token and the logarithm of its probability.
    Best(i32, f32),
    /// All.
    All(&'a mut [f32]),
}

/// The logits of a step, in the order in which they were wanted.
#[derive(Default)]
pub(super) struct Logits {
    /// Token and logarithm, one pair behind the other.
    best: Vec<f32>,
    /// One row behind the other.
    all: Vec<f32>,
}

impl Logits {
    /// Computes `logits` `[1, wanted, vocabulary]`; the time that takes is added to `evaluated`.
    pub fn read(logits: &Array, wanted: &[Wanted], evaluated: &mut Duration) -> Result<Self> {
        // In one go: each evaluation has the engine thread and MLX's wait for each other.
        if wanted.iter().all(|wanted| !wanted.best_only) {
            return Ok(Logits { best: vec![], all: timed(evaluated, || logits.to_vec_f32())? });
        }
        let logits = ops::astype(&ops::squeeze(logits, 0)?, Dtype::F32)?;
        let rows = |best_only: bool| {
            let rows = (0..).zip(wanted).filter(|(_, wanted)| wanted.best_only == best_only);
            let rows: Vec<i32> = rows.map(|(row, _)| row).collect();
            match rows.len() == wanted.len() {
                true => Ok(logits.clone()),
                false => ops::take(&logits, &Array::from_i32(&rows, &[rows.len() as i32])?),
            }
        };
        let of = rows(true)?;
        let count = of.dim(0) as usize;
        // Ids are whole numbers below 2^24, which floats are exact for.
        let ids = ops::astype(&ops::argmax(&of, -1)?, Dtype::F32)?;
        let logprobs = ops::subtract(&ops::max(&of, -1)?, &ops::log_sum_exp(&of, -1)?)?;
        let pairs = ops::flatten(&ops::stack(&[&ids, &logprobs], 1)?, 0, 1)?;
        if count == wanted.len() {
            return Ok(Logits { best: timed(evaluated, || pairs.to_vec_f32())?, all: vec![] });
        }
        let both = ops::concatenate(&[&pairs, &ops::flatten(&rows(false)?, 0, 1)?], 0)?;
        let mut best = timed(evaluated, || both.to_vec_f32())?;
        let all = best.split_off(2 * count);
        Ok(Logits { best, all })
    }

    /// Row by row.
    pub fn rows(&mut self, wanted: &[Wanted], vocabulary: usize) -> impl Iterator<Item = Row<'_>> {
        let mut best = self.best.chunks_exact(2);
        let mut all = self.all.chunks_exact_mut(vocabulary);
        wanted.iter().map_while(move |wanted| match wanted.best_only {
            true => best.next().map(|pair| Row::Best(pair[0] as i32, pair[1])),
            false => all.next().map(Row::All),
        })
    }
}

/// Runs what evaluates, and adds the time that it takes.
pub(super) fn timed<T>(time: &mut Duration, run: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = run();
    *time += started.elapsed();
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mlx::{Device, use_device};

    #[test]
    fn everybody_gets_what_was_wanted() {
        use_device(Device::Cpu).unwrap();
        let numbers = [0.0, 2.0, 1.0, 5.0, -1.0, 5.0, 1.0, 1.0, 3.0];
        let logits = Array::from_f32(&numbers, &[1, 3, 3]).unwrap();
        for pattern in [[false; 3], [true; 3], [true, false, true], [false, true, false]] {
            let wanted: Vec<Wanted> = pattern.iter().map(|&best_only| Wanted { row: 0, best_only }).collect();
            let mut read = Logits::read(&logits, &wanted, &mut Duration::default()).unwrap();
            let rows: Vec<Row> = read.rows(&wanted, 3).collect();
            assert_eq!(rows.len(), 3);
            for (index, (row, best_only)) in rows.into_iter().zip(pattern).enumerate() {
                let expected = &numbers[3 * index..3 * index + 3];
                match row {
                    Row::All(all) => assert!(!best_only && *all == *expected),
                    Row::Best(id, logprob) => {
                        // The first of equals.
                        assert!(best_only && id == [1, 0, 2][index]);
                        let sum: f32 = expected.iter().map(|logit| logit.exp()).sum();
                        assert!((logprob - (expected[id as usize] - sum.ln())).abs() < 1e-6);
                    }
                }
            }
        }
    }
}
