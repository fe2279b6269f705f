//! The tokens of one answer, taken one by one on the caller's thread.

use super::answer::{Answer, Finish, Outcome, Progress, Summary, Token};
use super::request::Event;
use crate::error::{Error, Result};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// How long a caller sleeps between looks at its cancel handle. The engine looks too, but may be in
/// the middle of somebody else's prompt.
const CANCEL_POLL: Duration = Duration::from_millis(5);

/// An answer under way. Dropping it ends the request.
pub struct Stream {
    answer: Answer,
    events: Receiver<(usize, Event)>,
    end: Option<Result<Finish>>,
}

impl Stream {
    pub(super) fn new(answer: Answer, events: Receiver<(usize, Event)>) -> Self {
        Stream { answer, events, end: None }
    }

    /// Waits for the next token. `None`: the answer is complete. After that and after an error it gives the
    /// same again.
    #[allow(clippy::should_implement_trait)] // An iterator could not tell an end from an error.
    pub fn next(&mut self) -> Result<Option<Token>> {
        if let Some(end) = &self.end {
            return end.clone().map(|_| None);
        }
        let event = next_event(&self.events, &self.answer);
        match event.and_then(|(_, event)| self.answer.take(event)) {
            Ok(Progress::Token(token)) => Ok(Some(token)),
            Ok(Progress::Scores { .. }) => self.fail(Error::Internal("scores in a stream".into())),
            Ok(Progress::Last(token, finish)) => {
                self.end = Some(Ok(finish));
                Ok(token)
            }
            Err(error) => self.fail(error),
        }
    }

    fn fail(&mut self, error: Error) -> Result<Option<Token>> {
        self.end = Some(Err(error.clone()));
        Err(error)
    }

    /// Why the answer ended, if it did and was not cut short.
    pub fn finish(&self) -> Option<Finish> {
        self.end.as_ref().and_then(|end| end.as_ref().ok()).copied()
    }

    /// What it took so far.
    pub fn summary(&self) -> Summary {
        self.answer.summary()
    }

    /// Shows every token to `on_token`; false stops.
    pub fn drain(mut self, on_token: &mut dyn FnMut(&Token) -> bool) -> Outcome {
        let end = loop {
            match self.next() {
                Ok(Some(token)) if on_token(&token) => {}
                Ok(Some(_)) => break Ok(Finish::Callback),
                Ok(None) => break self.end.take().unwrap_or(Err(Error::Closed)),
                Err(error) => break Err(error),
            }
        };
        Outcome { end, summary: self.summary() }
    }
}

/// Waits for an event of the requests that `answer` is one of, or for their cancel handle.
pub(super) fn next_event(events: &Receiver<(usize, Event)>, answer: &Answer) -> Result<(usize, Event)> {
    loop {
        if answer.cancel.as_ref().is_some_and(|cancel| cancel.is_triggered()) {
            return Err(Error::Cancelled);
        }
        let event = match &answer.cancel {
            Some(_) => events.recv_timeout(CANCEL_POLL),
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match event {
            Ok(event) => return Ok(event),
            Err(RecvTimeoutError::Timeout) => {}
            // The engine thread drops a request without a word only when it is gone.
            Err(RecvTimeoutError::Disconnected) => return Err(Error::Closed),
        }
    }
}
