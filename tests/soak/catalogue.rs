//! Requests whose answers are known, because they were made alone.

use super::common;
use super::dialogue::{self, Dialogue};
use mlxrt::engine::{Classification, Conversation, Finish, GenerateOptions, Model, Outcome, Sampling, Token};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

/// Requests that share their options lie so far from each other.
pub const OPTIONS: usize = 12;

/// What came of a request, or of its beginning.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    pub ids: Vec<i32>,
    pub text: String,
}

impl Answer {
    /// For a callback.
    pub fn push(&mut self, token: &Token) {
        self.ids.extend(token.id);
        self.text += &token.text;
    }

    /// Whether it is the beginning of another.
    pub fn begins(&self, whole: &Answer) -> bool {
        whole.ids.starts_with(&self.ids) && whole.text.starts_with(&self.text)
    }
}

/// A request and what it gets alone.
pub struct Case {
    pub prompt: Vec<i32>,
    pub options: GenerateOptions,
    pub answer: Answer,
    pub finish: Finish,
    pub next: Classification,
}

/// Case `i` has option set `i % OPTIONS`.
pub struct Catalogue {
    pub cases: Vec<Case>,
    pub dialogues: Vec<Dialogue>,
}

impl Catalogue {
    /// Answers `count` requests, one after the other.
    pub fn make(model: &Model, count: usize, seed: u64) -> Self {
        let mut random = Pcg64::seed_from_u64(seed);
        let questions = questions(model);
        let options: Vec<_> = (0..OPTIONS).map(|number| options(number, &mut random)).collect();
        let case = |number: usize| {
            let prompt = match number % 3 {
                0 => ids(model, &mut random),
                _ => questions[random.random_range(0..questions.len())].clone(),
            };
            alone(model, prompt, options[number % OPTIONS].clone())
        };
        let cases = (0..count).map(case).collect();
        Catalogue { cases, dialogues: dialogue::make(model, count / 4, &options, seed) }
    }

    /// One of them.
    pub fn any(&self, random: &mut Pcg64) -> &Case {
        &self.cases[random.random_range(0..self.cases.len())]
    }

    /// One of the conversations.
    pub fn dialogue(&self, random: &mut Pcg64) -> &Dialogue {
        &self.dialogues[random.random_range(0..self.dialogues.len())]
    }

    /// A few with the same options.
    pub fn alike(&self, random: &mut Pcg64) -> Vec<&Case> {
        let set = random.random_range(0..OPTIONS);
        let cases: Vec<_> = self.cases.iter().skip(set).step_by(OPTIONS).collect();
        let count = random.random_range(1..=6);
        (0..count).map(|_| cases[random.random_range(0..cases.len())]).collect()
    }
}

fn alone(model: &Model, prompt: Vec<i32>, options: GenerateOptions) -> Case {
    let mut answer = Answer::default();
    let Outcome { end, .. } = model.generate(prompt.clone(), options.clone(), &mut |token| {
        answer.push(token);
        true
    });
    let next = model.classify(vec![prompt.clone()], None, &options).remove(0).unwrap();
    Case { prompt, options, answer, finish: end.unwrap(), next }
}

/// What the demo model knows to answer.
fn questions(model: &Model) -> Vec<Vec<i32>> {
    let file = std::fs::read(common::root().join("demo/questions.json")).unwrap();
    let questions: Vec<serde_json::Value> = serde_json::from_slice(&file).unwrap();
    let question = |entry: &serde_json::Value| {
        let conversation = Conversation::new([("user", entry["question"].as_str().unwrap())]);
        model.tokenize_chat(conversation, false).unwrap()
    };
    questions.iter().map(question).collect()
}

/// Ids of every length: mostly short, some over several chunks, some up to the end of the context.
pub fn ids(model: &Model, random: &mut Pcg64) -> Vec<i32> {
    let context = model.info().context_length as usize;
    let length = match random.random_range(0..8) {
        0 => random.random_range(context - 40..context),
        1 => random.random_range(200..500),
        _ => random.random_range(1..100),
    };
    (0..length).map(|_| random.random_range(0..model.info().vocab_size as i32)).collect()
}

fn options(number: usize, random: &mut Pcg64) -> GenerateOptions {
    let sampled = Sampling { temperature: 1.0, seed: Some(random.random()), ..Default::default() };
    let sampling = match number % 6 {
        0 | 1 => Sampling::default(),
        2 => sampled,
        3 => Sampling { top_k: 20, temperature: 1.5, ..sampled },
        4 => Sampling { top_p: 0.9, min_p: 0.02, ..sampled },
        _ => Sampling { repetition_penalty: 1.3, repetition_window: 32, ..sampled },
    };
    let stop_strings: &[&str] = if number % 4 == 1 { &["is", " the", "7"] } else { &[] };
    GenerateOptions {
        max_tokens: random.random_range(1..80),
        sampling,
        ignore_end: number % 3 == 2,
        stop_tokens: if number % 5 == 4 { vec![random.random_range(0..1024)] } else { vec![] },
        stop_strings: stop_strings.iter().map(|text| text.to_string()).collect(),
        ..Default::default()
    }
}
