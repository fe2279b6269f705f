//! The feed-forward part as a mixture of experts: a router chooses a few for each token (Shazeer et al.
//! 2017), and some families have one more that every token uses (DeepSeek-AI 2024).

use crate::error::Result;
use crate::mlx::{Array, Dtype, ops};
use crate::nn::{Experts, Linear, Mlp, Module, add, weighted_sum};

/// Indices and values of the largest along the last axis.
type TopK = fn(&Array, i32) -> Result<(Array, Array)>;

/// How the router's logits choose experts and become their weights.
pub enum Routing {
    /// Softmax over all experts; if `normalise`, those of the chosen ones are made to sum to 1 again.
    Softmax { normalise: bool },
    /// Softmax over the chosen ones.
    SoftmaxOfChosen,
    /// Sigmoids.
    Balanced(Balanced),
}

/// DeepSeek V3's routing (DeepSeek-AI 2024, section 2.1.2): a sigmoid for each expert, and a bias that
/// spreads the load.
pub struct Balanced {
    /// Added to the scores when experts are chosen, but not to their weights.
    pub bias: Array,
    /// Groups of experts, and those of them that a token's experts are chosen from.
    pub groups: [i32; 2],
    /// Whether the weights are made to sum to 1.
    pub normalise: bool,
    /// Factor on the weights.
    pub scale: f32,
}

impl Balanced {
    fn choose(&self, logits: &Array, used: i32, top_k: TopK) -> Result<(Array, Array)> {
        let scores = ops::sigmoid(&ops::astype(logits, Dtype::F32)?)?;
        let ranked = self.keep_best_groups(&ops::add(&scores, &self.bias)?)?;
        let (indices, _) = top_k(&ranked, used)?;
        let mut weights = ops::take_along_axis(&scores, &indices, -1)?;
        if self.normalise {
            weights = ops::divide(&weights, &ops::sum(&weights, -1, true)?)?;
        }
        Ok((indices, ops::scale(&weights, self.scale)?))
    }

    /// Scores `[batch, length, experts]` with those of the lesser groups set to 0. A group is as good as
    /// its two best experts together.
    fn keep_best_groups(&self, scores: &Array) -> Result<Array> {
        let [groups, used] = self.groups;
        let dropped = groups - used;
        if dropped == 0 {
            return Ok(scores.clone());
        }
        let grouped = ops::reshape(scores, &[scores.dim(0), scores.dim(1), groups, -1])?;
        let (_, best) = ops::top_k(&grouped, 2)?;
        let worst = ops::argpartition(&ops::sum(&best, -1, true)?, dropped - 1, -2)?;
        let worst = ops::slice(&worst, 2, 0, dropped)?;
        let kept = ops::put_along_axis(&grouped, &worst, &Array::scalar(0.0)?, -2)?;
        ops::flatten(&kept, -2, -1)
    }
}

/// The expert that every token uses.
pub struct SharedExpert {
    pub mlp: Mlp,
    /// One number a token, whose sigmoid is its weight; `None`: 1.
    pub gate: Option<Linear>,
}

impl Module for SharedExpert {
    fn forward(&self, x: &Array) -> Result<Array> {
        let y = self.mlp.forward(x)?;
        match &self.gate {
            Some(gate) => ops::multiply(&ops::sigmoid(&gate.forward(x)?)?, &y),
            None => Ok(y),
        }
    }
}

/// Router and experts.
pub struct Moe {
    pub router: Linear,
    pub experts: Experts,
    /// Experts a token.
    pub used: i32,
    pub routing: Routing,
    /// [`ops::top_k`] or [`ops::top_k_negated`].
    pub top_k: TopK,
    pub shared: Option<SharedExpert>,
}

impl Moe {
    /// Indices and weights of each token's experts, `[batch, length, used]`.
    fn route(&self, x: &Array) -> Result<(Array, Array)> {
        let logits = self.router.forward(x)?;
        match &self.routing {
            Routing::Softmax { normalise } => {
                let (indices, weights) = (self.top_k)(&ops::softmax(&logits, -1, true)?, self.used)?;
                let total = || ops::sum(&weights, -1, true);
                Ok((indices, if *normalise { ops::divide(&weights, &total()?)? } else { weights }))
            }
            Routing::SoftmaxOfChosen => {
                let (indices, logits) = (self.top_k)(&logits, self.used)?;
                Ok((indices, ops::softmax(&logits, -1, true)?))
            }
            Routing::Balanced(balanced) => balanced.choose(&logits, self.used, self.top_k),
        }
    }
}

impl Module for Moe {
    fn forward(&self, x: &Array) -> Result<Array> {
        let (indices, weights) = self.route(x)?;
        let routed = weighted_sum(&self.experts.forward(x, &indices)?, &weights)?;
        match &self.shared {
            Some(shared) => add(&routed, &shared.forward(x)?),
            None => Ok(routed),
        }
    }
}
