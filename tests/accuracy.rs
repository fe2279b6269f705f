//! What rounding to integers on the CPU costs: the demo model's next-token distributions beside those of
//! exact products.

mod common;

use common::{argmax, demo_model, feed, python, root, scratch};
use mlxrt::engine::{Encoding, LoadOptions, Tokenizer, load_for_tests};
use mlxrt::mlx::Device;
use std::path::Path;

#[derive(serde::Deserialize)]
struct Question {
    question: String,
    expect: String,
}

/// The logarithm of each token's probability.
fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
    logits.iter().map(|&logit| f64::from(logit) - largest - sum.ln()).collect()
}

/// Logits of every position of every text.
fn run(model: &Path, texts: &[Vec<i32>], exact: bool) -> Vec<f32> {
    let options = LoadOptions { device: Some(Device::Cpu), exact, ..Default::default() };
    let loaded = load_for_tests(model, &options).unwrap();
    texts.iter().flat_map(|ids| feed(&*loaded.model, ids, &mut loaded.model.new_caches())).collect()
}

#[test]
fn integer_products_hardly_change_the_distribution() {
    let questions = std::fs::read_to_string(root().join("demo/questions.json")).unwrap();
    let questions: Vec<Question> = serde_json::from_str(&questions).unwrap();
    let tokenizer = Tokenizer::load(&demo_model()).unwrap();
    let texts: Vec<Vec<i32>> = questions
        .iter()
        .map(|q| tokenizer.encode(&format!("{} {}", q.question, q.expect), Encoding::default()).unwrap())
        .collect();
    let (mean, agreement) = compare(&demo_model(), &texts, 1024);
    assert!(mean < 1e-3 && agreement > 0.99);
}

/// The mean divergence of the rounded distributions, and how often the first choice is the same.
fn compare(model: &Path, texts: &[Vec<i32>], vocabulary: usize) -> (f64, f64) {
    let (exact, rounded) = (run(model, texts, true), run(model, texts, false));
    assert!(exact != rounded);
    let (mut divergence, mut same, mut positions) = (0.0, 0, 0);
    for (exact, rounded) in exact.chunks(vocabulary).zip(rounded.chunks(vocabulary)) {
        let (p, q) = (log_softmax(exact), log_softmax(rounded));
        divergence += p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
        same += usize::from(argmax(exact) == argmax(rounded));
        positions += 1;
    }
    let (mean, agreement) = (divergence / positions as f64, same as f64 / positions as f64);
    println!("{positions} positions: mean KL {mean:.2e}, the same first choice in {:.2}%", 100.0 * agreement);
    (mean, agreement)
}

/// Small ones: of a large vocabulary's random logits the first two are nearer to each other than any rounding.
#[test]
fn random_models_keep_their_distributions() {
    let vocabulary = 512;
    let id = |text: i32, i: i32| (i * 7919 + text * 10_473 + 17) % vocabulary;
    let texts: Vec<Vec<i32>> = (0..4).map(|text| (0..64).map(|i| id(text, i)).collect()).collect();
    for bits in ["4", "8"] {
        let folder = scratch("random_models").join(bits);
        let arguments = ["tiny", folder.to_str().expect("a path of ours"), bits];
        let Some(()) = python("random_models", "../../bench/make_model.py", &arguments) else { return };
        let (mean, agreement) = compare(&folder, &texts, vocabulary as usize);
        assert!(mean < 1e-3 && agreement > 0.99, "{bits} bits: {mean}, {agreement}");
    }
}
