//! Caches in models: rotating and quantised against mlx-lm's, live (tests/parity/caches.py says what the
//! reference holds); going back, forks and files against runs that had none of them.

mod common;

use common::{Arrays, argmax, ids};
use mlxrt::engine::{LoadOptions, LoadedModel, load_for_tests};
use mlxrt::error::Result;
use mlxrt::mlx::{self, Array, Device, Dtype, io, memory};
use mlxrt::models::Model;
use mlxrt::nn::{Batch, Cache, CacheMeta, CacheOptions, Pass};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::OnceLock;

/// MLX counts memory by process: one test at a time.
static ONE: Mutex<()> = Mutex::new(());

/// The largest difference, as a part of the largest logit.
const TOLERANCE: f32 = 1e-4;

#[derive(serde::Deserialize)]
struct Cases {
    cases: Vec<String>,
    prompt: usize,
    chunk: usize,
    limit: i32,
    keep: i32,
    group: i32,
}

/// What mlx-lm was asked, once for all tests; `None`: it is not there.
fn cases() -> Option<&'static (PathBuf, Cases)> {
    static CASES: OnceLock<Option<(PathBuf, Cases)>> = OnceLock::new();
    let make = || {
        let out = common::scratch("caches");
        common::python("caches of mlx-lm", "caches.py", &[out.to_str().unwrap()])?;
        let text = std::fs::read_to_string(out.join("cases.json")).unwrap();
        Some((out, serde_json::from_str(&text).unwrap()))
    };
    CASES.get_or_init(make).as_ref()
}

/// A model with its reference.
struct Subject {
    name: String,
    loaded: LoadedModel,
    reference: Arrays,
    ids: Vec<i32>,
}

fn subjects() -> Vec<Subject> {
    let Some((out, cases)) = cases() else { return vec![] };
    let options = LoadOptions { device: Some(Device::Cpu), dtype: Some(Dtype::F32), ..Default::default() };
    let load = |name: &String| {
        let reference = io::load_safetensors(&out.join(name).join("reference.safetensors")).unwrap();
        let loaded = load_for_tests(&out.join(name).join("model"), &options).unwrap();
        Subject { name: name.clone(), loaded, ids: ids(&reference, "ids"), reference }
    };
    cases.cases.iter().map(load).collect()
}

/// Runs ids behind the caches: the one place that knows how a model is called.
fn forward(model: &dyn Model, ids: &[i32], caches: &mut [Cache], pass: &Pass) -> Result<Vec<f32>> {
    let input = Array::from_i32(ids, &[1, ids.len() as i32])?;
    let hidden = model.forward(&input, &mut Batch::one(caches, ids.len() as i32)?, pass)?;
    model.logits(&hidden)?.to_vec_f32()
}

impl Subject {
    fn caches(&self, options: &CacheOptions) -> Vec<Cache> {
        let mut caches = self.loaded.model.new_caches();
        caches.iter_mut().for_each(|cache| cache.configure(options).unwrap());
        caches
    }

    fn feed(&self, ids: &[i32], caches: &mut [Cache]) -> Vec<f32> {
        let logits = forward(&*self.loaded.model, ids, caches, &Pass::default()).unwrap();
        assert!(logits.iter().all(|logit| logit.is_finite()));
        logits
    }

    /// The prompt at once and then one by one, or in chunks.
    fn run(&self, options: &CacheOptions, prompt: usize, chunk: usize) -> Vec<f32> {
        let mut caches = self.caches(options);
        let (first, rest) = self.ids.split_at(prompt);
        let mut logits = self.feed(first, &mut caches);
        rest.chunks(chunk).for_each(|ids| logits.extend(self.feed(ids, &mut caches)));
        logits
    }

    fn expect_near(&self, ours: &[f32], theirs: &[f32], what: &str) {
        let error = largest(ours, theirs);
        println!("{:8} {what:32} {error:.1e}", self.name);
        assert!(error <= TOLERANCE, "{}: {what}: relative error {error:.2e}", self.name);
    }

    fn theirs(&self, name: &str) -> Option<Vec<f32>> {
        self.reference.get(name).map(|array| array.to_vec_f32().unwrap())
    }

    fn vocabulary(&self) -> usize {
        self.loaded.info.vocab_size as usize
    }
}

fn largest(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let difference = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    difference / theirs.iter().map(|b| b.abs()).fold(0.0, f32::max)
}

fn rms(ours: &[f32], theirs: &[f32]) -> f64 {
    let square = |sum: f64, x: f32| sum + f64::from(x).powi(2);
    let difference = ours.iter().zip(theirs).map(|(a, b)| a - b).fold(0.0, square);
    (difference / theirs.iter().copied().fold(0.0, square)).sqrt()
}

fn plain() -> CacheOptions {
    CacheOptions::default()
}

#[test]
fn rotating_caches_compute_what_mlx_lm_computes() {
    let _one = ONE.lock();
    let Some((_, Cases { prompt, chunk, limit, keep, .. })) = cases() else { return };
    for subject in subjects() {
        let limited = |keep| CacheOptions { limit: Some(*limit), keep, ..plain() };
        let theirs = |name| subject.theirs(name).unwrap();
        let ours = subject.run(&limited(*keep), *prompt, 1);
        subject.expect_near(&ours, &theirs("rotating"), "rotating, one by one");
        assert!(largest(&theirs("rotating"), &theirs("plain")) > 1e-2, "{}: nothing rotated", subject.name);
        // mlx-lm's mask of several positions takes those that are kept for others: none are kept.
        subject.expect_near(
            &subject.run(&limited(0), *chunk, *chunk),
            &theirs("chunked"),
            "rotating, chunks",
        );
        // In chunks of any size, each position sees what it sees alone.
        for chunk in [2, *chunk, 30] {
            subject.expect_near(&subject.run(&limited(*keep), *prompt, chunk), &ours, "kept, chunks");
        }
        let whole = subject.run(&limited(*keep), subject.ids.len(), 1);
        subject.expect_near(&whole, &ours, "kept, at once");
    }
}

#[test]
fn quantised_caches_are_as_near_as_mlx_lms() {
    let _one = ONE.lock();
    let Some((_, Cases { prompt, group, limit, .. })) = cases() else { return };
    for subject in subjects() {
        let exact = subject.theirs("plain").unwrap();
        let says = |logits: &[f32]| -> Vec<i32> { logits.chunks(subject.vocabulary()).map(argmax).collect() };
        let agrees = |logits: &[f32]| says(logits).iter().zip(says(&exact)).filter(|(a, b)| *a == b).count();
        for bits in [8, 4] {
            let options = CacheOptions { bits: Some(bits), group_size: *group, ..plain() };
            let ours = subject.run(&options, *prompt, 1);
            let (error, agreed) = (rms(&ours, &exact), agrees(&ours));
            print!("{:8} {bits} bits: rms {error:.2e}, agrees {agreed}/{}", subject.name, subject.ids.len());
            assert!(error > 1e-5, "nothing was quantised");
            if let Some(theirs) = subject.theirs(&format!("quantised{bits}")) {
                let (limit, wanted) = (rms(&theirs, &exact), agrees(&theirs));
                print!("; mlx-lm {limit:.2e}, {wanted}");
                assert!((0.8..1.2).contains(&(error / limit)), "rms {error:.2e}, mlx-lm's {limit:.2e}");
                assert!(agreed + 3 >= wanted, "{agreed} tokens agree, mlx-lm's {wanted}");
            }
            println!();
            // Rotating too: as far from the unquantised.
            let limited = CacheOptions { limit: Some(*limit), keep: 4, ..options };
            let rotated = subject.run(&CacheOptions { bits: None, ..limited }, *prompt, 1);
            let distance = rms(&subject.run(&limited, *prompt, 1), &rotated);
            assert!(distance > 1e-5 && distance < 2.0 * error, "rotating: {distance:.2e}, else {error:.2e}");
        }
    }
}

/// The kinds of caches that the tests below go through.
fn kinds() -> Vec<CacheOptions> {
    let limited = CacheOptions { limit: Some(24), keep: 4, ..plain() };
    let quantised = CacheOptions { bits: Some(8), ..plain() };
    vec![plain(), limited, quantised, CacheOptions { bits: Some(4), ..limited }]
}

#[test]
fn forks_and_files_go_on_as_if_alone() {
    let _one = ONE.lock();
    for subject in subjects() {
        for options in kinds() {
            for prompt in [10, 40] {
                let (first, rest) = subject.ids[..prompt + 12].split_at(prompt);
                let other: Vec<i32> = rest.iter().rev().copied().collect();
                let alone = |ids: &[i32]| {
                    let mut caches = subject.caches(&options);
                    subject.feed(first, &mut caches);
                    ids.iter().flat_map(|id| subject.feed(&[*id], &mut caches)).collect::<Vec<f32>>()
                };
                let mut caches = subject.caches(&options);
                subject.feed(first, &mut caches);
                let mut fork: Vec<Cache> = caches.iter_mut().map(|cache| cache.fork().unwrap()).collect();
                let mut third: Vec<Cache> = fork.iter_mut().map(|cache| cache.fork().unwrap()).collect();
                let restore = |cache: &Cache| {
                    let meta = serde_json::to_string(&cache.meta()).unwrap();
                    let meta: CacheMeta = serde_json::from_str(&meta).unwrap();
                    let restored = Cache::restore(&meta, cache.arrays().unwrap()).unwrap();
                    cache.expect_like(&restored).unwrap();
                    restored
                };
                let mut restored: Vec<Cache> = third.iter().map(restore).collect();
                // By turns, so that one would disturb the other.
                let mut logits = [vec![], vec![], vec![]];
                for (id, other) in rest.iter().zip(&other) {
                    logits[0].extend(subject.feed(&[*id], &mut caches));
                    logits[1].extend(subject.feed(&[*other], &mut fork));
                    logits[2].extend(subject.feed(&[*id], &mut restored));
                }
                let expected = [alone(rest), alone(&other)];
                subject.expect_near(&logits[0], &expected[0], "the forked");
                subject.expect_near(&logits[1], &expected[1], "the fork");
                subject.expect_near(&logits[2], &expected[0], "the restored");
                let late: Vec<f32> = rest.iter().flat_map(|id| subject.feed(&[*id], &mut third)).collect();
                subject.expect_near(&late, &expected[0], "a fork of the fork, later");
            }
        }
    }
}

/// A pass that stops behind some layers leaves caches at different positions: each goes back to where it was.
/// Recurrent states, which cannot, were forked before.
#[test]
fn an_interrupted_pass_can_be_undone() {
    let _one = ONE.lock();
    for subject in subjects() {
        for options in kinds() {
            for (prompt, length) in [(10, 8), (40, 1), (40, 9)] {
                let (first, rest) = subject.ids[..prompt + 12].split_at(prompt);
                let mut caches = subject.caches(&options);
                subject.feed(first, &mut caches);
                let mut expected: Vec<Cache> = caches.iter_mut().map(|cache| cache.fork().unwrap()).collect();
                let expected: Vec<f32> =
                    rest.chunks(4).flat_map(|ids| subject.feed(ids, &mut expected)).collect();

                let states = caches.iter_mut().map(|cache| match cache {
                    Cache::State(_) => Some(cache.fork().unwrap()),
                    Cache::Kv(_) => None,
                });
                let states: Vec<Option<Cache>> = states.collect();
                // Asked behind the first layer.
                let pass = Pass::interruptible(&|| true);
                assert!(forward(&*subject.loaded.model, &rest[..length], &mut caches, &pass).is_err());
                let offsets: Vec<i32> = caches.iter().map(Cache::offset).collect();
                assert!(offsets.contains(&(prompt as i32)) && offsets.contains(&((prompt + length) as i32)));
                for (cache, state) in caches.iter_mut().zip(states) {
                    match state {
                        Some(state) => *cache = state,
                        None => cache.rewind(prompt as i32).unwrap(),
                    }
                }
                let logits: Vec<f32> =
                    rest.chunks(4).flat_map(|ids| subject.feed(ids, &mut caches)).collect();
                subject.expect_near(&logits, &expected, "after an interrupted pass");
            }
        }
    }
}

#[test]
fn going_back_forgets() {
    let _one = ONE.lock();
    for subject in subjects() {
        for options in kinds() {
            let mut caches = subject.caches(&options);
            subject.feed(&subject.ids[..5], &mut caches);
            let mut fresh: Vec<Cache> = caches.iter_mut().map(|cache| cache.fork().unwrap()).collect();
            subject.feed(&subject.ids[40..44], &mut caches);
            let possible = caches.iter().all(|cache| cache.can_rewind(5));
            assert_eq!(possible, !caches.iter().any(|cache| matches!(cache, Cache::State(_))));
            let back = if possible { 5 } else { 0 };
            caches.iter_mut().for_each(|cache| cache.rewind(back).unwrap());
            let ids = &subject.ids[5..20];
            if !possible {
                fresh = subject.caches(&options);
            }
            subject.expect_near(&subject.feed(ids, &mut caches), &subject.feed(ids, &mut fresh), "gone back");
        }
    }
}

#[test]
fn caches_take_what_they_say() {
    let _one = ONE.lock();
    memory::set_cache_limit(0).unwrap();
    for subject in subjects() {
        for options in kinds() {
            // What is computed once for all, such as frequencies, is there by then.
            subject.feed(&subject.ids, &mut subject.caches(&options));
            let before = memory::active().unwrap();
            let mut caches = subject.caches(&options);
            let mut positions = 0;
            for length in [256, 1, 30, 1, 1] {
                let ids: Vec<i32> = (0..length).map(|i| (i * 37 + length) % 500).collect();
                subject.feed(&ids, &mut caches);
                positions += length;
                // A state is computed when it is next needed, and what it comes from stays until then.
                let states = caches.iter().filter(|cache| matches!(cache, Cache::State(_)));
                let states: Vec<_> = states.flat_map(|cache| cache.arrays().unwrap()).collect();
                mlx::eval(states.iter().map(|(_, array)| array)).unwrap();
                // MLX makes no copy of a view that would save less than this.
                let slack = states.len() * 16384;
                drop(states);
                let said: usize = caches.iter().map(Cache::bytes).sum();
                let formula: usize =
                    caches.iter().map(|cache| cache.bytes_for(positions, length).unwrap()).sum();
                let taken = memory::active().unwrap() - before;
                let what = format!("{}: {positions} positions, {options:?}", subject.name);
                assert_eq!(said, formula, "{what}");
                assert!((said..=said + slack).contains(&taken), "{what}: {taken} taken, {said} said");
            }
        }
    }
}
