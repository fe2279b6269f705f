//! The gated delta net (Yang et al. 2024): queries, keys and values go through a short convolution and
//! the gated delta rule; what is read is normalised and gated.

use super::super::Config;
use super::decoder::Block;
use crate::error::Result;
use crate::mlx::{Array, Dtype, ops};
use crate::nn::{
    Activation, Cache, Linear, Memory, Module, RmsNorm, ShortConv, Weights, gated_delta, rms_norm,
};

/// The shape of a gated delta net.
#[derive(Debug, Clone, Copy)]
pub struct GatedDeltaSpec {
    /// Width of the residual stream.
    pub width: i32,
    /// Of keys (and queries), and of values: a multiple.
    pub heads: [i32; 2],
    /// Width of a key and of a value.
    pub head_dims: [i32; 2],
    /// Positions that the convolution sees.
    pub kernel: i32,
    pub eps: f32,
}

impl GatedDeltaSpec {
    /// Width of all keys, and of all values.
    fn widths(&self) -> [i32; 2] {
        [0, 1].map(|i| self.heads[i].saturating_mul(self.head_dims[i]))
    }

    /// Checks sizes by the names that config.json has for them.
    pub fn check(&self, config: &Config) -> Result<()> {
        let ([key_heads, heads], [key_dim, value_dim], [keys, values]) =
            (self.heads, self.head_dims, self.widths());
        config.check_sizes(&[
            ("linear_num_key_heads", key_heads),
            ("linear_num_value_heads", heads),
            ("linear_key_head_dim", key_dim),
            ("linear_value_head_dim", value_dim),
            ("linear_num_key_heads * linear_key_head_dim", keys),
            ("linear_num_value_heads * linear_value_head_dim", values),
            ("linear_conv_kernel_dim", self.kernel),
        ])?;
        if heads % key_heads != 0 {
            let expected = format!("a divisor of `linear_num_value_heads` ({heads})");
            return Err(config.bad("linear_num_key_heads", expected));
        }
        Ok(())
    }
}

/// The layer.
pub struct GatedDeltaNet {
    spec: GatedDeltaSpec,
    qkv: Linear,
    gate: Linear,
    beta: Linear,
    decay: Linear,
    conv: ShortConv,
    decay_bias: Array,
    /// `-exp(A_log)`, float32.
    decay_rate: Array,
    norm: RmsNorm,
    output: Linear,
}

impl GatedDeltaNet {
    /// Takes `<prefix>.in_proj_{qkv,z,b,a}`, `.conv1d`, `.dt_bias`, `.A_log`, `.norm` and `.out_proj`.
    pub fn load(weights: &mut Weights, prefix: &str, spec: GatedDeltaSpec) -> Result<Self> {
        let GatedDeltaSpec { width, heads: [_, heads], head_dims: [_, value_dim], kernel, eps } = spec;
        let [keys, values] = spec.widths();
        let mixed = 2 * keys + values;
        let name = |part: &str| format!("{prefix}.{part}");
        let rate = weights.take_as_stored(&name("A_log"), &[heads])?;
        let rate = ops::negative(&ops::exp(&ops::astype(&rate, Dtype::F32)?)?)?;
        let mut linear = |part, input, output| Linear::load(weights, &name(part), input, output, false);
        Ok(GatedDeltaNet {
            spec,
            qkv: linear("in_proj_qkv", width, mixed)?,
            gate: linear("in_proj_z", width, values)?,
            beta: linear("in_proj_b", width, heads)?,
            decay: linear("in_proj_a", width, heads)?,
            output: linear("out_proj", values, width)?,
            conv: ShortConv::load(weights, &name("conv1d"), mixed, kernel, false)?,
            decay_bias: weights.take(&name("dt_bias"), &[heads])?,
            decay_rate: weights.derived(rate),
            norm: RmsNorm::load(weights, &name("norm"), value_dim, eps)?,
        })
    }
}

impl Block for GatedDeltaNet {
    /// From the convolution to the output layer everything is float32, where mlx-lm rounds in between.
    fn forward(&self, x: &Array, memory: &mut Memory) -> Result<Array> {
        let (batch, length) = (x.dim(0), x.dim(1));
        let GatedDeltaSpec { heads: [key_heads, heads], head_dims: [key_dim, value_dim], .. } = self.spec;
        let [keys, values] = self.spec.widths();
        let float = |x: &Array| ops::astype(x, Dtype::F32);
        let split = |x: &Array, heads, dim| ops::reshape(x, &[batch, length, heads, dim]);

        let mixed = memory.each(1, [&self.qkv.forward(x)?], |[qkv], cache, _| {
            self.conv.forward(&qkv, cache.recurrent()?, 0)
        })?;
        let mixed = Activation::Silu.apply(&mixed)?;
        let parts = ops::split(&float(&mixed)?, &[keys, 2 * keys], -1)?;
        // Of length 1; queries carry the factor on what they read too.
        let scale = (key_dim as f32).powf(-0.5);
        let unit = |x: &Array| rms_norm(&split(x, key_heads, key_dim)?, None, 1e-6 * scale * scale);
        let q = ops::scale(&unit(&parts[0])?, scale * scale)?;
        let k = ops::scale(&unit(&parts[1])?, scale)?;
        let v = split(&parts[2], heads, value_dim)?;

        let beta = ops::sigmoid(&self.beta.forward(x)?)?;
        let step = ops::add(&self.decay.forward(x)?, &self.decay_bias)?;
        let softplus = ops::logaddexp(&step, &ops::constant(0.0, &step)?)?;
        let log_decay = ops::multiply(&self.decay_rate, &softplus)?;
        let read =
            memory.each(1, [&q, &k, &v, &log_decay, &beta], |[q, k, v, log_decay, beta], cache, _| {
                let cache = cache.recurrent()?;
                let (read, state) = gated_delta([&q, &k, &v], &log_decay, &beta, cache.get(1))?;
                cache.set(1, state);
                Ok(read)
            })?;

        let gate = float(&split(&self.gate.forward(x)?, heads, value_dim)?)?;
        let gated = Activation::Silu.gated(&gate, &self.norm.forward(&read)?)?;
        let joined = ops::reshape(&gated, &[batch, length, values])?;
        self.output.forward(&ops::astype(&joined, x.dtype())?)
    }

    /// What the convolution remembers, and the memory.
    fn new_cache(&self) -> Cache {
        Cache::state(2)
    }
}
