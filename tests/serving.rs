//! How a model serves: limits, rotating contexts, quantised caches, batches and classification.

mod common;

use mlxrt::engine::{Cancel, Encoding, Finish, GenerateOptions, LoadOptions, Model, ServingOptions};
use mlxrt::error::Error;
use mlxrt::nn::CacheOptions;
use std::sync::Arc;

fn load(context_length: Option<u32>, serving: ServingOptions) -> Model {
    let options = LoadOptions { context_length, serving, ..Default::default() };
    Model::load(&common::demo_model(), options, &mut |_, _| true).unwrap()
}

fn ids(model: &Model, text: &str) -> Vec<i32> {
    model.tokenizer().encode(text, Encoding::default()).unwrap()
}

fn endless(max_tokens: u32) -> GenerateOptions {
    GenerateOptions { max_tokens, ignore_end: true, ..Default::default() }
}

#[test]
fn a_full_context_ends_or_goes_round_as_chosen() {
    let stops = load(Some(64), ServingOptions::default());
    let prompt = ids(&stops, "The capital of France is");
    let outcome = stops.generate(prompt.clone(), endless(200), &mut |_| true);
    assert_eq!(outcome.end, Ok(Finish::Context));
    assert_eq!(outcome.summary.generated_tokens as usize, 64 - prompt.len());

    let serving = ServingOptions { rotate_keeping: Some(4), ..Default::default() };
    let rotates = load(Some(64), serving);
    let outcome = rotates.generate(prompt.clone(), endless(200), &mut |_| true);
    assert_eq!((outcome.end, outcome.summary.generated_tokens), (Ok(Finish::Length), 200));
    // A prompt still has to fit.
    let outcome = rotates.generate([1].repeat(64), endless(1), &mut |_| true);
    assert!(matches!(outcome.end, Err(Error::ContextFull(_))));

    let serving = ServingOptions { rotate_keeping: Some(64), ..Default::default() };
    let options = LoadOptions { context_length: Some(64), serving, ..Default::default() };
    assert!(Model::load(&common::demo_model(), options, &mut |_, _| true).is_err());
}

#[test]
fn quantised_caches_take_less_and_answer_alike() {
    let needed = |model: &Model| {
        let mut stream = model.stream(ids(model, "The capital of"), endless(500)).unwrap();
        stream.next().unwrap();
        model.stats().kv_promised
    };
    let answer = |model: &Model| {
        let mut tokens = vec![];
        let prompt = ids(model, "The capital of France is Paris. The capital of Italy is");
        let outcome = model.generate(prompt, endless(12), &mut |token| {
            tokens.extend(token.id);
            true
        });
        outcome.end.unwrap();
        tokens
    };
    let plain = load(None, ServingOptions::default());
    let bits = |bits| {
        let caches = CacheOptions { bits: Some(bits), ..Default::default() };
        load(None, ServingOptions { caches, ..Default::default() })
    };
    let (eight, four) = (bits(8), bits(4));
    // float32 with a scale and a bias for every 64 or 32 numbers.
    assert!(needed(&eight) * 10 < needed(&plain) * 4, "{} and {}", needed(&eight), needed(&plain));
    assert!(needed(&four) * 10 < needed(&plain) * 3, "{} and {}", needed(&four), needed(&plain));
    assert_eq!(answer(&eight), answer(&plain));
    assert_eq!(answer(&four)[..3], answer(&plain)[..3]);
}

#[test]
fn the_queue_is_limited_and_served_in_order() {
    let serving = ServingOptions { max_concurrent: 2, max_queue: 2, ..Default::default() };
    let model = load(None, serving);
    let prompt = ids(&model, "Once upon a time");
    let open = || model.stream(prompt.clone(), endless(30)).unwrap();
    let mut running = [open(), open()];
    running.iter_mut().for_each(|stream| drop(stream.next().unwrap()));
    let mut waiting = [open(), open()];
    let mut refused = open();
    assert!(matches!(refused.next(), Err(Error::Busy(_))));
    let stats = model.stats();
    assert_eq!((stats.running, stats.waiting), (2, 2));
    while running[0].next().unwrap().is_some() {}
    // The first that waits is begun with, the second not.
    assert!(waiting[0].next().unwrap().is_some());
    assert_eq!(model.stats().waiting, 1);
    assert!(waiting[0].summary().queued > std::time::Duration::ZERO || waiting[0].finish().is_none());
    drop(running);
    while waiting[1].next().unwrap().is_some() {}
}

#[test]
fn requests_that_need_not_wait_are_not_in_the_queue() {
    let model = load(None, ServingOptions { max_concurrent: 4, max_queue: 1, ..Default::default() });
    let prompt = ids(&model, "Once upon a time");
    let mut streams: Vec<_> = (0..4).map(|_| model.stream(prompt.clone(), endless(5)).unwrap()).collect();
    for stream in &mut streams {
        while stream.next().unwrap().is_some() {}
    }
}

#[test]
fn a_batch_gives_what_each_prompt_gives_alone_and_what_was_done_when_cancelled() {
    let model = load(None, ServingOptions::default());
    let texts = ["The capital of France is", "What is", "Two and two", "", "The opposite of hot is"];
    let prompts: Vec<_> = texts.iter().map(|text| ids(&model, text)).collect();
    let mut tokens = vec![vec![]; prompts.len()];
    let outcomes = model.generate_batch(prompts.clone(), &endless(15), &mut |index, token| {
        tokens[index].extend(token.id);
        true
    });
    for (index, outcome) in outcomes.iter().enumerate() {
        let mut alone = vec![];
        let single = model.generate(prompts[index].clone(), endless(15), &mut |token| {
            alone.extend(token.id);
            true
        });
        assert_eq!((&tokens[index], &outcome.end), (&alone, &single.end), "{}", texts[index]);
    }
    assert!(matches!(outcomes[3].end, Err(Error::BadArgument(_))) || !prompts[3].is_empty());

    let cancel = Arc::new(Cancel::default());
    let options = GenerateOptions { cancel: Some(cancel.clone()), ..endless(400) };
    let mut seen = 0;
    let outcomes = model.generate_batch(prompts[..3].to_vec(), &options, &mut |index, _| {
        seen += 1;
        if seen == 40 {
            cancel.trigger();
        }
        // The second one ends by itself.
        index != 1
    });
    let ends: Vec<_> = outcomes.into_iter().map(|outcome| outcome.end).collect();
    assert_eq!(ends, [Err(Error::Cancelled), Ok(Finish::Callback), Err(Error::Cancelled)]);
}

#[test]
fn a_batch_may_be_larger_than_the_queue() {
    let model = load(None, ServingOptions { max_concurrent: 2, max_queue: 1, ..Default::default() });
    let prompt = ids(&model, "Two and two");
    let outcomes = model.generate_batch(vec![prompt.clone(); 9], &endless(3), &mut |_, _| true);
    assert!(outcomes.iter().all(|outcome| outcome.end == Ok(Finish::Length)), "{outcomes:?}");
    // Where others fill the queue, all of the batch but what runs is refused at last.
    let mut others: Vec<_> = (0..3).map(|_| model.stream(prompt.clone(), endless(200)).unwrap()).collect();
    others.iter_mut().take(2).for_each(|stream| drop(stream.next().unwrap()));
    let outcomes = model.generate_batch(vec![prompt.clone(); 3], &endless(3), &mut |_, _| true);
    assert!(outcomes.iter().all(|outcome| matches!(outcome.end, Err(Error::Busy(_)))), "{outcomes:?}");
}

#[test]
fn classification_is_the_first_tokens_distribution() {
    let model = load(None, ServingOptions::default());
    let prompts: Vec<_> =
        ["The capital of France is", "The opposite of hot is"].map(|text| ids(&model, text)).into();
    let all = model.classify(prompts.clone(), None, &GenerateOptions::default());
    let some = model.classify(prompts.clone(), Some(vec![5, 3]), &GenerateOptions::default());
    for (index, (all, some)) in all.into_iter().zip(some).enumerate() {
        let (all, some) = (all.unwrap(), some.unwrap());
        let mut first = None;
        model.generate(prompts[index].clone(), endless(1), &mut |token| {
            first = Some((token.id.unwrap(), token.logprob.exp()));
            true
        });
        assert_eq!(first, Some((all.token, all.probability)));
        assert_eq!(some.logits, [all.logits[5], all.logits[3]]);
        let sum: f64 = all.logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        let share = f64::from(all.logits[all.token as usize]).exp() / sum;
        assert!((share - f64::from(all.probability)).abs() < 1e-5);
    }
    let bad = model.classify(prompts, Some(vec![-1]), &GenerateOptions::default());
    assert!(bad.iter().all(|result| matches!(result, Err(Error::BadArgument(_)))));
}
