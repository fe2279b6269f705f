//! Gemma 4's experts, which work beside the feed-forward part.

use super::super::Config;
use super::Args;
use crate::error::Result;
use crate::mlx::{Array, ops};
use crate::nn::{Activation, Experts, Linear, Module, RmsNorm, Weights, add, rms_norm, weighted_sum};

/// Experts beside the feed-forward part.
pub(super) struct ExpertBlock {
    after_mlp_norm: RmsNorm,
    before_norm: RmsNorm,
    after_norm: RmsNorm,
    router: Router,
    experts: Experts,
}

impl ExpertBlock {
    pub fn load(config: &Config, args: &Args, weights: &mut Weights, prefix: &str) -> Result<Self> {
        let size = |key: &str, value: Option<i32>| value.ok_or_else(|| config.bad(key, "a number"));
        let count = size("num_experts", args.num_experts)?;
        let used = size("top_k_experts", args.top_k_experts)?;
        let hidden = size("moe_intermediate_size", args.moe_intermediate_size)?;
        config.check_experts(("num_experts", count), ("top_k_experts", used))?;
        config.check_sizes(&[("moe_intermediate_size", hidden)])?;
        let (width, eps) = (args.hidden_size, args.rms_norm_eps);
        let mut norm = |name: &str| RmsNorm::load(weights, &format!("{prefix}.{name}"), width, eps);
        let after_mlp_norm = norm("post_feedforward_layernorm_1")?;
        let before_norm = norm("pre_feedforward_layernorm_2")?;
        let after_norm = norm("post_feedforward_layernorm_2")?;
        let router = Router::load(weights, &format!("{prefix}.router"), [width, count, used], eps)?;
        let (published, name) = (format!("{prefix}.experts"), format!("{prefix}.experts.switch_glu"));
        Experts::split(weights, &published, &name, [count, hidden, width])?;
        let experts = Experts::load(weights, &name, count, [width, hidden], false, Activation::GeluTanh)?;
        Ok(ExpertBlock { after_mlp_norm, before_norm, after_norm, router, experts })
    }

    /// Adds the experts' share of `h` to what the feed-forward part gave.
    pub fn forward(&self, h: &Array, mapped: &Array) -> Result<Array> {
        let (indices, shares) = self.router.forward(h)?;
        let outputs = self.experts.forward(&self.before_norm.forward(h)?, &indices)?;
        let mixed = self.after_norm.forward(&weighted_sum(&outputs, &shares)?)?;
        add(&self.after_mlp_norm.forward(mapped)?, &mixed)
    }
}

/// Chooses experts by the direction of a token's vector.
struct Router {
    /// The norm's weight and, in it, the root of the width.
    scale: Array,
    projection: Linear,
    expert_scale: Array,
    used: i32,
    eps: f32,
}

impl Router {
    fn load(weights: &mut Weights, prefix: &str, [width, experts, used]: [i32; 3], eps: f32) -> Result<Self> {
        let scale = weights.take(&format!("{prefix}.scale"), &[width])?;
        let scale = weights.derived(ops::scale(&scale, (width as f32).powf(-0.5))?);
        let projection = Linear::load(weights, &format!("{prefix}.proj"), width, experts, false)?;
        let expert_scale = weights.take(&format!("{prefix}.per_expert_scale"), &[experts])?;
        Ok(Router { scale, projection, expert_scale, used, eps })
    }

    /// Indices and weights of each token's experts, `[batch, length, used]`.
    fn forward(&self, x: &Array) -> Result<(Array, Array)> {
        let scores = self.projection.forward(&rms_norm(x, Some(&self.scale), self.eps)?)?;
        let (indices, best) = ops::top_k(&scores, self.used)?;
        let scales = ops::take(&self.expert_scale, &indices)?;
        let shares = ops::multiply(&ops::softmax(&best, -1, false)?, &scales)?;
        Ok((indices, shares))
    }
}
