//! Many prompts at once: answers to all of them, or the next token's logits of each.

use super::answer::{Answer, Finish, Outcome, Progress, Token};
use super::model::Model;
use super::options::GenerateOptions;
use super::request::{Event, Reply, Work};
use super::stream::next_event;
use crate::error::{Error, Result};
use std::sync::mpsc::{Receiver, channel};

/// The next token behind a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Classification {
    /// The most likely token.
    pub token: i32,
    /// Its probability.
    pub probability: f32,
    /// The logits of all tokens, or of the labels in their order.
    pub logits: Vec<f32>,
}

/// A prompt of a batch: refused at once, under way, or over.
struct Item<T> {
    answer: Option<Answer>,
    result: Option<Result<T>>,
}

/// Requests under way whose events come over one channel.
struct Requests<T> {
    items: Vec<Item<T>>,
    events: Receiver<(usize, Event)>,
}

impl<T> Requests<T> {
    fn submit(
        model: &Model,
        prompts: Vec<Vec<i32>>,
        options: &GenerateOptions,
        work: impl Fn() -> Work,
    ) -> Self {
        let (events, receiver) = channel();
        let item = |(index, prompt)| {
            let reply = Reply { events: events.clone(), index };
            match model.submit(prompt, options.clone(), work(), reply, true) {
                Ok(answer) => Item { answer: Some(answer), result: None },
                Err(error) => Item { answer: None, result: Some(Err(error)) },
            }
        };
        Requests { items: prompts.into_iter().enumerate().map(item).collect(), events: receiver }
    }

    /// The next event of a request that is still under way, until none is.
    fn next(&mut self) -> Option<(usize, Result<Progress>)> {
        loop {
            let open = self.items.iter().position(|item| item.result.is_none())?;
            let answer = self.items[open].answer.as_ref().expect("under way");
            let (index, event) = match next_event(&self.events, answer) {
                Ok(event) => event,
                Err(error) => return Some((open, Err(error))),
            };
            if self.items[index].result.is_none()
                && let Some(answer) = &mut self.items[index].answer
            {
                return Some((index, answer.take(event)));
            }
        }
    }
}

impl Model {
    /// Answers many prompts together. `on_token` is told the number of the prompt and runs on the calling
    /// thread; false stops that prompt's answer. The outcomes are in the prompts' order; each tells how
    /// its prompt ended, a refusal included. When the options' cancel handle is triggered those that are
    /// not over end with [`Error::Cancelled`].
    pub fn generate_batch(
        &self,
        prompts: Vec<Vec<i32>>,
        options: &GenerateOptions,
        on_token: &mut dyn FnMut(usize, &Token) -> bool,
    ) -> Vec<Outcome> {
        let mut requests: Requests<Finish> = Requests::submit(self, prompts, options, || Work::Generate);
        while let Some((index, progress)) = requests.next() {
            let end = match progress {
                Err(error) => Err(error),
                Ok(Progress::Token(token)) if on_token(index, &token) => continue,
                Ok(Progress::Token(_)) => Ok(Finish::Callback),
                Ok(Progress::Last(token, finish)) => {
                    let wanted = token.is_none_or(|token| on_token(index, &token));
                    Ok(if wanted { finish } else { Finish::Callback })
                }
                Ok(Progress::Scores { .. }) => Err(Error::Internal("scores of an answer".into())),
            };
            requests.items[index].result = Some(end);
            if let Some(answer) = &requests.items[index].answer {
                answer.abandon();
            }
        }
        let outcome = |item: Item<Finish>| Outcome {
            end: item.result.unwrap_or(Err(Error::Closed)),
            summary: item.answer.map(|answer| answer.summary()).unwrap_or_default(),
        };
        requests.items.into_iter().map(outcome).collect()
    }

    /// The next token behind each prompt, without generating: one prefill each, together. `labels`: the
    /// ids whose logits are wanted; `None`: all. The results are in the prompts' order.
    pub fn classify(
        &self,
        prompts: Vec<Vec<i32>>,
        labels: Option<Vec<i32>>,
        options: &GenerateOptions,
    ) -> Vec<Result<Classification>> {
        if let Some(labels) = &labels
            && let Err(error) = super::options::check_ids("labels", labels, self.info().vocab_size)
        {
            return prompts.iter().map(|_| Err(error.clone())).collect();
        }
        let mut requests = Requests::submit(self, prompts, options, || Work::Classify(labels.clone()));
        while let Some((index, progress)) = requests.next() {
            let result = match progress {
                Ok(Progress::Scores { best, best_logprob, logits }) => {
                    Ok(Classification { token: best, probability: best_logprob.exp(), logits })
                }
                Ok(_) => Err(Error::Internal("a classification without scores".into())),
                Err(error) => Err(error),
            };
            requests.items[index].result = Some(result);
        }
        let result = |item: Item<Classification>| item.result.unwrap_or(Err(Error::Closed));
        requests.items.into_iter().map(result).collect()
    }
}
