//! What the engine is doing, readable from any thread.

use parking_lot::Mutex;
use std::time::Duration;

/// Figures of one model since it was loaded, and the present ones.
#[derive(Debug, Clone, Copy, Default)]
pub struct ModelStats {
    /// Requests that wait to be begun with.
    pub waiting: usize,
    /// Requests under way.
    pub running: usize,
    /// Sessions that hold tokens or are in use.
    pub sessions: usize,
    /// Bytes of keys, values and states that running requests may come to take.
    pub kv_promised: usize,
    /// Bytes that requests and idle sessions may take together.
    pub kv_budget: usize,
    /// Bytes that the prefix cache holds.
    pub prefix_bytes: usize,
    /// Prompts that it holds.
    pub prefix_entries: usize,
    /// Tokens of prompts, in all requests that were begun with.
    pub prompt_tokens: u64,
    /// Those of them that needed no prefill.
    pub cached_tokens: u64,
    /// Steps computed.
    pub steps: u64,
    /// Tokens that the model was run on.
    pub tokens: u64,
    /// Time in steps.
    pub step_time: Duration,
    /// The part of it in which the model was computed; on a GPU without the time in which its graph was built.
    pub evaluation_time: Duration,
}

/// Shared by the engine thread and those who look.
#[derive(Debug, Default)]
pub(super) struct Stats(Mutex<ModelStats>);

impl Stats {
    pub fn update(&self, change: impl FnOnce(&mut ModelStats)) {
        change(&mut self.0.lock());
    }

    pub fn read(&self) -> ModelStats {
        *self.0.lock()
    }
}
