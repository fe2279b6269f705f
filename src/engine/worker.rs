//! The engine thread: it makes the model, gives each request its turn, and takes everything of MLX
//! down with it.

use super::load::{LoadedModel, load};
use super::options::{LoadOptions, ModelInfo};
use super::task::{Event, Request, Step, Task};
use super::threads::{self, Running};
use super::{Cancel, gguf};
use crate::error::{Error, Result, without_panic};
use crate::mlx;
use crate::models::Config;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

/// What other threads send.
pub(super) enum Command {
    Generate(Request),
    /// A waiting task may go on, or the worker is to look at `closing`.
    Wake,
}

/// What the worker tells while it loads.
pub(super) enum Loading {
    Progress(u64, u64),
    Ready(ModelInfo),
    Failed(Error),
}

/// The other side's ends.
pub(super) struct Worker {
    pub commands: Sender<Command>,
    pub loading: Receiver<Loading>,
    pub closing: Arc<Cancel>,
    pub running: Running,
}

/// Starts the thread, which begins to load at once.
pub(super) fn start(
    path: PathBuf,
    gguf: Option<Arc<gguf::Model>>,
    config: Config,
    options: LoadOptions,
) -> Result<Worker> {
    let (command_sender, commands) = channel();
    let (loading_sender, loading) = channel();
    let closing = Arc::new(Cancel::default());
    let shared = closing.clone();
    let running = threads::run(move || {
        let cancelled =
            || shared.is_triggered() || options.cancel.as_ref().is_some_and(|cancel| cancel.is_triggered());
        let progress = |done, total| {
            let _ = loading_sender.send(Loading::Progress(done, total));
            !cancelled()
        };
        let made = without_panic(|| load(&path, gguf.as_deref(), &config, &options, &progress));
        drop(gguf);
        let loaded = match made.flatten() {
            Ok(loaded) => loaded,
            Err(error) => {
                give_memory_back();
                let _ = loading_sender.send(Loading::Failed(error));
                return;
            }
        };
        let _ = loading_sender.send(Loading::Ready(loaded.info.clone()));
        serve(&loaded, &commands, &shared);
        drop(loaded);
        give_memory_back();
    })?;
    Ok(Worker { commands: command_sender, loading, closing, running })
}

/// MLX keeps freed memory for reuse; a model that is gone needs none.
fn give_memory_back() {
    let _ = mlx::memory::clear_cache();
}

/// Serves requests until the model is closed. Each task has one step a round.
fn serve(loaded: &LoadedModel, commands: &Receiver<Command>, closing: &Cancel) {
    let mut tasks: VecDeque<Task> = VecDeque::new();
    loop {
        let mut idle = true;
        for _ in 0..tasks.len() {
            let mut task = tasks.pop_front().expect("counted");
            let model = &*loaded.model;
            let step = without_panic(|| task.step(model, closing));
            match step {
                Ok(Step::More) => idle = false,
                Ok(Step::Waits) => {}
                Ok(Step::Done) => continue,
                Err(error) => {
                    task.end(Err(error));
                    continue;
                }
            }
            tasks.push_back(task);
        }
        // With nothing to compute the thread sleeps until something is sent.
        let mut next =
            if idle { commands.recv().map_err(|_| TryRecvError::Disconnected) } else { commands.try_recv() };
        while let Ok(command) = next {
            match command {
                Command::Generate(request) if closing.is_triggered() => {
                    let _ = request.events.send(Event::End(Err(Error::Closed)));
                }
                Command::Generate(request) => tasks.push_back(Task::new(request, &*loaded.model)),
                Command::Wake => {}
            }
            next = commands.try_recv();
        }
        if closing.is_triggered() || matches!(next, Err(TryRecvError::Disconnected)) {
            break;
        }
    }
    for task in tasks {
        task.end(Err(Error::Closed));
    }
    while let Ok(command) = commands.try_recv() {
        if let Command::Generate(request) = command {
            let _ = request.events.send(Event::End(Err(Error::Closed)));
        }
    }
}
