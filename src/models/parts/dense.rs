//! What the families that are built like Llama share: one reading of config.json, one rotary embedding and
//! one gated feed-forward part for all layers.

use super::super::{Config, Dims, Model};
use super::decoder::Decoder;
use super::pre_norm::PreNorm;
use crate::error::Result;
use crate::nn::{Activation, AttentionSpec, Mlp, RmsNorm, Rope, RopeScaling, Weights};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Args {
    hidden_size: i32,
    num_hidden_layers: i32,
    intermediate_size: i32,
    num_attention_heads: i32,
    num_key_value_heads: Option<i32>,
    head_dim: Option<i32>,
    rms_norm_eps: f32,
    vocab_size: i32,
    max_position_embeddings: Option<i32>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    rope_theta: Option<f32>,
    #[serde(default)]
    rope_traditional: bool,
    rope_scaling: Option<RopeScaling>,
    tie_word_embeddings: Option<bool>,
}

/// What holds where config.json says nothing.
pub struct Defaults {
    /// Keys that it must have in this family.
    pub required: &'static [&'static str],
    /// The rotary base; `None`: config.json must have it.
    pub theta: Option<f32>,
    /// `max_position_embeddings`.
    pub context: i32,
    /// `tie_word_embeddings`.
    pub tied: bool,
}

impl Defaults {
    /// Llama's.
    pub const LLAMA: Self = Defaults { required: &[], theta: Some(10_000.0), context: 2048, tied: true };
}

/// A model as config.json describes it. A family changes what it has otherwise, and loads it.
pub struct Dense {
    pub dims: Dims,
    /// Of all norms.
    pub eps: f32,
    /// Whether the embedding serves as the output layer.
    tied: bool,
    intermediate_size: i32,
    mlp_bias: bool,
    /// Base of the rotary embedding.
    pub theta: f32,
    /// Of every layer.
    pub attention: AttentionSpec,
}

impl Dense {
    /// Reads and checks config.json.
    pub fn read(config: &Config, defaults: Defaults) -> Result<Self> {
        let args: Args = config.args()?;
        if let Some(key) = defaults.required.iter().find(|key| config.get(key).is_none()) {
            return Err(config.bad(key, "a value"));
        }
        let (theta, scaling) = config.rope(args.rope_theta, args.rope_scaling)?;
        let theta = theta.or(defaults.theta).ok_or_else(|| config.bad("rope_theta", "a number"))?;
        let dims = Dims {
            vocab_size: args.vocab_size,
            num_layers: args.num_hidden_layers,
            hidden_size: args.hidden_size,
            num_heads: args.num_attention_heads,
            num_kv_heads: args.num_key_value_heads.unwrap_or(args.num_attention_heads),
            head_dim: args.head_dim.unwrap_or(args.hidden_size / args.num_attention_heads.max(1)),
            context_length: args.max_position_embeddings.unwrap_or(defaults.context),
        };
        config.check_dims(&dims, args.intermediate_size)?;
        let Dims { head_dim, context_length, .. } = dims;
        let rope = Rope::new(head_dim, theta, args.rope_traditional, scaling.as_ref(), context_length)?;
        Ok(Dense {
            dims,
            eps: args.rms_norm_eps,
            tied: args.tie_word_embeddings.unwrap_or(defaults.tied),
            intermediate_size: args.intermediate_size,
            mlp_bias: args.mlp_bias,
            theta,
            attention: AttentionSpec {
                qkv_bias: args.attention_bias,
                output_bias: args.attention_bias,
                ..dims.attention(Some(rope))
            },
        })
    }

    /// Takes the weights. `block` makes a layer, given its number, its name and its feed-forward part.
    pub fn load<B>(
        &self,
        weights: &mut Weights,
        block: impl Fn(&mut Weights, i32, &str, Mlp) -> Result<B>,
    ) -> Result<Decoder<B>> {
        let (width, hidden) = (self.dims.hidden_size, self.intermediate_size);
        let norm = RmsNorm::load(weights, "model.norm", width, self.eps)?;
        Decoder::load(weights, self.dims, self.tied, norm, |weights, layer, prefix| {
            let name = format!("{prefix}.mlp");
            let mlp = Mlp::load(weights, &name, width, hidden, self.mlp_bias, Activation::Silu)?;
            block(weights, layer, prefix, mlp)
        })
    }

    /// The same with Llama's blocks; `vary` changes the attention of a layer.
    pub fn load_pre_norm(
        &self,
        weights: &mut Weights,
        vary: impl Fn(i32, &mut AttentionSpec),
    ) -> Result<Box<dyn Model>> {
        let decoder = self.load(weights, |weights, layer, prefix, mlp| {
            let mut spec = self.attention.clone();
            vary(layer, &mut spec);
            PreNorm::load(weights, prefix, spec, self.eps, mlp)
        })?;
        Ok(Box::new(decoder))
    }
}
