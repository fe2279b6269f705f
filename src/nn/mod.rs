//! The parts that models are made of. Shapes are `[batch, length, width]` unless a function says
//! otherwise, where batch is 1 and the sequences of a pass lie behind each other ([`Batch`]); every function builds a graph on the calling thread and computes nothing itself.

mod activation;
mod attention;
mod batch;
mod cache;
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
use crate::mlx::Array;

/// A layer that maps its input, the last axis of it, without any memory.
pub trait Module {
    /// `[batch, length, in]` to `[batch, length, out]`.
    fn forward(&self, x: &Array) -> Result<Array>;
}

impl Module for Box<dyn Module> {
    fn forward(&self, x: &Array) -> Result<Array> {
        (**self).forward(x)
    }
}

/// One run of a model over some tokens, and how it can be interrupted.
#[derive(Default, Clone, Copy)]
pub struct Pass<'a> {
    /// Asked between layers: true stops the run. Setting it makes every layer be evaluated on its
    /// own, which costs nothing on the CPU but hinders a GPU.
    pub interrupt: Option<&'a dyn Fn() -> bool>,
}

impl Pass<'_> {
    /// To be called with the output of every layer.
    pub fn layer_done(&self, output: &Array) -> Result<()> {
        let Some(interrupt) = self.interrupt else { return Ok(()) };
        output.eval()?;
        if interrupt() { Err(Error::Cancelled) } else { Ok(()) }
    }
}
