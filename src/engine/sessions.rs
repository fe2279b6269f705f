//! The sessions of a model, on its engine thread.

use super::context::Context;
use super::kv_memory::KvMemory;
use super::request::Shared;
use super::session_file;
use crate::error::{Error, Result, without_panic};
use crate::models::Model;
use crate::nn::CacheOptions;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// How a request goes on from a session.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionUse {
    pub id: u64,
    /// The prompt is the whole conversation, of which the session may hold the beginning; otherwise it
    /// stands behind what the session holds.
    pub whole: bool,
}

/// What can be asked of a session; the answer goes to the sender.
pub(super) enum SessionCommand {
    /// All tokens.
    Tokens(Sender<Result<Vec<i32>>>),
    /// Forget what stands behind so many tokens.
    Rewind(usize, Sender<Result<()>>),
    /// Go on in a second session of this number too.
    Fork(u64, Sender<Result<()>>),
    Export(PathBuf, Sender<Result<()>>),
    /// Begin from a file.
    Import(PathBuf, Sender<Result<()>>),
    Free,
}

/// A session between its requests, or the place it left.
enum Place {
    /// With what the last request's caller has not taken.
    Idle(Context, Option<Arc<Shared>>),
    /// A request has it. `freed`: nobody wants it back.
    InUse { freed: bool },
}

/// All sessions that hold something or are in use.
pub(super) struct Sessions<'m> {
    model: &'m dyn Model,
    options: CacheOptions,
    fingerprint: String,
    places: HashMap<u64, Place>,
}

impl<'m> Sessions<'m> {
    pub fn new(model: &'m dyn Model, options: CacheOptions, fingerprint: String) -> Self {
        Sessions { model, options, fingerprint, places: HashMap::new() }
    }

    /// Keeps others from a session until [`Sessions::put_back`]; gives what it holds, and the last request if
    /// its caller is still to take tokens.
    pub fn take(&mut self, id: u64) -> Result<(Context, Option<Arc<Shared>>)> {
        let taken = match self.places.insert(id, Place::InUse { freed: false }) {
            None => Context::new(self.model, self.options).map(|context| (context, None)),
            Some(Place::Idle(context, last)) => self.without_untaken(context, last),
            Some(in_use) => {
                self.places.insert(id, in_use);
                return Err(Error::Busy("the session is in use by another call".into()));
            }
        };
        if taken.is_err() {
            self.lose(id);
        }
        taken
    }

    /// The engine runs ahead of a caller; what it left behind is no part of the conversation.
    fn without_untaken(
        &self,
        mut context: Context,
        last: Option<Arc<Shared>>,
    ) -> Result<(Context, Option<Arc<Shared>>)> {
        let Some(shared) = last else { return Ok((context, None)) };
        if !shared.is_abandoned() {
            return Ok((context, Some(shared)));
        }
        if shared.untaken() > 0 {
            context.rewind(self.model, context.ids.len().saturating_sub(shared.untaken()))?;
        }
        Ok((context, None))
    }

    /// Ends what [`Sessions::take`] began. `last`: the request that it was for.
    pub fn put_back(&mut self, id: u64, context: Context, last: Option<Arc<Shared>>) {
        match self.places.remove(&id) {
            Some(Place::InUse { freed: true }) => {}
            _ => drop(self.places.insert(id, Place::Idle(context, last))),
        }
    }

    /// Ends what [`Sessions::take`] began without a context, because MLX failed: the session is empty.
    pub fn lose(&mut self, id: u64) {
        self.places.remove(&id);
    }

    /// Bytes that idle sessions hold, by the formula.
    pub fn idle_bytes(&self, memory: &KvMemory) -> usize {
        let idle = self.places.values().filter_map(|place| match place {
            Place::Idle(context, _) => Some(memory.needed(context.seen)),
            Place::InUse { .. } => None,
        });
        idle.sum()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.places.len()
    }

    /// Does what a caller asks. A caller that is gone needs no answer.
    pub fn run(&mut self, id: u64, command: SessionCommand) {
        match command {
            SessionCommand::Tokens(reply) => {
                let _ = reply.send(self.with(id, |context, _| Ok(context.ids.clone())));
            }
            SessionCommand::Rewind(length, reply) => {
                let rewound = self.with(id, |context, sessions| match context.ids.len() {
                    held if length > held => {
                        Err(Error::BadArgument(format!("the session has {held} tokens, not {length}")))
                    }
                    _ => context.rewind(sessions.model, length),
                });
                let _ = reply.send(rewound);
            }
            SessionCommand::Fork(copy, reply) => {
                let forked = self.with(id, |context, _| context.fork());
                let forked = forked.map(|context| drop(self.places.insert(copy, Place::Idle(context, None))));
                let _ = reply.send(forked);
            }
            SessionCommand::Export(path, reply) => {
                let exported = self
                    .with(id, |context, sessions| session_file::write(&path, context, &sessions.fingerprint));
                let _ = reply.send(exported);
            }
            SessionCommand::Import(path, reply) => {
                let read = || session_file::read(&path, self.model, self.options, &self.fingerprint);
                let read = without_panic(read).flatten();
                let _ =
                    reply.send(read.map(|context| drop(self.places.insert(id, Place::Idle(context, None)))));
            }
            SessionCommand::Free => match self.places.get_mut(&id) {
                Some(Place::InUse { freed }) => *freed = true,
                _ => drop(self.places.remove(&id)),
            },
        }
    }

    fn with<T>(&mut self, id: u64, work: impl FnOnce(&mut Context, &Self) -> Result<T>) -> Result<T> {
        let (mut context, last) = self.take(id)?;
        let result = without_panic(|| work(&mut context, self)).flatten();
        self.put_back(id, context, last);
        result
    }
}
