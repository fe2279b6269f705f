//! The engine threads. MLX's streams belong to threads, and MLX never ends the thread of its own that
//! stands behind a stream: a new engine thread for every model would leave one of MLX's behind for
//! each. So a thread whose model is gone waits for the next model.

use crate::error::{Error, Result};
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};

type Job = (Box<dyn FnOnce() + Send>, Sender<()>);

/// Where the threads that have nothing to do take their next job from.
static IDLE: Mutex<Vec<Sender<Job>>> = Mutex::new(Vec::new());

/// A job under way.
pub(super) struct Running(Receiver<()>);

impl Running {
    /// Waits until the job is over.
    pub fn wait(&self) {
        let _ = self.0.recv();
    }
}

/// Runs a job on an engine thread that does nothing else meanwhile.
pub(super) fn run(job: impl FnOnce() + Send + 'static) -> Result<Running> {
    let (done, running) = channel();
    let idle = IDLE.lock().pop();
    let thread = match idle {
        Some(thread) => thread,
        None => spawn()?,
    };
    let sent = thread.send((Box::new(job), done));
    sent.map_err(|_| Error::Internal("an engine thread has ended".into()))?;
    Ok(Running(running))
}

fn spawn() -> Result<Sender<Job>> {
    let (sender, jobs) = channel::<Job>();
    let own = sender.clone();
    let serve = move || {
        while let Ok((job, done)) = jobs.recv() {
            // Jobs report their own panics; one that still gets here must not cost the thread.
            let _ = catch_unwind(AssertUnwindSafe(job));
            // Idle before it is said: whoever loads a model next finds this thread.
            IDLE.lock().push(own.clone());
            drop(done);
        }
    };
    std::thread::Builder::new()
        .name("mlxrt-engine".into())
        .spawn(serve)
        .map_err(|error| Error::OutOfMemory(format!("no thread for the engine: {error}")))?;
    Ok(sender)
}
