//! Qwen 3.5, the text part (Qwen Team 2026): three of four layers are gated delta nets, a memory of
//! fixed size, every `full_attention_interval`th is attention whose output is gated
//! and whose heads turn in a part of their dimensions. Dense, or with experts beside a shared one.

use super::parts::decoder::{Block, Decoder};
use super::parts::gated_delta_net::{GatedDeltaNet, GatedDeltaSpec};
use super::parts::moe::{Moe, Routing, SharedExpert};
use super::parts::pre_norm::PreNorm;
use super::{Config, Dims, Model};
use crate::error::Result;
use crate::mlx::ops;
use crate::nn::{
    Activation, Attention, AttentionSpec, Experts, Linear, Mlp, Module, QkNorms, RmsNorm, Rope, RopeScaling,
    Weights,
};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Args {
    hidden_size: i32,
    intermediate_size: i32,
    num_hidden_layers: i32,
    num_attention_heads: i32,
    rms_norm_eps: f32,
    vocab_size: i32,
    num_key_value_heads: i32,
    max_position_embeddings: i32,
    linear_num_value_heads: i32,
    linear_num_key_heads: i32,
    linear_key_head_dim: i32,
    linear_value_head_dim: i32,
    linear_conv_kernel_dim: i32,
    tie_word_embeddings: bool,
    attention_bias: bool,
    head_dim: Option<i32>,
    full_attention_interval: i32,
    num_experts: i32,
    num_experts_per_tok: i32,
    shared_expert_intermediate_size: i32,
    moe_intermediate_size: i32,
    norm_topk_prob: bool,
    rope_parameters: Option<RopeScaling>,
}

impl Default for Args {
    fn default() -> Self {
        Args {
            hidden_size: 4096,
            intermediate_size: 14_336,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            rms_norm_eps: 1e-6,
            vocab_size: 151_936,
            num_key_value_heads: 8,
            max_position_embeddings: 131_072,
            linear_num_value_heads: 64,
            linear_num_key_heads: 16,
            linear_key_head_dim: 192,
            linear_value_head_dim: 128,
            linear_conv_kernel_dim: 4,
            tie_word_embeddings: false,
            attention_bias: false,
            head_dim: None,
            full_attention_interval: 4,
            num_experts: 0,
            num_experts_per_tok: 0,
            shared_expert_intermediate_size: 0,
            moe_intermediate_size: 0,
            norm_topk_prob: true,
            rope_parameters: None,
        }
    }
}

impl Args {
    fn is_attention(&self, layer: i32) -> bool {
        (layer + 1) % self.full_attention_interval == 0
    }

    fn delta_net(&self) -> GatedDeltaSpec {
        GatedDeltaSpec {
            width: self.hidden_size,
            heads: [self.linear_num_key_heads, self.linear_num_value_heads],
            head_dims: [self.linear_key_head_dim, self.linear_value_head_dim],
            kernel: self.linear_conv_kernel_dim,
            eps: self.rms_norm_eps,
        }
    }

    fn dims(&self, config: &Config) -> Result<Dims> {
        let dims = Dims {
            vocab_size: self.vocab_size,
            num_layers: self.num_hidden_layers,
            hidden_size: self.hidden_size,
            num_heads: self.num_attention_heads,
            num_kv_heads: self.num_key_value_heads,
            head_dim: self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1)),
            context_length: self.max_position_embeddings,
        };
        config.check_dims(&dims, self.intermediate_size)?;
        config.check_sizes(&[("full_attention_interval", self.full_attention_interval)])?;
        self.delta_net().check(config)?;
        if self.num_experts > 0 {
            config.check_sizes(&[
                ("moe_intermediate_size", self.moe_intermediate_size),
                ("shared_expert_intermediate_size", self.shared_expert_intermediate_size),
            ])?;
            let used = ("num_experts_per_tok", self.num_experts_per_tok);
            config.check_experts(("num_experts", self.num_experts), used)?;
        }
        Ok(dims)
    }

    fn rope(&self, config: &Config, dims: &Dims) -> Result<Rope> {
        let parameters = self.rope_parameters.as_ref();
        let part = parameters.and_then(|rope| rope.partial_rotary_factor).unwrap_or(0.25);
        let theta = parameters.and_then(|rope| rope.rope_theta).unwrap_or(100_000.0);
        let turning = (f64::from(dims.head_dim) * f64::from(part)) as i32;
        if turning < 2 || turning > dims.head_dim {
            return Err(config.bad("rope_parameters.partial_rotary_factor", "a part of `head_dim`"));
        }
        Rope::new(turning, theta, false, parameters, dims.context_length)
    }
}

/// Experts chosen by a softmax, and one that every token uses, behind a gate. Publishers store the gates and
/// ups of all in one tensor.
fn load_moe(args: &Args, weights: &mut Weights, prefix: &str) -> Result<Moe> {
    let (width, count) = (args.hidden_size, args.num_experts);
    let (hidden, shared) = (args.moe_intermediate_size, args.shared_expert_intermediate_size);
    let name = |part: &str| format!("{prefix}.{part}");
    let silu = Activation::Silu;
    Experts::split(weights, &name("experts"), &name("switch_mlp"), [count, hidden, width])?;
    Ok(Moe {
        router: Linear::load(weights, &name("gate"), width, count, false)?,
        experts: Experts::load(weights, &name("switch_mlp"), count, [width, hidden], false, silu)?,
        used: args.num_experts_per_tok,
        routing: Routing::Softmax { normalise: args.norm_topk_prob },
        top_k: ops::top_k,
        shared: Some(SharedExpert {
            mlp: Mlp::load(weights, &name("shared_expert"), width, shared, false, silu)?,
            gate: Some(Linear::load(weights, &name("shared_expert_gate"), width, 1, false)?),
        }),
    })
}

/// The publisher's names to mlx-lm's; those of the text part alone are known too.
fn rename(name: &str) -> String {
    if name.starts_with("vision_tower") || name.starts_with("model.visual") {
        return name.to_string();
    }
    match name.strip_prefix("model.language_model") {
        Some(rest) => format!("language_model.model{rest}"),
        None if name.starts_with("language_model.") => name.to_string(),
        None => format!("language_model.{name}"),
    }
}

/// Whether the publisher wrote the checkpoint: kernels, of which most layers have one, lie otherwise than
/// mlx-lm's.
fn is_published(weights: &Weights) -> bool {
    let kernels = weights.names_ending("conv1d.weight");
    kernels.iter().any(|name| weights.shape(name).is_some_and(|shape| shape.last() != Some(&1)))
}

/// A norm that the publisher stores as `weight - 1`.
fn add_one(weights: &mut Weights, name: &str) -> Result<()> {
    weights.map(&format!("{name}.weight"), |weight| ops::add(&weight, &ops::constant(1.0, &weight)?))
}

/// Loads a `qwen3_5` or `qwen3_5_moe` checkpoint: multimodal or text alone.
pub(super) fn load(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    let nested = config.get("text_config").map(|_| config.nested("text_config")).transpose()?;
    let config = nested.as_ref().unwrap_or(config);
    let args: Args = config.args()?;
    let dims = args.dims(config)?;
    let (width, eps) = (dims.hidden_size, args.rms_norm_eps);
    let spec = AttentionSpec {
        qkv_bias: args.attention_bias,
        output_bias: args.attention_bias,
        norms: QkNorms::PerHead(eps),
        output_gate: true,
        ..dims.attention(Some(args.rope(config, &dims)?))
    };

    weights.rename(rename);
    weights.set_prefix("language_model.");
    let published = is_published(weights);
    if published {
        add_one(weights, "model.norm")?;
    }
    weights.keep_precise(&["mlp.gate", "shared_expert_gate"]);
    let norm = RmsNorm::load(weights, "model.norm", width, eps)?;
    let decoder = Decoder::load(weights, dims, args.tie_word_embeddings, norm, |weights, index, prefix| {
        let norms = ["input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm"];
        for norm in norms.iter().filter(|_| published) {
            add_one(weights, &format!("{prefix}.{norm}"))?;
        }
        let name = format!("{prefix}.mlp");
        let mlp: Box<dyn Module> = if args.num_experts > 0 {
            Box::new(load_moe(&args, weights, &name)?)
        } else {
            Box::new(Mlp::load(weights, &name, width, args.intermediate_size, false, Activation::Silu)?)
        };
        let mixer: Box<dyn Block> = if args.is_attention(index) {
            Box::new(Attention::load(weights, &format!("{prefix}.self_attn"), spec.clone())?)
        } else {
            Box::new(GatedDeltaNet::load(weights, &format!("{prefix}.linear_attn"), args.delta_net())?)
        };
        let mut norm = |name: &str| RmsNorm::load(weights, &format!("{prefix}.{name}"), width, eps);
        let norms = [norm("input_layernorm")?, norm("post_attention_layernorm")?];
        Ok(PreNorm::new(norms, mixer, mlp))
    })?;
    Ok(Box::new(decoder))
}
