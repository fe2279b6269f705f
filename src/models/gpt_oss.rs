//! gpt-oss (OpenAI 2025): experts with biases, stored in 4-bit floats, and a clipped activation;
//! attention with biases and a learned sink for every head, every second layer with a short window.

use super::parts::decoder::Decoder;
use super::parts::moe::{Moe, Routing};
use super::parts::pre_norm::PreNorm;
use super::{Config, Dims, Model};
use crate::error::Result;
use crate::mlx::{Dtype, ops};
use crate::nn::{Activation, AttentionSpec, Experts, Linear, RmsNorm, Rope, RopeScaling, Weights};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Args {
    num_hidden_layers: i32,
    num_local_experts: i32,
    num_experts_per_tok: i32,
    vocab_size: i32,
    rms_norm_eps: f32,
    hidden_size: i32,
    intermediate_size: i32,
    head_dim: i32,
    num_attention_heads: i32,
    num_key_value_heads: i32,
    sliding_window: i32,
    max_position_embeddings: i32,
    rope_theta: Option<f32>,
    rope_scaling: Option<RopeScaling>,
    layer_types: Option<Vec<String>>,
}

impl Default for Args {
    /// gpt-oss 120B.
    fn default() -> Self {
        Args {
            num_hidden_layers: 36,
            num_local_experts: 128,
            num_experts_per_tok: 4,
            vocab_size: 201_088,
            rms_norm_eps: 1e-5,
            hidden_size: 2880,
            intermediate_size: 2880,
            head_dim: 64,
            num_attention_heads: 64,
            num_key_value_heads: 8,
            sliding_window: 128,
            max_position_embeddings: 131_072,
            rope_theta: None,
            rope_scaling: None,
            layer_types: None,
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
            num_kv_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
            context_length: self.max_position_embeddings,
        }
    }

    fn check(&self, config: &Config) -> Result<()> {
        config.check_dims(&self.dims(), self.intermediate_size)?;
        config.check_sizes(&[("sliding_window", self.sliding_window)])?;
        config.check_experts(
            ("num_local_experts", self.num_local_experts),
            ("num_experts_per_tok", self.num_experts_per_tok),
        )
    }

    /// The window of each layer.
    fn windows(&self, config: &Config) -> Result<Vec<Option<i32>>> {
        let (types, window) = (self.layer_types.as_deref(), Some(self.sliding_window));
        config.windows(types, self.num_hidden_layers, window, |layer| layer % 2 == 0)
    }
}

/// The publisher's layout to mlx-lm's. Rows of gate and up alternate in one tensor, and 32 values are
/// a block of 16 bytes: `gate_up_proj_blocks` is uint8 `[experts, rows, blocks, 16]`.
fn unpack_experts(args: &Args, weights: &mut Weights, prefix: &str) -> Result<()> {
    let (count, width, hidden) = (args.num_local_experts, args.hidden_size, args.intermediate_size);
    for (name, rows, columns) in [("gate_up_proj", 2 * hidden, width), ("down_proj", width, hidden)] {
        let blocks = columns / 32;
        let parts: [(&str, &str, &[i32]); 3] = [
            ("blocks", "weight", &[count, rows, blocks, 16]),
            ("scales", "scales", &[count, rows, blocks]),
            ("bias", "bias", &[count, rows]),
        ];
        for (published, part, shape) in parts {
            let found = weights.remove_shaped(&format!("{prefix}.{name}_{published}"), shape)?;
            let Some((mut array, file)) = found else { continue };
            if part == "weight" {
                array = ops::flatten(&ops::view(&array, Dtype::U32)?, -2, -1)?;
            }
            if name == "down_proj" {
                weights.insert(&format!("{prefix}.{name}.{part}"), array, &file);
                continue;
            }
            for (start, name) in [(0, "gate_proj"), (1, "up_proj")] {
                let half = ops::contiguous(&ops::slice_step(&array, 1, start, rows, 2)?)?;
                weights.insert(&format!("{prefix}.{name}.{part}"), half, &file);
            }
        }
    }
    Ok(())
}

fn load_moe(args: &Args, weights: &mut Weights, prefix: &str) -> Result<Moe> {
    let (width, count) = (args.hidden_size, args.num_local_experts);
    let experts = format!("{prefix}.experts");
    unpack_experts(args, weights, &experts)?;
    let shape = [width, args.intermediate_size];
    Ok(Moe {
        router: Linear::load(weights, &format!("{prefix}.router"), width, count, true)?,
        experts: Experts::load(weights, &experts, count, shape, true, Activation::ClippedSwish)?,
        used: args.num_experts_per_tok,
        routing: Routing::SoftmaxOfChosen,
        top_k: ops::top_k,
        shared: None,
    })
}

/// Loads a `gpt_oss` checkpoint.
pub(super) fn load(config: &Config, weights: &mut Weights) -> Result<Box<dyn Model>> {
    let args: Args = config.args()?;
    args.check(config)?;
    let windows = args.windows(config)?;
    let (dims, eps) = (args.dims(), args.rms_norm_eps);
    let (theta, scaling) = config.rope(args.rope_theta, args.rope_scaling.clone())?;
    let theta = theta.unwrap_or(150_000.0);
    let rope = Rope::new(dims.head_dim, theta, false, scaling.as_ref(), dims.context_length)?;
    let spec = AttentionSpec { qkv_bias: true, output_bias: true, sinks: true, ..dims.attention(Some(rope)) };
    weights.keep_precise(&["router"]);
    let norm = RmsNorm::load(weights, "model.norm", dims.hidden_size, eps)?;
    let decoder = Decoder::load(weights, dims, false, norm, |weights, layer, prefix| {
        let moe = load_moe(&args, weights, &format!("{prefix}.mlp"))?;
        let spec = AttentionSpec { window: windows[layer as usize], ..spec.clone() };
        PreNorm::load(weights, prefix, spec, eps, moe)
    })?;
    Ok(Box::new(decoder))
}
