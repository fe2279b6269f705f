//! One layer of Gemma 4.

use super::super::Config;
use super::attention::Attention;
use super::experts::ExpertBlock;
use super::per_layer::InputGate;
use super::{Args, Kind};
use crate::error::Result;
use crate::mlx::Array;
use crate::nn::{Activation, Batch, Cache, Mlp, Module, Recall, RmsNorm, Weights, add, scale};

/// One layer.
pub(super) struct Layer {
    attention_norm: RmsNorm,
    attention: Attention,
    after_attention_norm: RmsNorm,
    mlp_norm: RmsNorm,
    mlp: Mlp,
    experts: Option<ExpertBlock>,
    after_mlp_norm: RmsNorm,
    input_gate: Option<InputGate>,
    /// `[1]`, a factor on the residual stream.
    scalar: f32,
}

impl Layer {
    pub fn load(
        config: &Config,
        args: &Args,
        kinds: &[Kind],
        index: i32,
        weights: &mut Weights,
        prefix: &str,
    ) -> Result<Self> {
        let (width, eps) = (args.hidden_size, args.rms_norm_eps);
        let mut norm = |name: &str| RmsNorm::load(weights, &format!("{prefix}.{name}"), width, eps);
        let attention_norm = norm("input_layernorm")?;
        let after_attention_norm = norm("post_attention_layernorm")?;
        let mlp_norm = norm("pre_feedforward_layernorm")?;
        let after_mlp_norm = norm("post_feedforward_layernorm")?;
        let name = format!("{prefix}.self_attn");
        let attention = Attention::load(config, args, kinds, index as usize, weights, &name)?;
        let double = args.use_double_wide_mlp && !attention.is_owner();
        let hidden = args.intermediate_size * if double { 2 } else { 1 };
        let mlp = Mlp::load(weights, &format!("{prefix}.mlp"), width, hidden, false, Activation::GeluTanh)?;
        let experts = match args.enable_moe_block {
            true => Some(ExpertBlock::load(config, args, weights, prefix)?),
            false => None,
        };
        let input_gate = args.per_layer_width().map(|inner| InputGate::load(args, inner, weights, prefix));
        Ok(Layer {
            attention_norm,
            attention,
            after_attention_norm,
            mlp_norm,
            mlp,
            experts,
            after_mlp_norm,
            input_gate: input_gate.transpose()?,
            scalar: weights.take(&format!("{prefix}.layer_scalar"), &[1])?.to_vec_f32()?[0],
        })
    }

    /// `memories`: see [`Attention::forward`]. `input`: this layer's vectors of the tokens.
    pub fn forward(
        &self,
        x: &Array,
        batch: &mut Batch,
        memories: &mut Vec<Recall>,
        input: Option<&Array>,
    ) -> Result<Array> {
        let attended = self.attention.forward(&self.attention_norm.forward(x)?, batch, memories)?;
        let mut h = add(x, &self.after_attention_norm.forward(&attended)?)?;
        let mut mapped = self.mlp.forward(&self.mlp_norm.forward(&h)?)?;
        if let Some(experts) = &self.experts {
            mapped = experts.forward(&h, &mapped)?;
        }
        h = add(&h, &self.after_mlp_norm.forward(&mapped)?)?;
        if let (Some(gate), Some(input)) = (&self.input_gate, input) {
            h = gate.forward(&h, input)?;
        }
        scale(&h, self.scalar)
    }

    /// An empty cache, if the layer has keys and values of its own.
    pub fn new_cache(&self) -> Option<Cache> {
        self.attention.new_cache()
    }
}
