//! A flag that stops work from another thread.

use std::sync::atomic::{AtomicBool, Ordering};

/// Shared by whoever may cancel and whoever looks.
#[derive(Debug, Default)]
pub struct Cancel(AtomicBool);

impl Cancel {
    /// Asks to stop.
    pub fn trigger(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Makes the flag ready for another use.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Release);
    }

    /// Whether to stop.
    pub fn is_triggered(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
