//! Choosing tokens where the logits are: a GPU does in one go for all rows what [`super::sampler`] does on
//! the host, so that one number travels in place of hundreds of kilobytes. The same filters, but the
//! tokens stand in another order, so that a seed gives other tokens than on the host.

use crate::error::Result;
use crate::mlx::{Array, Dtype, ops};

/// How one row's token is chosen.
#[derive(Debug, Clone, Copy)]
pub(super) enum Choosing {
    /// The most likely one.
    Best,
    /// At random.
    Draw(Draw),
}

/// What [`super::Sampling`] says, with its random number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draw {
    pub temperature: f32,
    /// 0: all.
    pub top_k: u32,
    pub top_p: f32,
    pub min_p: f32,
    /// At least 0 and below 1.
    pub random: f32,
}

impl Choosing {
    /// Rows of one kind are computed together, and in the same way whatever other rows there are.
    pub fn kind(&self) -> usize {
        match self {
            Choosing::Best => 0,
            Choosing::Draw(draw) if !draw.sorts() => 1,
            Choosing::Draw(_) => 2,
        }
    }

    fn draw(&self) -> Option<Draw> {
        match self {
            Choosing::Best => None,
            Choosing::Draw(draw) => Some(*draw),
        }
    }

    /// Kinds are numbers below this.
    pub const KINDS: usize = 3;
}

impl Draw {
    /// Whether a filter looks at ranks.
    fn sorts(&self) -> bool {
        self.top_k > 0 || self.top_p < 1.0
    }
}

/// Of float32 `logits` `[rows, vocabulary]` the tokens that are chosen by `how`, all of one kind, and the
/// logarithms of their probabilities: float32 `[rows, 2]`. (Ids are below 2^24, which floats are exact for.)
pub(super) fn choose(logits: &Array, how: &[Choosing]) -> Result<Array> {
    let log_sum = ops::log_sum_exp(logits, -1)?;
    let draws: Vec<Draw> = how.iter().filter_map(Choosing::draw).collect();
    let (ids, chosen) = match draws.len() {
        0 => (ops::argmax(logits, -1)?, ops::max(logits, -1)?),
        _ => draw(logits, &ops::expand_dims(&log_sum, -1)?, &draws)?,
    };
    ops::stack(&[&ops::astype(&ids, Dtype::F32)?, &ops::subtract(&chosen, &log_sum)?], 1)
}

/// Ids and logits `[rows]`. `log_sum` `[rows, 1]`.
fn draw(logits: &Array, log_sum: &Array, draws: &[Draw]) -> Result<(Array, Array)> {
    let rows = draws.len() as i32;
    let column = |value: fn(&Draw) -> f32| {
        let values: Vec<f32> = draws.iter().map(value).collect();
        Array::from_f32(&values, &[rows, 1])
    };
    let largest = ops::expand_dims(&ops::max(logits, -1)?, -1)?;
    // A probability of so much of the largest one is a distance between logits.
    let floor = ops::add(&largest, &column(|draw| draw.min_p.ln())?)?;
    let sorted = draws.iter().any(Draw::sorts);
    let order = if sorted { Some(ops::argsort(&ops::negative(logits)?, -1)?) } else { None };
    let logits = match &order {
        Some(order) => &ops::take_along_axis(logits, order, -1)?,
        None => logits,
    };
    let mut kept = ops::greater_equal(logits, &floor)?;
    if sorted {
        // A token stays while those before it are few enough, and together not likely enough.
        let ranks = ops::astype(&ops::arange(0, logits.dim(-1))?, Dtype::F32)?;
        let most = column(|draw| if draw.top_k == 0 { f32::INFINITY } else { draw.top_k as f32 })?;
        let probabilities = ops::exp(&ops::subtract(logits, log_sum)?)?;
        let before = ops::subtract(&ops::cumsum(&probabilities, -1)?, &probabilities)?;
        let mass = column(|draw| match draw.top_p {
            part if part < 1.0 => part.max(f32::MIN_POSITIVE),
            _ => f32::INFINITY,
        })?;
        let likely = ops::less(&before, &mass)?;
        kept = ops::logical_and(&kept, &ops::logical_and(&likely, &ops::less(&ranks, &most)?)?)?;
    }
    let nothing = Array::scalar(0.0)?;
    let cooled = ops::divide(&ops::subtract(logits, &largest)?, &column(|draw| draw.temperature)?)?;
    let weights = ops::select(&kept, &ops::exp(&cooled)?, &nothing)?;
    let sums = ops::cumsum(&weights, -1)?;
    let last = logits.dim(-1) - 1;
    let reached = ops::multiply(&ops::slice(&sums, 1, last, last + 1)?, &column(|draw| draw.random)?)?;
    let beyond = ops::logical_and(&ops::less(&reached, &sums)?, &ops::less(&nothing, &weights)?)?;
    let beyond = ops::astype(&beyond, Dtype::F32)?;
    // The first one beyond. Rounding may leave none: then the most likely token, which no filter drops.
    let first = ops::select(&ops::max(&beyond, -1)?, &ops::argmax(&beyond, -1)?, &ops::argmax(logits, -1)?)?;
    let place = ops::expand_dims(&first, -1)?;
    let chosen = ops::squeeze(&ops::take_along_axis(logits, &place, -1)?, -1)?;
    let ids = match &order {
        Some(order) => ops::squeeze(&ops::take_along_axis(order, &place, -1)?, -1)?,
        None => first,
    };
    Ok((ids, chosen))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Sampling;
    use crate::engine::sampler::Sampler;
    use crate::mlx::{Device, use_device};

    const VOCABULARY: usize = 700;
    const DRAWS: usize = 400;

    /// Tokens for evenly spread random numbers.
    fn tokens(logits: &[f32], draw: Draw) -> Vec<(usize, f32)> {
        let array = Array::from_f32(logits, &[1, logits.len() as i32]).unwrap();
        let rows = ops::concatenate(&vec![&array; DRAWS], 0).unwrap();
        let random = |i: usize| (i as f32 + 0.5) / DRAWS as f32;
        let how: Vec<_> = (0..DRAWS).map(|i| Choosing::Draw(Draw { random: random(i), ..draw })).collect();
        let pairs = choose(&rows, &how).unwrap().to_vec_f32().unwrap();
        pairs.as_chunks::<2>().0.iter().map(|pair| (pair[0] as usize, pair[1])).collect()
    }

    #[test]
    fn draws_what_the_host_keeps_as_often_as_it_is_likely() {
        use_device(Device::Cpu).unwrap();
        let logits: Vec<f32> = (0..VOCABULARY).map(|i| (i * 7919 % VOCABULARY) as f32 / 70.0).collect();
        let log_sum = logits.iter().map(|&logit| f64::from(logit).exp()).sum::<f64>().ln();
        let plain = Draw { temperature: 0.7, top_k: 0, top_p: 1.0, min_p: 0.0, random: 0.0 };
        for draw in [
            plain,
            Draw { min_p: 0.1, ..plain },
            Draw { top_k: 1, ..plain },
            Draw { top_k: 40, temperature: 3.0, ..plain },
            Draw { top_p: 0.8, ..plain },
            Draw { top_p: 0.0, ..plain },
            Draw { top_p: 0.9, top_k: 50, min_p: 0.02, temperature: 1.5, ..plain },
        ] {
            let Draw { temperature, top_k, top_p, min_p, .. } = draw;
            let options = Sampling { temperature, top_k, top_p, min_p, ..Default::default() };
            let kept = Sampler::new(options).kept(&logits);
            let weight = |id: usize| f64::from(logits[id] / temperature).exp();
            let total: f64 = kept.iter().map(|&id| weight(id)).sum();
            let drawn = tokens(&logits, draw);
            for id in 0..VOCABULARY {
                let count = drawn.iter().filter(|(token, _)| *token == id).count();
                let expected = if kept.contains(&id) { weight(id) / total * DRAWS as f64 } else { 0.0 };
                // Evenly spread numbers hit an interval as often as it is long, but for its ends.
                assert!((count as f64 - expected).abs() <= 1.0, "{draw:?}: {id}: {count}, {expected}");
                assert!(kept.contains(&id) || count == 0, "{draw:?}: {id} was filtered");
            }
            for (id, logprob) in drawn {
                assert!((f64::from(logprob) - (f64::from(logits[id]) - log_sum)).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_the_others() {
        use_device(Device::Cpu).unwrap();
        let logits: Vec<f32> = (0..3 * VOCABULARY).map(|i| (i * 7919 % 1013) as f32 / 90.0).collect();
        let draw =
            |random, top_k| Choosing::Draw(Draw { temperature: 0.9, top_k, top_p: 0.95, min_p: 0.0, random });
        let how = [draw(0.3, 0), draw(0.99, 7), draw(0.999_999_9, 0)];
        let width = VOCABULARY as i32;
        let together = choose(&Array::from_f32(&logits, &[3, width]).unwrap(), &how).unwrap();
        let together = together.to_vec_f32().unwrap();
        for (row, how) in how.iter().enumerate() {
            let own = &logits[row * VOCABULARY..][..VOCABULARY];
            let alone = choose(&Array::from_f32(own, &[1, width]).unwrap(), &[*how]).unwrap();
            assert_eq!(alone.to_vec_f32().unwrap(), together[2 * row..][..2]);
        }
    }
}
