//! Conversations that keep their caches, and prompts that share their prefill: the tokens are those of a
//! fresh prefill, and little is prefilled.

mod common;

use mlxrt::engine::{
    Encoding, Finish, GenerateOptions, LoadOptions, Model, Outcome, ServingOptions, Session,
};
use mlxrt::error::Error;
use std::sync::Arc;

fn load(serving: ServingOptions) -> Model {
    let options = LoadOptions { serving, ..Default::default() };
    Model::load(&common::demo_model(), options, &mut |_, _| true).unwrap()
}

/// Without a prefix cache, so that only sessions remember.
fn load_plain() -> Model {
    load(ServingOptions { prefix_cache_bytes: Some(0), ..Default::default() })
}

fn generate(model: &Model, prompt: &[i32], options: GenerateOptions) -> (Vec<i32>, Outcome) {
    let mut ids = vec![];
    let outcome = model.generate(prompt.to_vec(), options, &mut |token| {
        ids.extend(token.id);
        true
    });
    (ids, outcome)
}

fn answer(model: &Model, prompt: &[i32], tokens: u32) -> Vec<i32> {
    let options = GenerateOptions { max_tokens: tokens, ignore_end: true, ..Default::default() };
    let (ids, outcome) = generate(model, prompt, options);
    outcome.end.unwrap();
    ids
}

fn within(session: &Arc<Session>, whole: bool, tokens: u32) -> GenerateOptions {
    GenerateOptions {
        max_tokens: tokens,
        ignore_end: true,
        session: Some(session.clone()),
        whole_conversation: whole,
        ..Default::default()
    }
}

/// A long prompt, other for each number.
fn prompt(model: &Model, number: usize, tokens: usize) -> Vec<i32> {
    let text =
        format!("{number} is a number. The capital of France is Paris, of Italy Rome, said {number}. ");
    let ids = model.tokenizer().encode(&text.repeat(tokens / 8), Encoding::default()).unwrap();
    ids[..tokens].to_vec()
}

#[test]
fn a_session_prefills_only_what_is_new() {
    let model = load_plain();
    let session = Arc::new(Session::new(&model));
    let mut all = prompt(&model, 1, 100);
    let (first, outcome) = generate(&model, &all, within(&session, false, 10));
    assert_eq!(outcome.summary.cached_tokens, 0);
    assert_eq!(first, answer(&model, &all, 10));
    all.extend(&first);
    assert_eq!(session.tokens().unwrap(), all);

    let more = prompt(&model, 2, 20);
    let (second, outcome) = generate(&model, &more, within(&session, false, 10));
    assert_eq!((outcome.summary.prompt_tokens, outcome.summary.cached_tokens), (130, 109));
    all.extend(&more);
    assert_eq!(second, answer(&model, &all, 10));
    all.extend(&second);

    // The whole conversation, edited behind the first prompt.
    let mut edited = all[..100].to_vec();
    edited.extend(prompt(&model, 3, 30));
    let (third, outcome) = generate(&model, &edited, within(&session, true, 10));
    let common = all.iter().zip(&edited).take_while(|(a, b)| a == b).count() as u32;
    assert_eq!(outcome.summary.cached_tokens, common);
    assert_eq!(third, answer(&model, &edited, 10));
}

#[test]
fn sessions_are_rewound_forked_and_freed() {
    let model = load_plain();
    let session = Arc::new(Session::new(&model));
    let start = prompt(&model, 1, 90);
    let (first, _) = generate(&model, &start, within(&session, false, 5));
    let mut all = start.clone();
    all.extend(&first);
    let forks: Vec<Arc<Session>> = (0..4).map(|_| Arc::new(session.fork().unwrap())).collect();
    std::thread::scope(|scope| {
        for (number, fork) in forks.iter().enumerate() {
            let (model, all) = (&model, &all);
            scope.spawn(move || {
                let more = prompt(model, 10 + number, 15);
                let (ids, outcome) = generate(model, &more, within(fork, false, 8));
                assert_eq!(outcome.summary.cached_tokens, 94);
                assert_eq!(ids, answer(model, &[all.clone(), more].concat(), 8));
            });
        }
    });
    assert_eq!(session.tokens().unwrap(), all);
    session.rewind(50).unwrap();
    assert_eq!(session.tokens().unwrap(), start[..50]);
    assert!(matches!(session.rewind(51), Err(Error::BadArgument(_))));
    let (again, outcome) = generate(&model, &start[50..], within(&session, false, 5));
    assert_eq!((again, outcome.summary.cached_tokens), (first, 50));
    drop((session, forks));
    while model.stats().sessions > 0 {
        answer(&model, &start[..3], 1);
    }
}

#[test]
fn a_session_in_use_is_busy_and_keeps_what_the_caller_took() {
    let model = load_plain();
    let session = Arc::new(Session::new(&model));
    let start = prompt(&model, 1, 40);
    let mut stream = model.stream(start.clone(), within(&session, false, 50)).unwrap();
    let taken: Vec<i32> = (0..3).map(|_| stream.next().unwrap().unwrap().id.unwrap()).collect();
    assert!(matches!(session.tokens(), Err(Error::Busy(_))));
    let (_, outcome) = generate(&model, &[1], within(&session, false, 1));
    assert!(matches!(outcome.end, Err(Error::Busy(_))));
    drop(stream);
    assert_eq!(session.tokens().unwrap(), [start, taken].concat());
    // Nor is one whose answer ended at a stop string, behind the engine's back.
    for _ in 0..20 {
        let stop_strings = vec!["a".into(), "e".into(), " ".into()];
        let options = GenerateOptions { stop_strings, ..within(&session, false, 50) };
        let (_, outcome) = generate(&model, &[1, 2], options);
        assert_eq!(outcome.end, Ok(Finish::StopString));
    }
}

#[test]
fn a_session_goes_through_a_file_and_fits_its_model_only() {
    let model = load_plain();
    let session = Arc::new(Session::new(&model));
    let start = prompt(&model, 1, 70);
    let (first, _) = generate(&model, &start, within(&session, false, 5));
    let folder = common::scratch("sessions");
    let file = folder.join("session.safetensors");
    session.export(&file).unwrap();
    let again = load_plain();
    let imported = Arc::new(Session::import(&again, &file).unwrap());
    let all = [start, first].concat();
    assert_eq!(imported.tokens().unwrap(), all);
    let more = prompt(&again, 5, 10);
    let (ids, outcome) = generate(&again, &more, within(&imported, false, 6));
    assert_eq!(outcome.summary.cached_tokens, 74);
    assert_eq!(ids, answer(&again, &[all, more].concat(), 6));

    let text = |result: Result<Session, Error>| result.err().unwrap().to_string();
    assert!(matches!(Session::import(&again, &folder.join("none")), Err(Error::NotFound(_))));
    let bytes = std::fs::read(&file).unwrap();
    let other = String::from_utf8_lossy(&bytes[..400]).find("fingerprint").unwrap() + 16;
    let mut broken = bytes.clone();
    broken[other] ^= 1;
    std::fs::write(folder.join("other"), &broken).unwrap();
    assert!(text(Session::import(&again, &folder.join("other"))).contains("another model"));
    for length in [0, 7, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(folder.join("cut"), &bytes[..length]).unwrap();
        assert!(matches!(
            Session::import(&again, &folder.join("cut")),
            Err(Error::BadModel(_) | Error::Mlx(_))
        ));
    }
    // A failed export leaves nothing.
    assert!(matches!(session.export(&folder.join("no/where")), Err(Error::Io(_))));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3);
}

#[test]
fn prompts_that_begin_alike_share_their_prefill() {
    let model = load(ServingOptions::default());
    let system = prompt(&model, 1, 400);
    let ask = |number| [system.clone(), prompt(&model, number, 12)].concat();
    let options = || GenerateOptions { max_tokens: 8, ignore_end: true, ..Default::default() };
    let (_, outcome) = generate(&model, &ask(2), options());
    assert_eq!(outcome.summary.cached_tokens, 0);
    let alone = load_plain();
    for number in 3..6 {
        let (ids, outcome) = generate(&model, &ask(number), options());
        assert_eq!(outcome.summary.cached_tokens, 384);
        assert_eq!(ids, answer(&alone, &ask(number), 8));
    }
    // Bounded in bytes, the oldest out first.
    let small = load(ServingOptions { prefix_cache_bytes: Some(8 << 20), ..Default::default() });
    for number in 0..20 {
        generate(&small, &prompt(&small, number, 400), options());
        assert!(small.stats().prefix_bytes <= 8 << 20);
    }
    let cached = |number| generate(&small, &prompt(&small, number, 400), options()).1.summary.cached_tokens;
    assert_eq!((cached(19), cached(0)), (384, 0));
}

#[test]
fn a_prefill_behind_a_rewind_is_not_shared() {
    let model = load(ServingOptions::default());
    let session = Arc::new(Session::new(&model));
    let first = prompt(&model, 1, 100);
    generate(&model, &first, within(&session, true, 2));
    let second = [first[..40].to_vec(), prompt(&model, 2, 160)].concat();
    let (_, outcome) = generate(&model, &second, within(&session, true, 2));
    assert_eq!(outcome.summary.cached_tokens, 40);
    let options = || GenerateOptions { max_tokens: 2, ignore_end: true, ..Default::default() };
    // Its first chunk was computed in two pieces.
    assert_eq!(generate(&model, &second, options()).1.summary.cached_tokens, 0);
    assert_eq!(generate(&model, &second, options()).1.summary.cached_tokens, 192);
    assert_eq!(generate(&model, &first, options()).1.summary.cached_tokens, 64);
}

#[test]
fn prefixes_stay_on_disk_for_the_next_process() {
    let folder = common::scratch("prefixes");
    let serving = |bytes| ServingOptions {
        prefix_cache_folder: Some(folder.clone()),
        prefix_cache_bytes: Some(bytes),
        ..Default::default()
    };
    let first = load(serving(64 << 20));
    let system = prompt(&first, 1, 200);
    let expected = answer(&first, &system, 8);
    first.close();
    std::fs::write(folder.join("broken.prefix"), b"nothing").unwrap();
    let second = load(serving(64 << 20));
    let options = GenerateOptions { max_tokens: 8, ignore_end: true, ..Default::default() };
    let (ids, outcome) = generate(&second, &system, options);
    assert_eq!((ids, outcome.summary.cached_tokens), (expected, 192));
    for number in 2..12 {
        answer(&second, &prompt(&second, number, 200), 1);
    }
    second.close();
    let third = load(serving(3 << 20));
    third.close();
    let bytes = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().metadata().unwrap().len();
    assert!(std::fs::read_dir(&folder).unwrap().map(bytes).sum::<u64>() <= 3 << 20);
}

#[test]
fn what_does_not_fit_the_budget_is_refused_or_waits() {
    let probe = load_plain();
    let start = prompt(&probe, 1, 40);
    let options = |tokens| GenerateOptions { max_tokens: tokens, ignore_end: true, ..Default::default() };
    let one = {
        let mut stream = probe.stream(start.clone(), options(100)).unwrap();
        stream.next().unwrap();
        probe.stats().kv_promised
    };
    assert!(one > 0);
    let serving =
        ServingOptions { kv_budget: Some(one + one / 2), prefix_cache_bytes: Some(0), ..Default::default() };
    let model = load(serving);
    let mut first = model.stream(start.clone(), options(100)).unwrap();
    first.next().unwrap();
    // A second one of the same size waits until the first has ended.
    let mut second = model.stream(start.clone(), options(100)).unwrap();
    for _ in 0..50 {
        first.next().unwrap();
    }
    assert_eq!((model.stats().running, model.stats().waiting), (1, 1));
    while first.next().unwrap().is_some() {}
    while second.next().unwrap().is_some() {}
    let outcome = generate(&model, &start, options(2000)).1;
    let message = outcome.end.unwrap_err();
    assert!(
        matches!(&message, Error::OutOfMemory(text) if text.contains("bytes for keys and values")),
        "{message}"
    );
}
