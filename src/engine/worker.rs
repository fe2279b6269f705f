//! The engine thread: it makes the model, gives each request its turn, and takes everything of MLX
//! down with it.

use super::load::{LoadedModel, load};
use super::options::{LoadOptions, ModelInfo};
use super::request::Request;
use super::scheduler::Scheduler;
use super::stats::Stats;
use super::threads::{self, Running};
use super::{Cancel, gguf};
use crate::error::{Error, Result, without_panic};
use crate::mlx;
use crate::models::Config;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

/// What other threads send.
pub(super) enum Command {
    Submit(Box<Request>),
    /// A waiting task may go on or was given up, or the worker is to look at `closing`.
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
    pub stats: Arc<Stats>,
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
    let stats = Arc::new(Stats::default());
    let worker_stats = stats.clone();
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
        let LoadedModel { model, info } = loaded;
        let context_length = info.context_length as usize;
        match Scheduler::new(&*model, context_length, options.serving.clone(), &shared, worker_stats) {
            Ok(scheduler) => {
                let _ = loading_sender.send(Loading::Ready(info));
                serve(scheduler, &commands, &shared);
            }
            Err(error) => drop(loading_sender.send(Loading::Failed(error))),
        }
        drop(model);
        give_memory_back();
    })?;
    Ok(Worker { commands: command_sender, loading, closing, running, stats })
}

/// MLX keeps freed memory for reuse; a model that is gone needs none.
fn give_memory_back() {
    let _ = mlx::memory::clear_cache();
}

/// Serves requests until the model is closed.
fn serve(mut scheduler: Scheduler, commands: &Receiver<Command>, closing: &Cancel) {
    loop {
        let busy = scheduler.step();
        // With nothing to compute the thread sleeps until something is sent.
        let mut next =
            if busy { commands.try_recv() } else { commands.recv().map_err(|_| TryRecvError::Disconnected) };
        while let Ok(command) = next {
            match command {
                Command::Submit(request) => scheduler.submit(*request),
                Command::Wake => {}
            }
            next = commands.try_recv();
        }
        if closing.is_triggered() || matches!(next, Err(TryRecvError::Disconnected)) {
            break;
        }
    }
    scheduler.close();
    while let Ok(command) = commands.try_recv() {
        if let Command::Submit(request) = command {
            request.refuse(Error::Closed);
        }
    }
}
