//! Per-layer embeddings (Gemma 3n, Google 2025): a small vector of each token for each layer.

use super::Args;
use crate::error::Result;
use crate::mlx::{Array, ops};
use crate::nn::{Activation, Embedding, Linear, Module, RmsNorm, Weights, add, scale};

/// Looks the vectors of all layers up and mixes each with a projection of the token's ordinary vector.
pub(super) struct PerLayerInputs {
    embedding: Embedding,
    projection: Linear,
    norm: RmsNorm,
    layers: i32,
    width: i32,
}

impl PerLayerInputs {
    pub fn load(weights: &mut Weights, args: &Args, width: i32) -> Result<Self> {
        let (layers, vocabulary) = (args.num_hidden_layers, args.vocab_size_per_layer_input);
        let all = layers * width;
        let (hidden, eps) = (args.hidden_size, args.rms_norm_eps);
        Ok(PerLayerInputs {
            embedding: Embedding::load(weights, "model.embed_tokens_per_layer", vocabulary, all)?,
            projection: Linear::load(weights, "model.per_layer_model_projection", hidden, all, false)?,
            norm: RmsNorm::load(weights, "model.per_layer_projection_norm", width, eps)?,
            layers,
            width,
        })
    }

    /// Token ids and their scaled vectors to `[batch, length, layers, width]`.
    pub fn forward(&self, ids: &Array, h: &Array) -> Result<Array> {
        let shape = [h.dim(0), h.dim(1), self.layers, self.width];
        let embedded = scale(&self.embedding.forward(ids)?, (self.width as f32).sqrt())?;
        let projected = scale(&self.projection.forward(h)?, (h.dim(-1) as f32).powf(-0.5))?;
        let projected = self.norm.forward(&ops::reshape(&projected, &shape)?)?;
        let sum = add(&projected, &ops::reshape(&embedded, &shape)?)?;
        scale(&sum, std::f32::consts::FRAC_1_SQRT_2)
    }
}

/// Lets the layer's vector of the token in, gated by the residual stream.
pub(super) struct InputGate {
    gate: Linear,
    projection: Linear,
    norm: RmsNorm,
}

impl InputGate {
    pub fn load(args: &Args, inner: i32, weights: &mut Weights, prefix: &str) -> Result<Self> {
        let width = args.hidden_size;
        let name = |part: &str| format!("{prefix}.{part}");
        Ok(InputGate {
            gate: Linear::load(weights, &name("per_layer_input_gate"), width, inner, false)?,
            projection: Linear::load(weights, &name("per_layer_projection"), inner, width, false)?,
            norm: RmsNorm::load(weights, &name("post_per_layer_input_norm"), width, args.rms_norm_eps)?,
        })
    }

    pub fn forward(&self, h: &Array, input: &Array) -> Result<Array> {
        let gated = Activation::GeluTanh.gated(&self.gate.forward(h)?, input)?;
        add(h, &self.norm.forward(&self.projection.forward(&gated)?)?)
    }
}
