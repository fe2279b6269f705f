//! Qwen 3's mixtures of experts (Yang et al. 2025): Qwen 3 with experts in some or all layers.

use super::parts::decoder::Decoder;
use super::parts::moe::{Moe, Routing};
use super::parts::pre_norm::PreNorm;
use super::{Config, Dims, Model};
use crate::error::Result;
use crate::mlx::ops;
use crate::nn::{Activation, AttentionSpec, Experts, Linear, Mlp, Module, QkNorms, RmsNorm, Rope, Weights};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Args {
    hidden_size: i32,
    num_hidden_layers: i32,
    intermediate_size: i32,
    num_attention_heads: i32,
    num_key_value_heads: i32,
    head_dim: i32,
    num_experts: i32,
    num_experts_per_tok: i32,
    decoder_sparse_step: i32,
    mlp_only_layers: Vec<i32>,
    moe_intermediate_size: i32,
    norm_topk_prob: bool,
    rms_norm_eps: f32,
    vocab_size: i32,
    max_position_embeddings: i32,
    rope_theta: Option<f32>,
    tie_word_embeddings: bool,
}

impl Args {
    fn dims(&self) -> Dims {
        Dims {
            vocab_size: self.vocab_size,
            num_layers: self.num_hidden_layers,
            hidden_size: self.hidden_size,
            num_heads: self.num_attention_heads,
            num_kv_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
            context_length: self.max_position_embeddings,
        }
    }

    fn check(&self, config: &Config) -> Result<()> {
        config.check_dims(&self.dims(), self.intermediate_size)?;
        if self.num_experts <= 0 {
            return Ok(());
        }
        config.check_sizes(&[
            ("decoder_sparse_step", self.decoder_sparse_step),
            ("moe_intermediate_size", self.moe_intermediate_size),
        ])?;
        config.check_experts(
            ("num_experts", self.num_experts),
            ("num_experts_per_tok", self.num_experts_per_tok),
        )
    }

    fn has_experts(&self, layer: i32) -> bool {
        self.num_experts > 0
            && (layer + 1) % self.decoder_sparse_step == 0
            && !self.mlp_only_layers.contains(&layer)
    }
}

/// The experts of a layer, which publishers store one by one.
fn load_moe(args: &Args, weights: &mut Weights, prefix: &str) -> Result<Moe> {
    let (width, count) = (args.hidden_size, args.num_experts);
    let experts = format!("{prefix}.switch_mlp");
    let names = ["gate_proj", "up_proj", "down_proj"];
    Experts::stack(weights, &format!("{prefix}.experts"), &experts, count, names)?;
    let shape = [width, args.moe_intermediate_size];
    Ok(Moe {
        router: Linear::load(weights, &format!("{prefix}.gate"), width, count, false)?,
        experts: Experts::load(weights, &experts, count, shape, false, Activation::Silu)?,
        used: args.num_experts_per_tok,
        routing: Routing::Softmax { normalise: args.norm_topk_prob },
        top_k: ops::top_k,
        shared: None,
    })
}

/// Loads a `qwen3_moe` checkpoint.
pub(super) fn load(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    let args: Args = config.args()?;
    args.check(config)?;
    let (dims, width, eps) = (args.dims(), args.hidden_size, args.rms_norm_eps);
    // Like mlx-lm, without any scaling of the rotary positions.
    let (theta, _) = config.rope(args.rope_theta, None)?;
    let theta = theta.ok_or_else(|| config.bad("rope_theta", "a number"))?;
    let rope = Rope::new(dims.head_dim, theta, false, None, dims.context_length)?;
    let spec = AttentionSpec { norms: QkNorms::PerHead(eps), ..dims.attention(Some(rope)) };
    weights.keep_precise(&["mlp.gate"]);
    let norm = RmsNorm::load(weights, "model.norm", width, eps)?;
    let decoder = Decoder::load(weights, dims, args.tie_word_embeddings, norm, |weights, layer, prefix| {
        let name = format!("{prefix}.mlp");
        let mlp: Box<dyn Module> = match args.has_experts(layer) {
            true => Box::new(load_moe(&args, weights, &name)?),
            false => {
                let hidden = args.intermediate_size;
                Box::new(Mlp::load(weights, &name, width, hidden, false, Activation::Silu)?)
            }
        };
        PreNorm::load(weights, prefix, spec.clone(), eps, mlp)
    })?;
    Ok(Box::new(decoder))
}
