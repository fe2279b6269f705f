//! The feed-forward part as a mixture of experts: a router chooses a few for each token (Shazeer et al.
//! 2017).

use crate::error::Result;
use crate::mlx::{Array, ops};
use crate::nn::{Experts, Linear, Module, weighted_sum};

/// How the router's logits become the weights of the chosen experts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Routing {
    /// Softmax over all experts; if `normalise`, those of the chosen ones are made to sum to 1 again.
    Softmax { normalise: bool },
    /// Softmax over the chosen ones.
    SoftmaxOfChosen,
}

/// Router and experts.
pub(super) struct Moe {
    pub router: Linear,
    pub experts: Experts,
    /// Experts a token.
    pub used: i32,
    pub routing: Routing,
    /// [`ops::top_k`] or [`ops::top_k_negated`].
    pub top_k: fn(&Array, i32) -> Result<(Array, Array)>,
}

impl Module for Moe {
    fn forward(&self, x: &Array) -> Result<Array> {
        let logits = self.router.forward(x)?;
        let (indices, weights) = match self.routing {
            Routing::Softmax { normalise } => {
                let (indices, weights) = (self.top_k)(&ops::softmax(&logits, -1, true)?, self.used)?;
                let total = || ops::sum(&weights, -1, true);
                (indices, if normalise { ops::divide(&weights, &total()?)? } else { weights })
            }
            Routing::SoftmaxOfChosen => {
                let (indices, logits) = (self.top_k)(&logits, self.used)?;
                (indices, ops::softmax(&logits, -1, true)?)
            }
        };
        weighted_sum(&self.experts.forward(x, &indices)?, &weights)
    }
}
