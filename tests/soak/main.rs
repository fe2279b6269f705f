//! Many threads on one model for a while, all doing different things: every answer is the one that the
//! request gets alone, nobody waits for ever, and nothing is left over.
//!
//! MLXRT_SOAK_SECONDS says for how long (5); `make soak` runs ten minutes. MLXRT_SOAK_SEED: other choices.

mod actions;
mod catalogue;
#[path = "../common/mod.rs"]
mod common;
mod dialogue;
mod memory;
mod watchdog;

use actions::Caller;
use catalogue::Catalogue;
use memory::Memory;
use mlxrt::engine::{LoadOptions, Model, ServingOptions};
use mlxrt::mlx::Device;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use watchdog::Watchdog;

const THREADS: usize = 64;

/// Bytes; small, so that prompts are forgotten too.
const PREFIX_CACHE: usize = 8 << 20;

/// What the threads share.
struct Soak {
    model: Model,
    catalogue: Catalogue,
    seed: u64,
    watchdog: Watchdog,
    /// How often what was done.
    done: Mutex<BTreeMap<&'static str, u64>>,
    /// Tokens that were compared.
    compared: AtomicU64,
    /// What was otherwise than alone, by kind of request.
    wrong: Mutex<BTreeMap<&'static str, Vec<String>>>,
}

impl Soak {
    /// Lets all threads loose until the time is over and their last requests have ended.
    fn run(&self, round: u64, time: Duration) {
        let until = Instant::now() + time;
        std::thread::scope(|scope| {
            for number in 0..THREADS {
                scope.spawn(move || {
                    let mut caller = Caller::new(self, number, round);
                    while Instant::now() < until {
                        caller.act();
                    }
                });
            }
        });
    }
}

/// The number in an environment variable, or what stands for it.
fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[test]
fn many_threads_get_what_each_would_get_alone() {
    let time = Duration::from_secs(variable("MLXRT_SOAK_SECONDS", 5));
    let seed = variable("MLXRT_SOAK_SEED", 1);
    // On a GPU a product of more rows may add in another order.
    let load = |prefix_cache_bytes| {
        let serving = ServingOptions { prefix_cache_bytes: Some(prefix_cache_bytes), ..Default::default() };
        let options = LoadOptions { device: Some(Device::Cpu), serving, ..Default::default() };
        Model::load(&common::demo_model(), options, &mut |_, _| true).unwrap()
    };
    // A catalogue takes a third of a short run, and no more than a minute of a long one.
    let cases = (time.as_secs() as usize * 4).clamp(24, 200);
    let started = Instant::now();
    // Alone nothing is remembered of other requests.
    let catalogue = Catalogue::make(&load(0), cases, seed);
    println!("{cases} requests answered alone in {:.1} s", started.elapsed().as_secs_f64());

    let soak = Soak {
        model: load(PREFIX_CACHE),
        catalogue,
        seed,
        watchdog: Watchdog::new(THREADS),
        done: Mutex::default(),
        compared: AtomicU64::new(0),
        wrong: Mutex::default(),
    };
    // What is made once (threads' stacks, the heap's arenas) is there after the first tenth.
    let rounds = [1, 3, 3, 3];
    let memory = soak.watchdog.over(&soak.model, || {
        let round = |(number, tenths)| {
            soak.run(number, time * tenths / 10);
            Memory::when_idle(&soak.model)
        };
        (0..).zip(rounds).map(round).collect::<Vec<_>>()
    });

    let stats = soak.model.stats();
    println!("{:?}", soak.done.lock());
    println!(
        "{} steps, {:.1} tokens each; {} tokens compared; longest wait {:.1} s",
        stats.steps,
        stats.tokens as f64 / stats.steps as f64,
        soak.compared.load(Ordering::Relaxed),
        soak.watchdog.longest().as_secs_f64(),
    );
    for (tenths, memory) in rounds.iter().zip(&memory) {
        println!("after another {tenths} tenths: {memory}");
    }
    let wrong = soak.wrong.into_inner();
    for (kind, answers) in &wrong {
        println!("wrong: {kind}: {} times, such as", answers.len());
        answers.iter().take(3).for_each(|answer| println!("    {answer}"));
    }
    let wrong: usize = wrong.values().map(Vec::len).sum();
    assert_eq!(wrong, 0, "answers that were not what they are alone");
    memory[rounds.len() - 1].assert_like(&memory[0]);
}
