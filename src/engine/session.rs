//! Conversations that keep their caches between turns, as callers on any thread see them.

use super::Cancel;
use super::model::Model;
use super::sessions::{SessionCommand, SessionUse};
use super::worker::Command;
use crate::error::{Error, Result};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};

/// Numbers of sessions; none is used twice.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A conversation of one model. A request that names it in its options goes on from it and leaves its
/// tokens there, the prompt's and the answer's as far as the caller took it. Dropping it frees its memory.
#[derive(Debug)]
pub struct Session {
    id: u64,
    /// The model's, which tells it from others.
    closing: Arc<Cancel>,
    commands: Sender<Command>,
}

impl Session {
    /// A new conversation, without tokens.
    pub fn new(model: &Model) -> Self {
        let (closing, commands) = model.ends();
        Session { id: NEXT.fetch_add(1, Ordering::Relaxed), closing, commands }
    }

    /// One that a file holds, written by [`Session::export`] with the same model.
    pub fn import(model: &Model, path: &Path) -> Result<Self> {
        let session = Session::new(model);
        session.ask(|reply| SessionCommand::Import(path.to_path_buf(), reply))?;
        Ok(session)
    }

    /// All tokens in order.
    pub fn tokens(&self) -> Result<Vec<i32>> {
        self.ask(SessionCommand::Tokens)
    }

    /// Forgets what stands behind the first `length` tokens.
    pub fn rewind(&self, length: usize) -> Result<()> {
        self.ask(|reply| SessionCommand::Rewind(length, reply))
    }

    /// A second conversation that begins with the same tokens. What both hold is held once.
    pub fn fork(&self) -> Result<Self> {
        let (closing, commands) = (self.closing.clone(), self.commands.clone());
        let fork = Session { id: NEXT.fetch_add(1, Ordering::Relaxed), closing, commands };
        self.ask(|reply| SessionCommand::Fork(fork.id, reply))?;
        Ok(fork)
    }

    /// Writes tokens and caches to a file, which appears when it is complete.
    pub fn export(&self, path: &Path) -> Result<()> {
        self.ask(|reply| SessionCommand::Export(path.to_path_buf(), reply))
    }

    /// Whether it is a conversation with this model.
    pub(super) fn is_of(&self, model: &Model) -> bool {
        Arc::ptr_eq(&self.closing, &model.ends().0)
    }

    /// For a request whose prompt is the `whole` conversation, or what comes behind the session's tokens.
    pub(super) fn to_use(&self, whole: bool) -> SessionUse {
        SessionUse { id: self.id, whole }
    }

    fn ask<T>(&self, command: impl FnOnce(Sender<Result<T>>) -> SessionCommand) -> Result<T> {
        let (reply, answer) = channel();
        let command = Command::Session(self.id, command(reply));
        self.commands.send(command).map_err(|_| Error::Closed)?;
        answer.recv().unwrap_or(Err(Error::Closed))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Session(self.id, SessionCommand::Free));
    }
}
