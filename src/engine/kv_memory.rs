//! How much memory requests may take for keys, values and states, and what each needs.

use super::context::new_caches;
use crate::error::{Error, Result};
use crate::mlx::{self, Array};
use crate::models::Model;
use crate::nn::{Batch, Cache, CacheOptions, Pass};

/// The budget of a model and the formula of its caches.
pub(super) struct KvMemory {
    /// Caches that know their shapes.
    probe: Vec<Cache>,
    /// The most tokens that are added at once.
    chunk: i32,
    /// Bytes.
    pub budget: usize,
}

impl KvMemory {
    /// `budget` `None`: half of the device's memory. The caches' shapes come from a pass that is built and
    /// not computed.
    pub fn new(
        model: &dyn Model,
        options: CacheOptions,
        chunk: usize,
        budget: Option<usize>,
    ) -> Result<Self> {
        let mut probe = new_caches(model, options)?;
        model.forward(&Array::from_i32(&[0], &[1, 1])?, &mut Batch::one(&mut probe, 1)?, &Pass::default())?;
        let budget = match budget {
            Some(bytes) => bytes,
            None => match mlx::device_info(mlx::thread_device()?)?.memory_bytes {
                0 => usize::MAX,
                bytes => bytes as usize / 2,
            },
        };
        Ok(KvMemory { probe, chunk: chunk as i32, budget })
    }

    /// Bytes that a conversation of so many tokens takes.
    pub fn needed(&self, tokens: usize) -> usize {
        let bytes = |cache: &Cache| cache.bytes_for(tokens as i32, self.chunk).unwrap_or(0);
        self.probe.iter().map(bytes).sum()
    }

    /// Whether a request that needs so many bytes can be begun with: `Some(false)` when it has to wait for
    /// others to end. `running` and `idle`: bytes promised to requests and held by idle sessions.
    pub fn admit(&self, needed: usize, running: usize, idle: usize) -> Result<bool> {
        if needed.saturating_add(idle) > self.budget {
            return Err(Error::OutOfMemory(format!(
                "the request needs {needed} bytes for keys and values, of a budget of {} bytes of which idle \
                 sessions hold {idle}",
                self.budget
            )));
        }
        Ok(needed + running + idle <= self.budget)
    }
}
