//! Many callers on one model, each on a thread of its own. Prints one JSON object:
//!
//!     batch [--threads N] MODEL ...                           on the CPU, with so many threads
//!     batch MODEL throughput PROMPT GENERATED CONCURRENT...   tokens/s of so many requests at once
//!     batch MODEL sampled PROMPT GENERATED CONCURRENT...      the same, tokens drawn at temperature 0.8 from the
//!                                                             most likely ones that make up 95%
//!     batch MODEL latency STREAMS PROMPT                      between tokens while a long prompt joins
//!     batch MODEL prefix COMMON OWN                           a second prompt that begins with the same tokens
//!     batch MODEL cost TOKENS                                 the engine's own time per decoding step
//!
//! mlx_lm_batch.py does the same with mlx-lm, with the same ids.

use mlxrt::engine::{Cancel, Finish, GenerateOptions, LoadOptions, Model, ModelStats, Sampling};
use mlxrt::mlx::Device;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Tokens of each stream before the long prompt joins: between them lie the gaps to compare with.
const ALONE: usize = 24;

/// Different from the first id on for every number, so that no prompt is another's beginning.
fn prompt(length: usize, number: usize, vocabulary: u32) -> Vec<i32> {
    let id = |i: usize| (i * 7919 + number * 10_473 + length * 131 + 17) % vocabulary as usize;
    (0..length).map(|i| id(i) as i32).collect()
}

fn greedy(max_tokens: usize, cancel: Option<Arc<Cancel>>) -> GenerateOptions {
    GenerateOptions { max_tokens: max_tokens as u32, ignore_end: true, cancel, ..Default::default() }
}

fn sampled(max_tokens: usize) -> GenerateOptions {
    let sampling = Sampling { temperature: 0.8, top_p: 0.95, seed: Some(1), ..Default::default() };
    GenerateOptions { sampling, ..greedy(max_tokens, None) }
}

/// When each token of one answer came.
fn answer(model: &Model, prompt: Vec<i32>, options: GenerateOptions) -> Result<Vec<Instant>, Failure> {
    let max_tokens = options.max_tokens as usize;
    let mut times = vec![];
    let outcome = model.generate(prompt, options, &mut |token| {
        times.extend(token.id.map(|_| Instant::now()));
        true
    });
    match outcome.end? {
        Finish::Length if times.len() == max_tokens => Ok(times),
        finish => Err(format!("{} tokens instead of {max_tokens}: {finish:?}", times.len()).into()),
    }
}

/// `count` requests at once, with the prompts from a number on: generated tokens per second from the start to the last token, and from when
/// all have their first until one has its last.
fn throughput(
    model: &Model,
    length: usize,
    count: usize,
    number: usize,
    options: &GenerateOptions,
) -> Result<Value, Failure> {
    let generated = options.max_tokens as usize;
    let barrier = Barrier::new(count + 1);
    let vocabulary = model.info().vocab_size;
    let (started, answers) = std::thread::scope(|scope| {
        let ask = |number| {
            let ids = prompt(length, number, vocabulary);
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                answer(model, ids, options.clone())
            })
        };
        let threads: Vec<_> = (number..number + count).map(ask).collect();
        barrier.wait();
        let started = Instant::now();
        (started, threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>())
    });
    let answers = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
    let all = answers.iter().flatten();
    let last = *all.clone().max().ok_or("no tokens")?;
    let begun = answers.iter().filter_map(|times| times.first()).max().copied().ok_or("no tokens")?;
    let ended = answers.iter().filter_map(|times| times.last()).min().copied().ok_or("no tokens")?;
    let decoded = all.filter(|&&time| time > begun && time <= ended).count();
    let rate = |tokens: usize, time: Duration| tokens as f64 / time.as_secs_f64();
    Ok(json!({
        "concurrent": count,
        "prompt": length,
        "generated": generated,
        "total": rate(count * generated, last - started),
        "decode": (ended > begun).then(|| rate(decoded, ended - begun)),
        "first": (begun - started).as_secs_f64(),
    }))
}

/// Milliseconds: the middle, the 99th percentile and the longest.
fn percentiles(mut gaps: Vec<f64>) -> Result<Value, Failure> {
    gaps.sort_by(f64::total_cmp);
    // The nearest rank.
    let at = |part: f64| gaps.get(((gaps.len() as f64 * part).ceil() as usize).max(1) - 1).copied();
    let (middle, high) = at(0.5).zip(at(0.99)).ok_or("no gap between tokens")?;
    let longest = gaps.last();
    Ok(json!({ "p50": middle, "p99": high, "longest": longest, "count": gaps.len() }))
}

/// `count` streams decode; then a prompt of `length`, the one of this number, joins them. What lies between their tokens before
/// that, and from then until the prompt's first token.
fn latency(model: &Model, count: usize, length: usize, number: usize) -> Result<Value, Failure> {
    let vocabulary = model.info().vocab_size;
    let cancel = Arc::new(Cancel::default());
    let times: Vec<Mutex<Vec<Instant>>> = (0..count).map(|_| Mutex::default()).collect();
    let window = std::thread::scope(|scope| {
        for (number, times) in times.iter().enumerate() {
            let (ids, options) =
                (prompt(16, number, vocabulary), greedy(usize::MAX >> 33, Some(cancel.clone())));
            scope.spawn(move || {
                model.generate(ids, options, &mut |_| {
                    times.lock().expect("no panic").push(Instant::now());
                    true
                })
            });
        }
        let few = |times: &Mutex<Vec<Instant>>| times.lock().expect("no panic").len() < ALONE;
        while times.iter().any(few) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let joined = Instant::now();
        let first =
            answer(model, prompt(length, count + number, vocabulary), greedy(1, None)).map(|times| times[0]);
        // The gap that the first token fell into ends with the streams' next tokens.
        let missing =
            |first: Instant| times.iter().any(|times| times.lock().expect("no panic").last() < Some(&first));
        while first.as_ref().is_ok_and(|&first| missing(first)) {
            std::thread::sleep(Duration::from_millis(1));
        }
        cancel.trigger();
        first.map(|first| (joined, first))
    });
    let (joined, first) = window?;
    let (mut before, mut during) = (vec![], vec![]);
    for times in times {
        for pair in times.into_inner()?.windows(2) {
            let gap = (pair[1] - pair[0]).as_secs_f64() * 1e3;
            match pair[1] <= joined {
                true => before.push(gap),
                false if pair[0] < first => during.push(gap),
                false => {}
            }
        }
    }
    Ok(json!({
        "streams": count,
        "prompt": length,
        "first": (first - joined).as_secs_f64(),
        "before": percentiles(before)?,
        "during": percentiles(during)?,
    }))
}

/// Two prompts of `own` tokens behind the same `common` ones: what the second one's prefill takes.
fn prefix(model: &Model, common: usize, own: usize) -> Result<Value, Failure> {
    let vocabulary = model.info().vocab_size;
    let ask = |number: usize| {
        let ids = [prompt(common, 0, vocabulary), prompt(own, number, vocabulary)].concat();
        let outcome = model.generate(ids, greedy(1, None), &mut |_| true);
        outcome.end.map(|_| outcome.summary)
    };
    let (first, second) = (ask(1)?, ask(2)?);
    let prefilled = second.prompt_tokens - second.cached_tokens;
    Ok(json!({
        "prompt": second.prompt_tokens,
        "prefilled": prefilled,
        "part": f64::from(prefilled) / f64::from(second.prompt_tokens),
        "first": first.prefill.as_secs_f64(),
        "second": second.prefill.as_secs_f64(),
    }))
}

/// Microseconds per decoding step of one request: all, what MLX evaluates, and the engine's own part, the
/// building of MLX's graph included. `wall` is what the caller sees.
fn cost(model: &Model, tokens: usize) -> Result<Value, Failure> {
    let mut stream = model.stream(prompt(16, tokens, model.info().vocab_size), greedy(tokens + 64, None))?;
    let mut take = |count: usize| -> Result<(ModelStats, Instant), Failure> {
        for _ in 0..count {
            stream.next()?.ok_or("the answer ended early")?;
        }
        Ok((model.stats(), Instant::now()))
    };
    // Behind the first tokens only single ones follow.
    let (before, started) = take(32)?;
    let (after, ended) = take(tokens)?;
    let steps = (after.steps - before.steps) as f64;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / steps;
    let (step, evaluation) =
        (after.step_time - before.step_time, after.evaluation_time - before.evaluation_time);
    Ok(json!({
        "steps": steps,
        "step": each(step),
        "evaluation": each(evaluation),
        "own": each(step - evaluation),
        "wall": (ended - started).as_secs_f64() * 1e6 / tokens as f64,
    }))
}

/// The most memory that the process had, file pages that it shares with others included.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (options, arguments) = match &arguments[..] {
        [flag, threads, rest @ ..] if flag == "--threads" => {
            let device = Some(Device::Cpu);
            (LoadOptions { device, threads: Some(threads.parse()?), ..Default::default() }, rest)
        }
        all => (LoadOptions::default(), all),
    };
    let [folder, what, numbers @ ..] = arguments else {
        return Err(
            "usage: batch [--threads N] MODEL throughput|sampled|latency|prefix|cost NUMBER...".into()
        );
    };
    let numbers = numbers.iter().map(|number| number.parse()).collect::<Result<Vec<usize>, _>>()?;
    let started = Instant::now();
    let model = Model::load(Path::new(folder), options, &mut |_, _| true)?;
    // The first step makes what lasts; on a GPU each new shape compiles kernels.
    let first = answer(&model, prompt(16, 2000, model.info().vocab_size), greedy(2, None))?[0] - started;
    let warm = model.info().device == Device::Gpu;
    let runs = match (what.as_str(), &numbers[..]) {
        ("throughput" | "sampled", [length, generated, counts @ ..]) => {
            let options = if what == "sampled" { sampled(*generated) } else { greedy(*generated, None) };
            let run = |&count: &usize| {
                if warm {
                    throughput(&model, *length, count, 1000, &options)?;
                }
                throughput(&model, *length, count, 0, &options)
            };
            counts.iter().map(run).collect::<Result<Vec<_>, _>>()?
        }
        ("latency", [count, length]) => {
            if warm {
                // Another prompt: of the same one only the end would be prefilled again.
                latency(&model, *count, *length, 1)?;
            }
            vec![latency(&model, *count, *length, 0)?]
        }
        ("prefix", [common, own]) => vec![prefix(&model, *common, *own)?],
        ("cost", [tokens]) => (0..5).map(|_| cost(&model, *tokens)).collect::<Result<Vec<_>, _>>()?,
        _ => return Err(format!("not understood: {what} {numbers:?}").into()),
    };
    let info = model.info();
    let result = json!({
        "engine": "mlxrt",
        "device": format!("{:?}", info.device).to_lowercase(),
        "dtype": info.dtype.to_string(),
        "weight_bytes": info.weight_bytes,
        // From the call that loads to the first token behind 16.
        "ready": first.as_secs_f64(),
        "peak_bytes": peak_bytes(),
        "runs": runs,
    });
    println!("{result}");
    Ok(())
}
