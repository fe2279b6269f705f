//! DeepSeek V3 and R1 (DeepSeek-AI 2024), and Kimi K2 (Kimi Team 2025), which is built alike: attention
//! whose cache holds one short latent vector a position for all heads; many small experts, chosen from
//! the best groups of them by scores with a balancing bias, next to shared ones.

use super::decoder::{Block, Decoder};
use super::latent_attention::{LatentAttention, LatentSpec};
use super::{Config, Dims, Model, published};
use crate::error::{Error, Result};
use crate::mlx::{Array, Dtype, ops};
use crate::nn::{
    Activation, Cache, Experts, Linear, Masks, Mlp, Module, RmsNorm, Rope, RopeScaling, Weights, weighted_sum,
};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Args {
    vocab_size: i32,
    hidden_size: i32,
    intermediate_size: i32,
    moe_intermediate_size: i32,
    num_hidden_layers: i32,
    num_attention_heads: i32,
    n_shared_experts: Option<i32>,
    n_routed_experts: Option<i32>,
    routed_scaling_factor: f32,
    kv_lora_rank: i32,
    q_lora_rank: Option<i32>,
    qk_rope_head_dim: i32,
    v_head_dim: i32,
    qk_nope_head_dim: i32,
    topk_method: String,
    norm_topk_prob: bool,
    n_group: i32,
    topk_group: i32,
    num_experts_per_tok: i32,
    moe_layer_freq: i32,
    first_k_dense_replace: i32,
    max_position_embeddings: i32,
    rms_norm_eps: f32,
    rope_theta: Option<f32>,
    rope_scaling: Option<RopeScaling>,
    attention_bias: bool,
}

impl Default for Args {
    /// As mlx-lm has them.
    fn default() -> Self {
        Args {
            vocab_size: 102_400,
            hidden_size: 4096,
            intermediate_size: 11_008,
            moe_intermediate_size: 1407,
            num_hidden_layers: 30,
            num_attention_heads: 32,
            n_shared_experts: None,
            n_routed_experts: None,
            routed_scaling_factor: 1.0,
            kv_lora_rank: 512,
            q_lora_rank: Some(1536),
            qk_rope_head_dim: 64,
            v_head_dim: 128,
            qk_nope_head_dim: 128,
            topk_method: "noaux_tc".into(),
            norm_topk_prob: true,
            n_group: 1,
            topk_group: 1,
            num_experts_per_tok: 1,
            moe_layer_freq: 1,
            first_k_dense_replace: 0,
            max_position_embeddings: 2048,
            rms_norm_eps: 1e-6,
            rope_theta: None,
            rope_scaling: None,
            attention_bias: false,
        }
    }
}

impl Args {
    fn dims(&self) -> Dims {
        Dims {
            vocab_size: self.vocab_size,
            num_layers: self.num_hidden_layers,
            hidden_size: self.hidden_size,
            num_heads: self.num_attention_heads,
            num_kv_heads: self.num_attention_heads,
            head_dim: self.qk_nope_head_dim.saturating_add(self.qk_rope_head_dim),
            context_length: self.max_position_embeddings,
        }
    }

    fn check(&self, config: &Config) -> Result<()> {
        config.check_sizes(&[
            ("kv_lora_rank", self.kv_lora_rank),
            ("q_lora_rank", self.q_lora_rank.unwrap_or(1)),
            ("qk_rope_head_dim", self.qk_rope_head_dim),
            ("qk_nope_head_dim", self.qk_nope_head_dim),
            ("v_head_dim", self.v_head_dim),
        ])?;
        config.check_dims(&self.dims(), self.intermediate_size)?;
        let of_keys_and_values = self.qk_nope_head_dim + self.v_head_dim;
        let all_heads = self.num_attention_heads.saturating_mul(of_keys_and_values);
        config.check_sizes(&[("num_attention_heads * (qk_nope_head_dim + v_head_dim)", all_heads)])?;
        match self.n_routed_experts {
            Some(experts) => self.check_experts(config, experts),
            None => Ok(()),
        }
    }

    fn attention(&self, config: &Config) -> Result<LatentSpec> {
        let (theta, scaling) = config.rope(self.rope_theta, self.rope_scaling.clone())?;
        let (theta, scaling) = (theta.unwrap_or(10_000.0), scaling.as_ref());
        let scale = (self.dims().head_dim as f32).powf(-0.5);
        Ok(LatentSpec {
            width: self.hidden_size,
            heads: self.num_attention_heads,
            latent_dim: self.kv_lora_rank,
            q_latent_dim: self.q_lora_rank,
            nope_dim: self.qk_nope_head_dim,
            rope_dim: self.qk_rope_head_dim,
            value_dim: self.v_head_dim,
            bias: self.attention_bias,
            rope: Rope::new(self.qk_rope_head_dim, theta, true, scaling, self.max_position_embeddings)?,
            scale: scaling.map_or(scale, |scaling| scaling.attention_scale(scale)),
        })
    }

    fn check_experts(&self, config: &Config, experts: i32) -> Result<()> {
        let count = ("n_routed_experts", experts);
        config.check_experts(count, ("num_experts_per_tok", self.num_experts_per_tok))?;
        let shared = self.n_shared_experts.unwrap_or(1);
        config.check_sizes(&[
            ("moe_intermediate_size", self.moe_intermediate_size),
            ("n_shared_experts", shared),
            ("n_shared_experts * moe_intermediate_size", shared.saturating_mul(self.moe_intermediate_size)),
            ("moe_layer_freq", self.moe_layer_freq),
            ("n_group", self.n_group),
            ("topk_group", self.topk_group),
        ])?;
        config.check_at_most(("topk_group", self.topk_group), ("n_group", self.n_group))?;
        // A group counts by its two best experts.
        if self.n_group > 1 && (experts % self.n_group != 0 || experts / self.n_group < 2) {
            return Err(config.bad("n_group", format!("groups of two or more of the {experts} experts")));
        }
        if self.topk_method != "noaux_tc" {
            return Err(Error::Unsupported(format!(
                "{}: `topk_method` is \"{}\"; known is noaux_tc",
                config.file().display(),
                self.topk_method
            )));
        }
        Ok(())
    }
}

/// Routed and shared experts.
struct Moe {
    router: Linear,
    /// Added to the scores when experts are chosen, but not to their weights.
    balance: Array,
    groups: i32,
    used_groups: i32,
    used: i32,
    normalise: bool,
    scale: f32,
    routed: Experts,
    shared: Option<Mlp>,
}

impl Moe {
    fn load(args: &Args, count: i32, weights: &mut Weights, prefix: &str) -> Result<Self> {
        let (width, hidden) = (args.hidden_size, args.moe_intermediate_size);
        let experts = format!("{prefix}.switch_mlp");
        for name in ["gate_proj", "up_proj", "down_proj"] {
            weights.stack(&format!("{experts}.{name}"), count, |e| format!("{prefix}.experts.{e}.{name}"))?;
        }
        let mut load_shared = |count: i32| {
            let name = format!("{prefix}.shared_experts");
            Mlp::load(weights, &name, width, count * hidden, false, Activation::Silu)
        };
        Ok(Moe {
            shared: args.n_shared_experts.map(&mut load_shared).transpose()?,
            router: Linear::load(weights, &format!("{prefix}.gate"), width, count, false)?,
            balance: weights.take_as_stored(&format!("{prefix}.gate.e_score_correction_bias"), &[count])?,
            groups: args.n_group,
            used_groups: args.topk_group,
            used: args.num_experts_per_tok,
            normalise: args.norm_topk_prob && args.num_experts_per_tok > 1,
            scale: args.routed_scaling_factor,
            routed: Experts::load(weights, &experts, count, [width, hidden], false, Activation::Silu)?,
        })
    }

    /// Scores `[batch, length, experts]` with those of the lesser groups set to 0. A group is as good as
    /// its two best experts together.
    fn keep_best_groups(&self, scores: &Array) -> Result<Array> {
        let dropped = self.groups - self.used_groups;
        if dropped == 0 {
            return Ok(scores.clone());
        }
        let grouped = ops::reshape(scores, &[scores.dim(0), scores.dim(1), self.groups, -1])?;
        let (_, best) = ops::top_k(&grouped, 2)?;
        let worst = ops::argpartition(&ops::sum(&best, -1, true)?, dropped - 1, -2)?;
        let worst = ops::slice(&worst, 2, 0, dropped)?;
        let kept = ops::put_along_axis(&grouped, &worst, &Array::scalar(0.0)?, -2)?;
        ops::flatten(&kept, -2, -1)
    }
}

impl Module for Moe {
    fn forward(&self, x: &Array) -> Result<Array> {
        let logits = self.router.forward(x)?;
        let scores = ops::sigmoid(&ops::astype(&logits, Dtype::F32)?)?;
        let ranked = self.keep_best_groups(&ops::add(&scores, &self.balance)?)?;
        let (indices, _) = ops::top_k_negated(&ranked, self.used)?;
        let mut weights = ops::take_along_axis(&scores, &indices, -1)?;
        if self.normalise {
            weights = ops::divide(&weights, &ops::sum(&weights, -1, true)?)?;
        }
        weights = ops::scale(&weights, self.scale)?;
        let routed = weighted_sum(&self.routed.forward(x, &indices)?, &weights)?;
        match &self.shared {
            Some(shared) => ops::add(&routed, &shared.forward(x)?),
            None => Ok(routed),
        }
    }
}

struct Layer {
    attention_norm: RmsNorm,
    attention: LatentAttention,
    mlp_norm: RmsNorm,
    mlp: Box<dyn Module>,
}

impl Block for Layer {
    fn forward(&self, x: &Array, _: &Masks, cache: &mut Cache) -> Result<Array> {
        let h = ops::add(x, &self.attention.forward(&self.attention_norm.forward(x)?, cache)?)?;
        ops::add(&h, &self.mlp.forward(&self.mlp_norm.forward(&h)?)?)
    }

    fn new_cache(&self) -> Cache {
        Cache::full()
    }
}

/// Loads a `deepseek_v3` or `kimi_k2` checkpoint. Layers behind the last, which predict further tokens,
/// are left out.
pub(super) fn load(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    let args: Args = config.args()?;
    args.check(config)?;
    published::unpack_int4(weights)?;
    published::dequantize_fp8(weights)?;
    let (dims, width, eps) = (args.dims(), args.hidden_size, args.rms_norm_eps);
    let attention = args.attention(config)?;
    let norm = RmsNorm::load(weights, "model.norm", width, eps)?;
    let decoder = Decoder::load(weights, dims, false, norm, |weights, layer, prefix| {
        let name = format!("{prefix}.mlp");
        let routed = args
            .n_routed_experts
            .filter(|_| layer >= args.first_k_dense_replace && layer % args.moe_layer_freq == 0);
        let mlp: Box<dyn Module> = match routed {
            Some(count) => Box::new(Moe::load(&args, count, weights, &name)?),
            None => {
                let hidden = args.intermediate_size;
                Box::new(Mlp::load(weights, &name, width, hidden, false, Activation::Silu)?)
            }
        };
        let mut norm = |name: &str| RmsNorm::load(weights, &format!("{prefix}.{name}"), width, eps);
        let (attention_norm, mlp_norm) = (norm("input_layernorm")?, norm("post_attention_layernorm")?);
        let attention = LatentAttention::load(weights, &format!("{prefix}.self_attn"), attention.clone())?;
        Ok(Layer { attention_norm, attention, mlp_norm, mlp })
    })?;
    Ok(Box::new(decoder))
}
