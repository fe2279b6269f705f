//! Many prompts at once: answers to all of them, or the next token's logits of each.

use super::answer::{Answer, Finish, Outcome, Progress, Token};
use super::model::Model;
use super::options::GenerateOptions;
use super::request::{Event, Reply, Work};
use super::stream::next_event;
use crate::error::{Error, Result};
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};

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

/// A prompt of a batch.
struct Item<T> {
    prompt: Vec<i32>,
    /// `None`: it waits, or was refused at once.
    answer: Option<Answer>,
    result: Option<Result<T>>,
}

/// Requests whose events come over one channel.
struct Requests<'m, T> {
    model: &'m Model,
    options: &'m GenerateOptions,
    work: &'m dyn Fn() -> Work,
    items: Vec<Item<T>>,
    /// Items that the engine does not know of.
    waiting: VecDeque<usize>,
    /// How many it may know of at once: twice what it computes, so that others find room in its queue.
    most: usize,
    under_way: usize,
    events: Sender<(usize, Event)>,
    receiver: Receiver<(usize, Event)>,
}

impl<'m, T> Requests<'m, T> {
    fn new(
        model: &'m Model,
        prompts: Vec<Vec<i32>>,
        options: &'m GenerateOptions,
        work: &'m dyn Fn() -> Work,
    ) -> Self {
        let (events, receiver) = channel();
        let waiting = (0..prompts.len()).collect();
        let item = |prompt| Item { prompt, answer: None, result: None };
        let items = prompts.into_iter().map(item).collect();
        let most = 2 * model.max_concurrent();
        Requests { model, options, work, items, waiting, most, under_way: 0, events, receiver }
    }

    fn send(&mut self, index: usize) -> Result<Answer> {
        if self.options.session.is_some() {
            return Err(Error::BadArgument("a session goes with one prompt, not with a batch".into()));
        }
        let reply = Reply { events: self.events.clone(), index };
        let prompt = self.items[index].prompt.clone();
        self.model.submit(prompt, self.options.clone(), (self.work)(), reply, true)
    }

    /// Has as many requests under way as there may be.
    fn feed(&mut self) {
        while self.under_way < self.most
            && let Some(index) = self.waiting.pop_front()
        {
            match self.send(index) {
                Ok(answer) => {
                    self.items[index].answer = Some(answer);
                    self.under_way += 1;
                }
                Err(error) => self.items[index].result = Some(Err(error)),
            }
        }
    }

    /// The next event of a request that is not over, until all are.
    fn next(&mut self) -> Option<(usize, Result<Progress>)> {
        loop {
            self.feed();
            let is_open = |item: &Item<T>| item.result.is_none() && item.answer.is_some();
            let open = self.items.iter().position(is_open)?;
            let answer = self.items[open].answer.as_ref().expect("looked at");
            let (index, event) = match next_event(&self.receiver, answer) {
                Ok(event) => event,
                Err(error) => return Some((open, Err(error))),
            };
            if !is_open(&self.items[index]) {
                continue;
            }
            if let Event::End(Err(Error::Busy(_)), _) = &event
                && self.under_way > 1
            {
                // Others fill the queue: it waits until one of this batch is over.
                self.items[index].answer = None;
                self.waiting.push_front(index);
                self.under_way -= 1;
                self.most = self.under_way;
                continue;
            }
            let answer = self.items[index].answer.as_mut().expect("it is open");
            return Some((index, answer.take(event)));
        }
    }

    /// Notes how a request ended.
    fn finish(&mut self, index: usize, result: Result<T>) {
        if let Some(answer) = &self.items[index].answer {
            answer.abandon();
        }
        self.items[index].result = Some(result);
        self.under_way -= 1;
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
        let mut requests: Requests<Finish> = Requests::new(self, prompts, options, &|| Work::Generate);
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
            requests.finish(index, end);
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
        let work = || Work::Classify(labels.clone());
        let mut requests = Requests::new(self, prompts, options, &work);
        while let Some((index, progress)) = requests.next() {
            let result = match progress {
                Ok(Progress::Scores { best, best_logprob, logits }) => {
                    Ok(Classification { token: best, probability: best_logprob.exp(), logits })
                }
                Ok(_) => Err(Error::Internal("a classification without scores".into())),
                Err(error) => Err(error),
            };
            requests.finish(index, result);
        }
        let result = |item: Item<Classification>| item.result.unwrap_or(Err(Error::Closed));
        requests.items.into_iter().map(result).collect()
    }
}
