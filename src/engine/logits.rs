//! What a step has to show for itself: the logits of the rows that somebody wants, or just a token where
//! that is all that counts, which a GPU chooses without sending hundreds of kilobytes for each.

use super::draw::{Choosing, choose};
use crate::error::Result;
use crate::mlx::{Array, Device, Dtype, ops, thread_device};
use std::time::{Duration, Instant};

/// A row of the packed tokens whose logits somebody wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub row: i32,
    /// How its token is chosen, if that and its probability are enough.
    pub choosing: Option<Choosing>,
}

impl Wanted {
    fn kind(&self) -> Option<usize> {
        self.choosing.map(|choosing| choosing.kind())
    }
}

/// The logits behind one row.
pub(super) enum Row<'a> {
    /// The chosen token and the logarithm of its probability.
    Chosen(i32, f32),
    /// All.
    All(&'a mut [f32]),
}

/// The logits of a step, in the order in which they were wanted.
#[derive(Default)]
pub(super) struct Logits {
    /// Of each kind of choosing token and logarithm, one pair behind the other.
    chosen: [Vec<f32>; Choosing::KINDS],
    all: All,
}

/// Rows behind each other.
enum All {
    Copied(Vec<f32>),
    /// Where the model put them: of many rows of a large vocabulary a copy takes milliseconds.
    InPlace(Array),
}

impl Default for All {
    fn default() -> Self {
        All::Copied(vec![])
    }
}

impl All {
    /// Computes the logits.
    fn read(logits: &Array) -> Result<Self> {
        logits.eval()?;
        let in_place = logits.dtype() == Dtype::F32 && thread_device()? == Device::Cpu && logits.is_in_rows();
        if in_place { Ok(All::InPlace(logits.clone())) } else { logits.to_vec_f32().map(All::Copied) }
    }

    fn values(&mut self) -> &mut [f32] {
        match self {
            All::Copied(values) => values,
            // SAFETY: they were computed for this step alone, and nobody else looks at them.
            All::InPlace(logits) => unsafe { logits.floats_mut() }.unwrap_or_default(),
        }
    }
}

impl Logits {
    /// Computes `logits` `[1, wanted, vocabulary]`; the time that takes is added to `evaluated`.
    pub fn read(logits: &Array, wanted: &[Wanted], evaluated: &mut Duration) -> Result<Self> {
        // In one go: each evaluation has the engine thread and MLX's wait for each other.
        if wanted.iter().all(|wanted| wanted.choosing.is_none()) {
            return Ok(Logits { all: timed(evaluated, || All::read(logits))?, ..Default::default() });
        }
        let logits = ops::astype(&ops::squeeze(logits, 0)?, Dtype::F32)?;
        let rows = |kind: Option<usize>| {
            let rows = (0..).zip(wanted).filter(|(_, wanted)| wanted.kind() == kind);
            let rows: Vec<i32> = rows.map(|(row, _)| row).collect();
            match rows.len() {
                0 => Ok(None),
                all if all == wanted.len() => Ok(Some(logits.clone())),
                some => ops::take(&logits, &Array::from_i32(&rows, &[some as i32])?).map(Some),
            }
        };
        let (mut parts, mut lengths) = (vec![], [0; Choosing::KINDS]);
        for (kind, length) in lengths.iter_mut().enumerate() {
            let Some(rows) = rows(Some(kind))? else { continue };
            let how = wanted.iter().filter(|wanted| wanted.kind() == Some(kind));
            let how: Vec<Choosing> = how.filter_map(|wanted| wanted.choosing).collect();
            parts.push(ops::flatten(&choose(&rows, &how)?, 0, 1)?);
            *length = 2 * how.len();
        }
        if let Some(rows) = rows(None)? {
            parts.push(ops::flatten(&rows, 0, 1)?);
        }
        let numbers = match &parts[..] {
            [only] => timed(evaluated, || only.to_vec_f32())?,
            all => {
                let all = ops::concatenate(&all.iter().collect::<Vec<_>>(), 0)?;
                timed(evaluated, || all.to_vec_f32())?
            }
        };
        let mut rest = &numbers[..];
        let chosen = lengths.map(|length| rest.split_off(..length).unwrap_or_default().to_vec());
        Ok(Logits { chosen, all: All::Copied(rest.to_vec()) })
    }

    /// Row by row.
    pub fn rows(&mut self, wanted: &[Wanted], vocabulary: usize) -> impl Iterator<Item = Row<'_>> {
        let mut chosen = self.chosen.each_ref().map(|pairs| pairs.chunks_exact(2));
        let mut all = self.all.values().chunks_exact_mut(vocabulary);
        wanted.iter().map_while(move |wanted| match wanted.kind() {
            Some(kind) => chosen[kind].next().map(|pair| Row::Chosen(pair[0] as i32, pair[1])),
            None => all.next().map(Row::All),
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

/// The same for what evaluates on the CPU, where most models are computed while elsewhere their graph is built.
pub(super) fn timed_if<T>(evaluates: bool, time: &mut Duration, run: impl FnOnce() -> T) -> T {
    if evaluates { timed(time, run) } else { run() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::draw::Draw;
    use crate::mlx::{Device, use_device};

    #[test]
    fn everybody_gets_what_was_wanted() {
        use_device(Device::Cpu).unwrap();
        let numbers = [0.0, 2.0, 1.0, 5.0, -1.0, 5.0, 1.0, 1.0, 3.0];
        let logits = Array::from_f32(&numbers, &[1, 3, 3]).unwrap();
        // At such a temperature chance has nothing to choose; of 5 and 5 it does.
        let cold = Draw { temperature: 0.01, top_k: 0, top_p: 1.0, min_p: 0.0, random: 0.25 };
        let kinds = [
            None,
            Some(Choosing::Best),
            Some(Choosing::Draw(cold)),
            Some(Choosing::Draw(Draw { top_k: 2, ..cold })),
        ];
        for pattern in 0..kinds.len().pow(3) {
            let kind = |row: u32| kinds[pattern / kinds.len().pow(row) % kinds.len()];
            let wanted: Vec<Wanted> = (0..3).map(|row| Wanted { row: 0, choosing: kind(row) }).collect();
            let mut read = Logits::read(&logits, &wanted, &mut Duration::default()).unwrap();
            let rows: Vec<Row> = read.rows(&wanted, 3).collect();
            assert_eq!(rows.len(), 3);
            for (index, (row, wanted)) in rows.into_iter().zip(&wanted).enumerate() {
                let expected = &numbers[3 * index..3 * index + 3];
                match row {
                    Row::All(all) => assert!(wanted.choosing.is_none() && *all == *expected),
                    Row::Chosen(id, logprob) => {
                        // The first of equals.
                        assert!(wanted.choosing.is_some() && id == [1, 0, 2][index]);
                        let sum: f32 = expected.iter().map(|logit| logit.exp()).sum();
                        assert!((logprob - (expected[id as usize] - sum.ln())).abs() < 1e-6);
                    }
                }
            }
        }
    }
}
