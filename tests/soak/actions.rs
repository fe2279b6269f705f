//! What one thread does: one request after another, each of another kind.

use super::Soak;
use super::catalogue::{Answer, Case};
use super::dialogue::{Dialogue, Held, Step};
use mlxrt::engine::{Cancel, Finish, GenerateOptions, Sampling, Token};
use mlxrt::error::{Error, Result};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A thread with its choices.
pub struct Caller<'s> {
    soak: &'s Soak,
    number: usize,
    random: Pcg64,
}

impl<'s> Caller<'s> {
    pub fn new(soak: &'s Soak, number: usize, round: u64) -> Self {
        let seed = soak.seed.wrapping_mul(1_000_003) + round * 1000 + number as u64;
        Caller { soak, number, random: Pcg64::seed_from_u64(seed) }
    }

    /// Makes one request and looks at what comes of it.
    pub fn act(&mut self) {
        let (name, act): (_, fn(&mut Self)) = match self.random.random_range(0..24) {
            0..=6 => ("answer", Self::answer),
            7..=8 => ("stream", Self::stream),
            9..=10 => ("dropped stream", Self::drop_stream),
            11..=13 => ("cancel", Self::cancel),
            14..=15 => ("callback that stops", Self::stop),
            16 => ("refused", Self::refused),
            17..=18 => ("batch", Self::batch),
            19 => ("classify", Self::classify),
            _ => ("dialogue", Self::dialogue),
        };
        self.soak.watchdog.begin(self.number, name);
        act(self);
        self.soak.watchdog.end(self.number);
        *self.soak.done.lock().entry(name).or_default() += 1;
    }

    fn answer(&mut self) {
        let case = self.soak.catalogue.any(&mut self.random);
        let mut got = Answer::default();
        let outcome = self.soak.model.generate(case.prompt.clone(), case.options.clone(), &mut |token| {
            got.push(token);
            true
        });
        self.check_whole("answer", case, &got, outcome.end);
    }

    fn stream(&mut self) {
        let case = self.soak.catalogue.any(&mut self.random);
        let mut stream = self.soak.model.stream(case.prompt.clone(), case.options.clone()).unwrap();
        let mut got = Answer::default();
        let end = loop {
            // A slow caller lets the engine wait now and then.
            if self.random.random_ratio(1, 50) {
                std::thread::sleep(Duration::from_millis(self.random.random_range(0..50)));
            }
            match stream.next() {
                Ok(Some(token)) => got.push(&token),
                Ok(None) => break Ok(stream.finish().expect("ended")),
                Err(error) => break Err(error),
            }
        };
        self.check_whole("stream", case, &got, end);
    }

    fn drop_stream(&mut self) {
        let case = self.soak.catalogue.any(&mut self.random);
        let mut stream = self.soak.model.stream(case.prompt.clone(), case.options.clone()).unwrap();
        let mut got = Answer::default();
        for _ in 0..self.random.random_range(0..12) {
            match stream.next() {
                Ok(Some(token)) => got.push(&token),
                Ok(None) => {
                    return self.check_whole(
                        "dropped stream",
                        case,
                        &got,
                        Ok(stream.finish().expect("ended")),
                    );
                }
                Err(error) => return self.wrong("dropped stream", case, &format!("{error:?}")),
            }
        }
        drop(stream);
        self.check_beginning("dropped stream", case, &got);
    }

    /// From another thread, at any moment: while the request waits, in prefill, between tokens, too late.
    fn cancel(&mut self) {
        let case = self.soak.catalogue.any(&mut self.random);
        let cancel = Arc::new(Cancel::default());
        let options = GenerateOptions { cancel: Some(cancel.clone()), ..case.options.clone() };
        // Evenly over the orders of magnitude up to a second.
        let delay = Duration::from_secs_f64(10f64.powf(self.random.random_range(-4.0..0.0)));
        let mut got = Answer::default();
        let outcome = std::thread::scope(|scope| {
            let (done, wait) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || {
                let _ = wait.recv_timeout(delay);
                cancel.trigger();
            });
            let outcome = self.soak.model.generate(case.prompt.clone(), options, &mut |token| {
                got.push(token);
                true
            });
            drop(done);
            outcome
        });
        match outcome.end {
            Err(Error::Cancelled) => self.check_beginning("cancel", case, &got),
            end => self.check_whole("cancel", case, &got, end),
        }
    }

    fn stop(&mut self) {
        let case = self.soak.catalogue.any(&mut self.random);
        let most = self.random.random_range(1..20);
        let mut got = Answer::default();
        let outcome = self.soak.model.generate(case.prompt.clone(), case.options.clone(), &mut |token| {
            got.push(token);
            got.ids.len() < most
        });
        match outcome.end {
            Ok(Finish::Callback) => self.check_beginning("callback", case, &got),
            end => self.check_whole("callback", case, &got, end),
        }
    }

    fn refused(&mut self) {
        let info = self.soak.model.info();
        let (context, vocabulary) = (info.context_length as usize, info.vocab_size as i32);
        let plain = GenerateOptions::default();
        let sampling = |sampling| GenerateOptions { sampling, ..plain.clone() };
        let (prompt, options) = match self.random.random_range(0..8) {
            0 => (vec![], plain),
            1 => (vec![1, vocabulary], plain),
            2 => (vec![i32::MIN], plain),
            3 => (vec![5; context], plain),
            4 => (vec![5; 4 * context], plain),
            5 => (vec![5], sampling(Sampling { temperature: f32::NAN, ..Default::default() })),
            6 => (vec![5], sampling(Sampling { top_p: f32::INFINITY, ..Default::default() })),
            _ => (vec![5], GenerateOptions { stop_strings: vec![String::new()], ..plain }),
        };
        let long = prompt.len() >= context;
        let end = self.soak.model.generate(prompt, options, &mut |_| true).end;
        let right = match &end {
            Err(Error::ContextFull(_)) => long,
            Err(Error::BadArgument(_)) => !long,
            _ => false,
        };
        if !right {
            self.note("refused", format!("a bad request ended with {end:?}"));
        }
    }

    /// Some of it may be bad, and some of it stopped.
    fn batch(&mut self) {
        let cases = self.soak.catalogue.alike(&mut self.random);
        let mut prompts: Vec<_> = cases.iter().map(|case| case.prompt.clone()).collect();
        if self.random.random_ratio(1, 4) {
            prompts.push(vec![-1]);
        }
        let stopped = self.random.random_ratio(1, 4).then(|| self.random.random_range(0..cases.len()));
        let mut got = vec![Answer::default(); cases.len()];
        let outcomes = self.soak.model.generate_batch(prompts, &cases[0].options, &mut |index, token| {
            got[index].push(token);
            stopped != Some(index) || got[index].ids.len() < 3
        });
        for ((case, got), outcome) in cases.iter().zip(&got).zip(&outcomes) {
            match &outcome.end {
                Ok(Finish::Callback) if stopped.is_some() => self.check_beginning("batch", case, got),
                end => self.check_whole("batch", case, got, end.clone()),
            }
        }
        if let Some(bad) = outcomes.get(cases.len())
            && !matches!(bad.end, Err(Error::BadArgument(_)))
        {
            self.note("batch", format!("a bad prompt ended with {:?}", bad.end));
        }
    }

    fn classify(&mut self) {
        let cases = self.soak.catalogue.alike(&mut self.random);
        let prompts = cases.iter().map(|case| case.prompt.clone()).collect();
        let labels = self.random.random_bool(0.5).then(|| vec![7, 3, 500]);
        let results = self.soak.model.classify(prompts, labels.clone(), &cases[0].options);
        for (case, result) in cases.iter().zip(results) {
            let mut want = case.next.clone();
            if let Some(labels) = &labels {
                want.logits = labels.iter().map(|&id| case.next.logits[id as usize]).collect();
            }
            if result.as_ref() != Ok(&want) {
                let got = result.map(|got| {
                    let apart = got.logits.iter().zip(&want.logits).map(|(a, b)| (a - b).abs());
                    (got.token, apart.fold(0.0, f32::max))
                });
                self.wrong(
                    "classify",
                    case,
                    &format!("token and distance of logits {got:?}, not {}", want.token),
                );
            }
        }
    }

    /// In a session, over several turns; now and then it is given up.
    fn dialogue(&mut self) {
        let dialogue = self.soak.catalogue.dialogue(&mut self.random);
        let mut held = Held::new(&self.soak.model);
        for (number, (step, expected)) in dialogue.steps.iter().zip(&dialogue.answers).enumerate() {
            if self.random.random_ratio(1, 5) {
                self.interrupted_fork(dialogue, number, &held);
            }
            let Some((prompt, options)) = held.begin(step, &dialogue.options) else { continue };
            let (expected, finish) = expected.as_ref().expect("a turn");
            let given_up = self.random.random_ratio(1, 12);
            let mut got = Answer::default();
            let outcome = self.soak.model.generate(prompt, options, &mut |token: &Token| {
                got.push(token);
                !given_up
            });
            self.soak.compared.fetch_add(got.ids.len() as u64, Ordering::Relaxed);
            let right = match outcome.end {
                Ok(Finish::Callback) => given_up && got.begins(expected),
                end => end == Ok(*finish) && got == *expected,
            };
            if !right {
                let length = held.ids.len();
                self.note(
                    "dialogue",
                    format!("turn {number} behind {length} tokens: {got:?}, alone {expected:?}"),
                );
            }
            held.said(&got);
            let tokens = held.session.tokens();
            if tokens.as_ref() != Ok(&held.ids) {
                self.note("dialogue", format!("turn {number}: holds {tokens:?}, not {:?}", held.ids));
            }
            if given_up || !right {
                return;
            }
        }
    }

    /// What a fork goes through has no influence on the session, which goes on meanwhile.
    fn interrupted_fork(&mut self, dialogue: &Dialogue, number: usize, held: &Held) {
        let Step::Append(prompt) = &dialogue.steps[number] else { return };
        let mut fork = held.fork().unwrap();
        let cancel = Arc::new(Cancel::default());
        let options = GenerateOptions { cancel: Some(cancel.clone()), ..dialogue.options.clone() };
        let (prompt_ids, options) = fork.begin(&Step::Append(prompt.clone()), &options).expect("a turn");
        let mut stream = self.soak.model.stream(prompt_ids, options).unwrap();
        let mut got = Answer::default();
        for _ in 0..self.random.random_range(0..6) {
            match stream.next() {
                Ok(Some(token)) => got.push(&token),
                _ => break,
            }
        }
        if self.random.random_bool(0.5) {
            cancel.trigger();
        }
        drop(stream);
        let (expected, _) = dialogue.answers[number].as_ref().expect("a turn");
        if !got.begins(expected) {
            self.note("fork", format!("turn {number}: {got:?} is no beginning of {expected:?}"));
        }
    }

    fn check_whole(&self, kind: &'static str, case: &Case, got: &Answer, end: Result<Finish>) {
        self.soak.compared.fetch_add(got.ids.len() as u64, Ordering::Relaxed);
        if end != Ok(case.finish) || *got != case.answer {
            self.wrong(kind, case, &format!("{end:?} {got:?}"));
        }
    }

    fn check_beginning(&self, kind: &'static str, case: &Case, got: &Answer) {
        self.soak.compared.fetch_add(got.ids.len() as u64, Ordering::Relaxed);
        if !got.begins(&case.answer) {
            self.wrong(kind, case, &format!("{got:?}, which is no beginning"));
        }
    }

    fn wrong(&self, kind: &'static str, case: &Case, got: &str) {
        let Case { prompt, options, answer, finish, .. } = case;
        let length = prompt.len();
        self.note(kind, format!("{got}; alone {finish:?} {answer:?}; prompt of {length} ids, {options:?}"));
    }

    fn note(&self, kind: &'static str, what: String) {
        self.soak.wrong.lock().entry(kind).or_default().push(what);
    }
}
