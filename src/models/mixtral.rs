//! Mixtral (Jiang et al. 2024): Mistral with experts in every layer.

use super::parts::decoder::Decoder;
use super::parts::moe::{Moe, Routing};
use super::parts::pre_norm::PreNorm;
use super::{Config, Dims, Model};
use crate::error::Result;
use crate::mlx::ops;
use crate::nn::{Activation, Experts, Linear, RmsNorm, Rope, Weights};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Args {
    vocab_size: i32,
    hidden_size: i32,
    intermediate_size: i32,
    num_hidden_layers: i32,
    num_attention_heads: i32,
    num_key_value_heads: Option<i32>,
    num_local_experts: i32,
    num_experts_per_tok: i32,
    rms_norm_eps: f32,
    max_position_embeddings: i32,
    rope_theta: Option<f32>,
    rope_traditional: bool,
    tie_word_embeddings: bool,
}

impl Default for Args {
    /// Mixtral 8x7B.
    fn default() -> Self {
        Args {
            vocab_size: 32_000,
            hidden_size: 4096,
            intermediate_size: 14_336,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: Some(8),
            num_local_experts: 8,
            num_experts_per_tok: 2,
            rms_norm_eps: 1e-5,
            max_position_embeddings: 32_768,
            rope_theta: None,
            rope_traditional: false,
            tie_word_embeddings: false,
        }
    }
}

/// The experts of a layer. Publishers store them one by one and call their matrices w1, w2 and w3.
fn load_moe(args: &Args, weights: &mut Weights, prefix: &str) -> Result<Moe> {
    let (width, count) = (args.hidden_size, args.num_local_experts);
    let experts = format!("{prefix}.switch_mlp");
    Experts::stack(weights, &format!("{prefix}.experts"), &experts, count, ["w1", "w3", "w2"])?;
    let shape = [width, args.intermediate_size];
    Ok(Moe {
        router: Linear::load(weights, &format!("{prefix}.gate"), width, count, false)?,
        experts: Experts::load(weights, &experts, count, shape, false, Activation::Silu)?,
        used: args.num_experts_per_tok,
        routing: Routing::SoftmaxOfChosen,
        top_k: ops::top_k_negated,
        shared: None,
    })
}

/// Loads a `mixtral` checkpoint.
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
    config.check_dims(&dims, args.intermediate_size)?;
    config.check_experts(
        ("num_local_experts", args.num_local_experts),
        ("num_experts_per_tok", args.num_experts_per_tok),
    )?;
    // Like mlx-lm, without any scaling of the rotary positions.
    let theta = config.rope(args.rope_theta, None)?.0.unwrap_or(1_000_000.0);
    let rope = Rope::new(dims.head_dim, theta, args.rope_traditional, None, dims.context_length)?;
    let (spec, eps) = (dims.attention(Some(rope)), args.rms_norm_eps);
    let norm = RmsNorm::load(weights, "model.norm", dims.hidden_size, eps)?;
    let decoder = Decoder::load(weights, dims, args.tie_word_embeddings, norm, |weights, _, prefix| {
        let moe = load_moe(&args, weights, &format!("{prefix}.block_sparse_moe"))?;
        PreNorm::load(weights, prefix, spec.clone(), eps, moe)
    })?;
    Ok(Box::new(decoder))
}
