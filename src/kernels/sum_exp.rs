//! What normalises probabilities: with a vocabulary of 150,000 logits no small part of a token's time.

#[cfg(not(target_os = "macos"))]
use super::isa::{Isa, for_every_isa};
use super::math::exp_negative;

/// Logits that the compiler looks at together.
const LANES: usize = 16;

/// The sum of all `exp(logit - max)`, in blocks so that small terms are not lost in a large sum. No logit is larger
/// than `max`.
pub fn sum_exp(logits: &[f32], max: f32) -> f32 {
    let mut sum = 0.0;
    #[cfg(not(target_os = "macos"))]
    add(Isa::best(), logits, max, &mut sum);
    #[cfg(target_os = "macos")]
    add_with::<true>(logits, max, &mut sum);
    sum as f32
}

#[cfg(not(target_os = "macos"))]
for_every_isa! {
    fn add = add_with(logits: &[f32], max: f32, sum: &mut f64)
}

#[inline(always)]
fn add_with<const FMA: bool>(logits: &[f32], max: f32, sum: &mut f64) {
    for block in logits.chunks(1024) {
        let (chunks, rest) = block.as_chunks::<LANES>();
        let mut sums = [0.0; LANES];
        for chunk in chunks {
            for lane in 0..LANES {
                sums[lane] += exp_negative::<FMA>(chunk[lane] - max);
            }
        }
        for (sum, logit) in sums.iter_mut().zip(rest) {
            *sum += exp_negative::<FMA>(logit - max);
        }
        *sum += f64::from(sums.into_iter().sum::<f32>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact_to_the_last_bits() {
        for count in [1, 15, 16, 1023, 1025, 150_001] {
            let logits: Vec<f32> = (0..count).map(|i| (i * 7919 % 1013) as f32 / 30.0 - 20.0).collect();
            let max = logits.iter().copied().fold(f32::MIN, f32::max);
            let exact: f64 = logits.iter().map(|&logit| f64::from(logit - max).exp()).sum();
            let ours = sum_exp(&logits, max);
            assert!((f64::from(ours) - exact).abs() < 1e-6 * exact, "{count}: {ours}, {exact}");
        }
    }
}
