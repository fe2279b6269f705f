//! LFM2 (Liquid AI 2025): most layers are short convolutions between two gates computed from the input,
//! the others attention with norms on every query and key head.

use super::parts::decoder::{Block, Decoder};
use super::parts::pre_norm::PreNorm;
use super::{Config, Dims, Model};
use crate::error::Result;
use crate::mlx::{Array, ops};
use crate::nn::{
    Activation, Attention, AttentionSpec, Cache, Linear, Memory, Mlp, Module, QkNorms, RmsNorm, Rope,
    ShortConv, Weights,
};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Args {
    vocab_size: i32,
    hidden_size: i32,
    num_hidden_layers: i32,
    num_attention_heads: i32,
    num_key_value_heads: Option<i32>,
    max_position_embeddings: i32,
    norm_eps: f32,
    conv_bias: bool,
    #[serde(rename = "conv_L_cache")]
    conv_kernel: i32,
    block_dim: i32,
    block_multiple_of: i32,
    block_ffn_dim_multiplier: Option<f64>,
    block_auto_adjust_ff_dim: bool,
    block_ff_dim: Option<i32>,
    intermediate_size: Option<i32>,
    rope_theta: Option<f32>,
    full_attn_idxs: Option<Vec<i32>>,
    layer_types: Option<Vec<String>>,
}

impl Args {
    /// Width of the feed-forward part: `block_ff_dim`, or two thirds of it times a factor, rounded up to
    /// a multiple.
    fn mlp_size(&self, config: &Config) -> Result<i32> {
        let given = self.block_ff_dim.or(self.intermediate_size);
        let given = given.ok_or_else(|| config.bad("block_ff_dim", "a number"))?;
        config.check_sizes(&[("block_ff_dim", given), ("block_multiple_of", self.block_multiple_of)])?;
        if !self.block_auto_adjust_ff_dim {
            return Ok(given);
        }
        let part = (2.0 * f64::from(given) / 3.0).floor();
        let size = (self.block_ffn_dim_multiplier.unwrap_or(1.0) * part) as i32;
        config.check_sizes(&[("block_ffn_dim_multiplier * block_ff_dim", size)])?;
        Ok((size + self.block_multiple_of - 1) / self.block_multiple_of * self.block_multiple_of)
    }

    /// For each layer whether it is attention.
    fn attention_layers(&self, config: &Config) -> Result<Vec<bool>> {
        if let Some(indices) = &self.full_attn_idxs {
            return Ok((0..self.num_hidden_layers).map(|layer| indices.contains(&layer)).collect());
        }
        let kinds = self.layer_types.as_deref().unwrap_or_default();
        if kinds.len() < self.num_hidden_layers as usize {
            return Err(config.bad("layer_types", "a string for every layer"));
        }
        Ok(kinds.iter().map(|kind| kind == "full_attention").collect())
    }
}

/// `output(c * conv(b * x))`, with b, c and x computed from the input.
struct GatedConv {
    input: Linear,
    conv: ShortConv,
    output: Linear,
}

impl GatedConv {
    fn load(weights: &mut Weights, prefix: &str, args: &Args) -> Result<Self> {
        let (width, bias) = (args.hidden_size, args.conv_bias);
        Ok(GatedConv {
            input: Linear::load(weights, &format!("{prefix}.in_proj"), width, 3 * width, bias)?,
            conv: ShortConv::load(weights, &format!("{prefix}.conv"), width, args.conv_kernel, bias)?,
            output: Linear::load(weights, &format!("{prefix}.out_proj"), width, width, bias)?,
        })
    }
}

impl Block for GatedConv {
    fn forward(&self, x: &Array, memory: &mut Memory) -> Result<Array> {
        let width = x.dim(-1);
        let parts = ops::split(&self.input.forward(x)?, &[width, 2 * width], -1)?;
        let [b, c, x] = &parts[..] else { unreachable!("split at two places") };
        let mixed = memory
            .each(1, [&ops::multiply(b, x)?], |[x], cache, _| self.conv.forward(&x, cache.recurrent()?, 0))?;
        self.output.forward(&ops::multiply(c, &mixed)?)
    }

    fn new_cache(&self) -> Cache {
        Cache::state(1)
    }
}

/// The names that other families have to those of this one.
fn own_name(name: &str) -> String {
    name.replace(".self_attn.o_proj", ".self_attn.out_proj")
        .replace(".self_attn.q_norm", ".self_attn.q_layernorm")
        .replace(".self_attn.k_norm", ".self_attn.k_layernorm")
        .replace(".feed_forward.gate_proj", ".feed_forward.w1")
        .replace(".feed_forward.up_proj", ".feed_forward.w3")
        .replace(".feed_forward.down_proj", ".feed_forward.w2")
}

/// Loads an `lfm2` checkpoint.
pub(super) fn load(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    let args: Args = config.args()?;
    let dims = Dims {
        vocab_size: args.vocab_size,
        num_layers: args.num_hidden_layers,
        hidden_size: args.hidden_size,
        num_heads: args.num_attention_heads,
        num_kv_heads: args.num_key_value_heads.unwrap_or(args.num_attention_heads),
        head_dim: args.hidden_size / args.num_attention_heads.max(1),
        context_length: args.max_position_embeddings,
    };
    let mlp_size = args.mlp_size(config)?;
    config.check_dims(&dims, mlp_size)?;
    config.check_sizes(&[("conv_L_cache", args.conv_kernel)])?;
    if args.block_dim != args.hidden_size {
        return Err(config.bad("block_dim", format!("`hidden_size` ({})", args.hidden_size)));
    }
    let is_attention = args.attention_layers(config)?;
    let theta = config.rope(None, None)?.0.or(args.rope_theta).unwrap_or(1_000_000.0);
    let rope = Rope::new(dims.head_dim, theta, false, None, dims.context_length)?;
    let (width, eps) = (dims.hidden_size, args.norm_eps);
    let spec = AttentionSpec { norms: QkNorms::PerHead(eps), ..dims.attention(Some(rope)) };

    weights.set_names(own_name);
    let norm = RmsNorm::load(weights, "model.embedding_norm", width, eps)?;
    let decoder = Decoder::load(weights, dims, true, norm, |weights, index, prefix| {
        let mut norm = |name: &str| RmsNorm::load(weights, &format!("{prefix}.{name}"), width, eps);
        let norms = [norm("operator_norm")?, norm("ffn_norm")?];
        let mixer: Box<dyn Block> = if is_attention[index as usize] {
            Box::new(Attention::load(weights, &format!("{prefix}.self_attn"), spec.clone())?)
        } else {
            Box::new(GatedConv::load(weights, &format!("{prefix}.conv"), &args)?)
        };
        let name = format!("{prefix}.feed_forward");
        let mlp = Mlp::load(weights, &name, width, mlp_size, false, Activation::Silu)?;
        Ok(PreNorm::new(norms, mixer, Box::new(mlp)))
    })?;
    Ok(Box::new(decoder))
}
