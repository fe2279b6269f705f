//! Conversations in sessions. What is said in them is known, because they were held alone before.

use super::catalogue::{Answer, ids};
use mlxrt::engine::{Finish, GenerateOptions, Model, Session, Token};
use mlxrt::error::Result;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use std::sync::Arc;

/// What is done with a session, one thing after the other.
pub enum Step {
    /// A prompt stands behind what the session holds.
    Append(Vec<i32>),
    /// The whole conversation comes again, but for so many of its last tokens, and a prompt behind it.
    Whole(usize, Vec<i32>),
    /// So many tokens are forgotten.
    Rewind(usize),
    /// A fork goes on in place of the session.
    Fork,
}

/// A conversation and what was said in it; for steps that are no turns nothing.
pub struct Dialogue {
    pub steps: Vec<Step>,
    pub options: GenerateOptions,
    pub answers: Vec<Option<(Answer, Finish)>>,
}

impl Dialogue {
    /// Holds one alone.
    pub fn alone(model: &Model, options: GenerateOptions, random: &mut Pcg64) -> Self {
        let steps = steps(model, random);
        let mut held = Held::new(model);
        let answers = steps.iter().map(|step| {
            let (prompt, options) = held.begin(step, &options)?;
            let mut answer = Answer::default();
            let outcome = model.generate(prompt, options, &mut |token: &Token| {
                answer.push(token);
                true
            });
            held.said(&answer);
            Some((answer, outcome.end.unwrap()))
        });
        let answers = answers.collect();
        Dialogue { steps, options, answers }
    }
}

/// A session and the tokens that it should hold.
pub struct Held {
    pub session: Arc<Session>,
    pub ids: Vec<i32>,
}

impl Held {
    pub fn new(model: &Model) -> Self {
        Held { session: Arc::new(Session::new(model)), ids: vec![] }
    }

    /// Another that goes on from here.
    pub fn fork(&self) -> Result<Self> {
        Ok(Held { session: Arc::new(self.session.fork()?), ids: self.ids.clone() })
    }

    /// Does a step. If it is a turn: what is to be generated, and [`Held::said`] follows.
    pub fn begin(&mut self, step: &Step, options: &GenerateOptions) -> Option<(Vec<i32>, GenerateOptions)> {
        let mut options = GenerateOptions { session: Some(self.session.clone()), ..options.clone() };
        let prompt = match step {
            Step::Append(prompt) => {
                self.ids.extend(prompt);
                prompt.clone()
            }
            Step::Whole(without, prompt) => {
                options.whole_conversation = true;
                self.forget(*without);
                self.ids.extend(prompt);
                self.ids.clone()
            }
            Step::Rewind(by) => {
                self.forget(*by);
                self.session.rewind(self.ids.len()).unwrap();
                return None;
            }
            Step::Fork => {
                *self = self.fork().unwrap();
                return None;
            }
        };
        Some((prompt, options))
    }

    /// Notes what came of a turn.
    pub fn said(&mut self, answer: &Answer) {
        self.ids.extend(&answer.ids);
    }

    fn forget(&mut self, by: usize) {
        self.ids.truncate(self.ids.len().saturating_sub(by));
    }
}

/// Begins with a turn. All together fits the context.
fn steps(model: &Model, random: &mut Pcg64) -> Vec<Step> {
    let turn = |random: &mut Pcg64| {
        let mut prompt = ids(model, random);
        prompt.truncate(random.random_range(1..120));
        prompt
    };
    let mut steps = vec![Step::Append(turn(random))];
    for _ in 0..random.random_range(2..6) {
        steps.push(match random.random_range(0..6) {
            0..=2 => Step::Append(turn(random)),
            3 => Step::Whole(random.random_range(0..60), turn(random)),
            4 => Step::Rewind(random.random_range(0..80)),
            _ => Step::Fork,
        });
    }
    steps
}

/// Conversations, each with a set of options.
pub fn make(model: &Model, count: usize, options: &[GenerateOptions], seed: u64) -> Vec<Dialogue> {
    let mut random = Pcg64::seed_from_u64(seed ^ 0x5e55);
    (0..count)
        .map(|number| {
            let mut options = options[number % options.len()].clone();
            options.max_tokens = options.max_tokens.min(40);
            Dialogue::alone(model, options, &mut random)
        })
        .collect()
}
