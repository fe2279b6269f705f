//! Choosing the next token from logits, on the host. The filters look at the probabilities before
//! temperature, as mlx-lm's do.

use super::Sampling;
use super::draw::{Choosing, Draw};
use crate::error::{Error, Result};
use crate::kernels::{exp_negative, sum_exp};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

/// One answer's sampling state.
pub struct Sampler {
    options: Sampling,
    random: Pcg64,
}

/// A token that may be chosen.
#[derive(Clone, Copy)]
struct Candidate {
    id: u32,
    logit: f32,
}

impl Sampler {
    /// Starts from the options' seed.
    pub fn new(options: Sampling) -> Self {
        let seed = options.seed.unwrap_or_else(|| rand::rng().random());
        Sampler { options, random: Pcg64::seed_from_u64(seed) }
    }

    /// How the device chooses the next token in place of [`Self::next`]; `None`: what came before counts.
    pub(super) fn choosing(&mut self) -> Option<Choosing> {
        let Sampling { temperature, top_k, top_p, min_p, .. } = self.options;
        match self.options.repetition_penalty {
            1.0 if temperature == 0.0 => Some(Choosing::Best),
            1.0 => {
                let random = self.random.random::<f32>();
                Some(Choosing::Draw(Draw { temperature, top_k, top_p, min_p, random }))
            }
            _ => None,
        }
    }

    /// The next token and the logarithm of the probability that the model gave it. `history` is the
    /// prompt and the answer so far. `logits` is used up.
    pub fn next(&mut self, logits: &mut [f32], history: &[i32]) -> Result<(i32, f32)> {
        self.penalise(logits, history);
        let best = best(logits)?;
        let max = logits[best as usize];
        let sum = sum_exp(logits, max);
        let log_sum = max + sum.ln();
        let id = match self.options.temperature {
            0.0 => best,
            temperature => self.sample(logits, max, sum, temperature),
        };
        Ok((id as i32, logits[id as usize] - log_sum))
    }

    /// Keskar et al. 2019.
    fn penalise(&self, logits: &mut [f32], history: &[i32]) {
        let penalty = self.options.repetition_penalty;
        if penalty == 1.0 {
            return;
        }
        let start = history.len().saturating_sub(self.options.repetition_window as usize);
        let mut recent = history[start..].to_vec();
        recent.sort_unstable();
        recent.dedup();
        for id in recent {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            }
        }
    }

    fn sample(&mut self, logits: &[f32], max: f32, sum: f32, temperature: f32) -> u32 {
        let candidates = self.filter(logits, max, sum);
        let weight = |candidate: &Candidate| exp_negative::<false>((candidate.logit - max) / temperature);
        let weights: Vec<f32> = candidates.iter().map(weight).collect();
        let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        let mut left = self.random.random::<f64>() * total;
        for (candidate, &weight) in candidates.iter().zip(&weights) {
            left -= f64::from(weight);
            if left < 0.0 {
                return candidate.id;
            }
        }
        // Rounding left a rest: the last candidate takes it.
        candidates.last().expect("filters keep the best token").id
    }

    /// The tokens that top-k, top-p and min-p leave; all that are possible where none is on.
    fn filter(&self, logits: &[f32], max: f32, sum: f32) -> Vec<Candidate> {
        let Sampling { top_k, top_p, min_p, .. } = self.options;
        // min_p: p >= min_p * p_max, which in logits is a plain threshold.
        let mut floor = if min_p > 0.0 { max + min_p.ln() } else { f32::NEG_INFINITY };
        if top_p < 1.0 && top_k == 0 {
            // All tokens below this together have less than what top_p leaves out.
            floor = floor.max(max + (sum * (1.0 - top_p) / logits.len() as f32).ln());
        }
        let all = (0u32..).zip(logits).map(|(id, &logit)| Candidate { id, logit });
        let mut kept: Vec<_> = all.filter(|c| c.logit >= floor && c.logit > f32::NEG_INFINITY).collect();
        if top_k > 0 && (top_k as usize) < kept.len() {
            keep_best(&mut kept, top_k as usize);
        }
        if top_p < 1.0 {
            keep_mass(&mut kept, top_p, |c| exp_negative::<false>(c.logit - max) / sum);
        }
        kept
    }
}

#[cfg(test)]
impl Sampler {
    /// The tokens that the filters leave.
    pub fn kept(&self, logits: &[f32]) -> Vec<usize> {
        let max = logits.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        let kept = self.filter(logits, max, sum_exp(logits, max));
        kept.iter().map(|candidate| candidate.id as usize).collect()
    }
}

/// The most likely token, and the logarithm of the sum of all `exp(logit)`.
pub(super) fn log_sum_exp(logits: &[f32]) -> Result<(usize, f32)> {
    let best = best(logits)? as usize;
    Ok((best, logits[best] + sum_exp(logits, logits[best]).ln()))
}

/// Logits that the compiler looks at together. With 32 answers under way and 150,000 logits each, the
/// passes over them are no small part of a step.
const LANES: usize = 16;

/// The most likely token, the first of equals. NaN is an error: nothing sensible can follow.
fn best(logits: &[f32]) -> Result<u32> {
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let (mut maxima, mut nan) = ([f32::NEG_INFINITY; LANES], [false; LANES]);
    for chunk in chunks {
        maxima =
            std::array::from_fn(|lane| if chunk[lane] > maxima[lane] { chunk[lane] } else { maxima[lane] });
        nan = std::array::from_fn(|lane| nan[lane] | chunk[lane].is_nan());
    }
    if (nan.contains(&true) || rest.iter().any(|logit| logit.is_nan()))
        && let Some(id) = logits.iter().position(|logit| logit.is_nan())
    {
        return Err(Error::BadModel(format!("the model computed NaN as the logit of token {id}")));
    }
    let max = maxima.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    match logits.iter().position(|&logit| logit == max) {
        Some(id) if max.is_finite() => Ok(id as u32),
        _ => Err(Error::BadModel("the model computed no finite logit".into())),
    }
}

fn descending(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

fn keep_best(candidates: &mut Vec<Candidate>, count: usize) {
    candidates.select_nth_unstable_by(count - 1, descending);
    candidates.truncate(count);
}

/// Keeps the most likely tokens up to the one with which their probabilities reach `mass`; at least
/// one. Halves what is left to look at instead of sorting a large vocabulary.
fn keep_mass(candidates: &mut Vec<Candidate>, mass: f32, probability: impl Fn(&Candidate) -> f32) {
    let (mut start, mut end) = (0, candidates.len());
    let mut reached = 0.0;
    while end - start > 64 {
        let half = (end - start) / 2;
        let open = &mut candidates[start..end];
        open.select_nth_unstable_by(half, descending);
        let likely: f64 = open[..half].iter().map(|candidate| f64::from(probability(candidate))).sum();
        if reached + likely >= f64::from(mass) {
            end = start + half;
        } else {
            reached += likely;
            start += half;
        }
    }
    candidates[start..end].sort_unstable_by(descending);
    let last = candidates[start..end].iter().position(|candidate| {
        reached += f64::from(probability(candidate));
        reached >= f64::from(mass)
    });
    candidates.truncate(last.map_or(end, |last| start + last + 1));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(options: Sampling, logits: &[f32], times: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(Sampling { seed: Some(7), ..options });
        let mut counts = vec![0; logits.len()];
        for _ in 0..times {
            counts[sampler.next(&mut logits.to_vec(), &[]).unwrap().0 as usize] += 1;
        }
        counts
    }

    const LOGITS: [f32; 4] = [0.0, 2.0, 1.0, -1.0];

    #[test]
    fn greedy_takes_the_best_and_tells_its_probability() {
        let (id, logprob) = Sampler::new(Sampling::default()).next(&mut LOGITS.to_vec(), &[]).unwrap();
        let expected = 2.0 - LOGITS.iter().map(|l| l.exp()).sum::<f32>().ln();
        assert_eq!(id, 1);
        assert!((logprob - expected).abs() < 1e-6);
    }

    #[test]
    fn samples_in_proportion() {
        let counts = draw(Sampling { temperature: 1.0, ..Default::default() }, &LOGITS, 20_000);
        let total: f32 = LOGITS.iter().map(|l| l.exp()).sum();
        for (count, logit) in counts.iter().zip(LOGITS) {
            let expected = logit.exp() / total;
            assert!((*count as f32 / 20_000.0 - expected).abs() < 0.015, "{counts:?}");
        }
    }

    #[test]
    fn filters_leave_the_head() {
        let hot = Sampling { temperature: 5.0, ..Default::default() };
        let counts = draw(Sampling { top_k: 2, ..hot.clone() }, &LOGITS, 500);
        assert!(counts[0] == 0 && counts[3] == 0 && counts[1] > 0 && counts[2] > 0);
        let counts = draw(Sampling { top_p: 0.5, ..hot.clone() }, &LOGITS, 500);
        assert_eq!(counts[1], 500);
        let counts = draw(Sampling { min_p: 0.3, ..hot }, &LOGITS, 500);
        assert!(counts[0] == 0 && counts[3] == 0 && counts[1] > 0 && counts[2] > 0);
    }

    #[test]
    fn top_p_keeps_the_smallest_set_that_reaches_it() {
        for (count, spread) in [(1, 1.0), (64, 3.0), (65, 3.0), (5000, 0.0), (5000, 0.5), (5000, 12.0)] {
            let logits: Vec<f32> =
                (0..count).map(|i| spread * ((i * 7919 % count) as f32 / count as f32)).collect();
            let max = logits[best(&logits).unwrap() as usize];
            let sum = sum_exp(&logits, max);
            for top_p in [0.01, 0.5, 0.95, 0.9999] {
                let sampler = Sampler::new(Sampling { top_p, ..Default::default() });
                let mut kept: Vec<u32> = sampler.filter(&logits, max, sum).iter().map(|c| c.id).collect();
                let mut sorted: Vec<u32> = (0..count as u32).collect();
                sorted.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
                let mut reached = 0.0;
                let enough = |&id: &u32| {
                    reached += f64::from(logits[id as usize] - max).exp() / f64::from(sum);
                    reached >= f64::from(top_p)
                };
                let needed = sorted.iter().position(enough).map_or(count, |last| last + 1);
                // Where the last one is on the border, rounding decides.
                assert!(kept.len().abs_diff(needed) <= 1, "{} of {count}, needed {needed}", kept.len());
                kept.sort_unstable();
                let mut expected = sorted[..kept.len()].to_vec();
                expected.sort_unstable();
                assert_eq!(kept, expected);
            }
        }
    }

    #[test]
    fn penalty_pushes_recent_tokens_down() {
        let options = Sampling { repetition_penalty: 3.0, repetition_window: 1, ..Default::default() };
        let mut sampler = Sampler::new(options);
        assert_eq!(sampler.next(&mut LOGITS.to_vec(), &[2, 1]).unwrap().0, 2);
        assert_eq!(sampler.next(&mut LOGITS.to_vec(), &[1, 2]).unwrap().0, 1, "1 left the window");
    }

    #[test]
    fn the_same_seed_gives_the_same_tokens() {
        let run = || {
            let options = Sampling { temperature: 1.0, seed: Some(42), ..Default::default() };
            let mut sampler = Sampler::new(options);
            (0..20).map(|_| sampler.next(&mut LOGITS.to_vec(), &[]).unwrap().0).collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
    }

    #[test]
    fn nan_is_an_error() {
        let mut sampler = Sampler::new(Sampling::default());
        assert!(sampler.next(&mut [0.0, f32::NAN], &[]).is_err());
        for place in [0, 15, 16, 40] {
            let mut logits = vec![0.0; 41];
            logits[place] = f32::NAN;
            let error = sampler.next(&mut logits, &[]).unwrap_err().to_string();
            assert!(error.contains(&format!("token {place}")), "{error}");
        }
        assert!(sampler.next(&mut [f32::NEG_INFINITY; 40], &[]).is_err());
    }

    #[test]
    fn the_best_is_the_first_of_equals_wherever_it_lies() {
        for place in 0..40 {
            let mut logits = vec![-1.0; 41];
            (logits[place], logits[40]) = (2.0, 2.0);
            assert_eq!(best(&logits).unwrap(), place as u32);
        }
    }

    #[test]
    fn sums_of_exponentials_are_exact_to_a_few_units_in_the_last_place() {
        let logits: Vec<f32> = (0..151_937).map(|i| (i * 7919 % 1000) as f32 / 50.0).collect();
        let exact: f64 = logits.iter().map(|&logit| f64::from(logit - 19.98).exp()).sum();
        assert!((f64::from(sum_exp(&logits, 19.98)) - exact).abs() < 1e-6 * exact);
        assert_eq!(sum_exp(&[0.0, f32::NEG_INFINITY], 0.0), 1.0);
    }
}
