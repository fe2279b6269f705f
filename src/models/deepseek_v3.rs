//! DeepSeek V3 and R1 (DeepSeek-AI 2024), and Kimi K2 (Kimi Team 2025), which is built alike: attention
//! whose cache holds one short latent vector a position for all heads; many small experts, chosen from
//! the best groups of them by scores with a balancing bias, next to shared ones.

use super::parts::decoder::Decoder;
use super::parts::latent_attention::{LatentAttention, LatentSpec};
use super::parts::moe::{Balanced, Moe, Routing, SharedExpert};
use super::parts::pre_norm::PreNorm;
use super::parts::published;
use super::{Config, Dims, Model};
use crate::error::{Error, Result};
use crate::mlx::ops;
use crate::nn::{Activation, Experts, Linear, Mlp, Module, RmsNorm, Rope, RopeScaling, Weights};
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

/// The experts of a layer, which publishers store one by one.
fn load_moe(args: &Args, count: i32, weights: &mut Weights, prefix: &str) -> Result<Moe> {
    let (width, hidden) = (args.hidden_size, args.moe_intermediate_size);
    let name = |part: &str| format!("{prefix}.{part}");
    let names = ["gate_proj", "up_proj", "down_proj"];
    Experts::stack(weights, &name("experts"), &name("switch_mlp"), count, names)?;
    let mut load_shared = |count: i32| {
        let hidden = count * hidden;
        let mlp = Mlp::load(weights, &name("shared_experts"), width, hidden, false, Activation::Silu)?;
        Ok::<_, Error>(SharedExpert { mlp, gate: None })
    };
    Ok(Moe {
        shared: args.n_shared_experts.map(&mut load_shared).transpose()?,
        router: Linear::load_dense(weights, &name("gate"), width, count)?,
        experts: Experts::load(
            weights,
            &name("switch_mlp"),
            count,
            [width, hidden],
            false,
            Activation::Silu,
        )?,
        used: args.num_experts_per_tok,
        routing: Routing::Balanced(Balanced {
            bias: weights.take_as_stored(&name("gate.e_score_correction_bias"), &[count])?,
            groups: [args.n_group, args.topk_group],
            normalise: args.norm_topk_prob && args.num_experts_per_tok > 1,
            scale: args.routed_scaling_factor,
        }),
        top_k: ops::top_k_negated,
    })
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
            Some(count) => Box::new(load_moe(&args, count, weights, &name)?),
            None => {
                let hidden = args.intermediate_size;
                Box::new(Mlp::load(weights, &name, width, hidden, false, Activation::Silu)?)
            }
        };
        let mut norm = |name: &str| RmsNorm::load(weights, &format!("{prefix}.{name}"), width, eps);
        let norms = [norm("input_layernorm")?, norm("post_attention_layernorm")?];
        let attention = LatentAttention::load(weights, &format!("{prefix}.self_attn"), attention.clone())?;
        Ok(PreNorm::new(norms, Box::new(attention), mlp))
    })?;
    Ok(Box::new(decoder))
}
