//! The parts that models are made of. Shapes are `[batch, length, width]` unless a function says
//! otherwise, where batch is 1 and the sequences of a pass lie behind each other ([`Batch`]); every function builds a graph on the calling thread and computes nothing itself.

mod activation;
mod attention;
mod batch;
mod cache;
mod elementwise;
mod experts;
mod gated_delta;
mod head_linear;
mod kv_cache;
mod linear;
mod mlp;
mod norm;
mod recall;
mod rope;
mod short_conv;
mod weights;

pub use activation::{Activation, soft_cap};
pub use attention::{Attention, AttentionSpec, QkNorms, QueryGain};
pub use batch::{Batch, Memory, Packing};
pub use cache::{Cache, CacheMeta, Masks, StateCache};
pub use elementwise::{add, scale};
pub use experts::{Experts, weighted_sum};
pub use gated_delta::gated_delta;
pub use head_linear::HeadLinear;
pub use kv_cache::{CacheOptions, KvCache, KvMeta, KvShape, New, Plans};
pub use linear::{Embedding, Linear};
pub use mlp::Mlp;
pub use norm::{LayerNorm, RmsNorm, rms_norm};
pub use recall::{Recall, Scores, length_class};
pub use rope::{Rope, RopeScaling};
pub use short_conv::ShortConv;
pub use weights::{QuantizationConfig, StoredMatrix, Taken, Weights};

use crate::error::{Error, Result};
use crate::mlx::{Array, ops};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// A layer that maps its input, the last axis of it, without any memory.
pub trait Module {
    /// `[batch, length, in]` to `[batch, length, out]`.
    fn forward(&self, x: &Array) -> Result<Array>;

    /// `x + forward(norm(x))`.
    fn forward_residual(&self, x: &Array, norm: &RmsNorm) -> Result<Array> {
        ops::add(x, &self.forward(&norm.forward(x)?)?)
    }
}

impl Module for Box<dyn Module> {
    fn forward(&self, x: &Array) -> Result<Array> {
        (**self).forward(x)
    }

    fn forward_residual(&self, x: &Array, norm: &RmsNorm) -> Result<Array> {
        (**self).forward_residual(x, norm)
    }
}

/// How long an interruption may wait.
const PATIENCE: Duration = Duration::from_millis(30);

/// One run of a model over some tokens, and how it can be interrupted.
#[derive(Default)]
pub struct Pass<'a> {
    interrupt: Option<&'a dyn Fn() -> bool>,
    /// Layers that are computed together, and how many of them are done.
    together: Cell<u32>,
    done: Cell<u32>,
    begun: Cell<Option<Instant>>,
}

impl<'a> Pass<'a> {
    /// A run that ends between layers when `interrupt` is true. It is asked every 30 ms or after each layer: MLX
    /// waits for what was computed until then, which costs next to nothing on the CPU but hinders a GPU.
    pub fn interruptible(interrupt: &'a dyn Fn() -> bool) -> Self {
        Pass { interrupt: Some(interrupt), begun: Cell::new(Some(Instant::now())), ..Default::default() }
    }

    /// To be called with the output of every layer.
    pub fn layer_done(&self, output: &Array) -> Result<()> {
        let Some(interrupt) = self.interrupt else { return Ok(()) };
        let done = self.done.get() + 1;
        self.done.set(done);
        if done < self.together.get() {
            return Ok(());
        }
        output.eval()?;
        let now = Instant::now();
        let took = self.begun.replace(Some(now)).map_or(Duration::ZERO, |begun| now - begun);
        let layers = PATIENCE.as_secs_f64() * f64::from(done) / took.as_secs_f64().max(1e-6);
        self.together.set(layers as u32);
        self.done.set(0);
        if interrupt() { Err(Error::Cancelled) } else { Ok(()) }
    }
}
