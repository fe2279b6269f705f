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
    /// Steps computed.
    pub steps: u64,
    /// Tokens that the model was run on.
    pub tokens: u64,
    /// Time in steps.
    pub step_time: Duration,
    /// The part of it in which MLX evaluated; on the CPU prefill is evaluated layer by layer and not
    /// part of it.
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
