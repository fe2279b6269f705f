//! The block that Llama made common: a root mean square norm before attention (or what stands in its
//! place) and before the feed-forward part, each added to the residual stream.

use super::decoder::Block;
use crate::error::Result;
use crate::mlx::Array;
use crate::nn::{Attention, AttentionSpec, Cache, Memory, Module, RmsNorm, Weights, add, scale};

/// One layer.
pub struct PreNorm {
    mixer_norm: RmsNorm,
    /// Attention, or another block that looks at past positions.
    mixer: Box<dyn Block>,
    mlp_norm: RmsNorm,
    mlp: Box<dyn Module>,
    /// Factor on what is added to the residual stream.
    pub residual_scale: f32,
}

impl PreNorm {
    /// Takes `<prefix>.input_layernorm`, `.self_attn`, `.post_attention_layernorm`; `mlp` is the
    /// feed-forward part.
    pub fn load(
        weights: &mut Weights,
        prefix: &str,
        spec: AttentionSpec,
        eps: f32,
        mlp: impl Module + 'static,
    ) -> Result<Self> {
        let width = spec.width;
        let mut norm = |name: &str| RmsNorm::load(weights, &format!("{prefix}.{name}"), width, eps);
        let norms = [norm("input_layernorm")?, norm("post_attention_layernorm")?];
        let attention = Attention::load(weights, &format!("{prefix}.self_attn"), spec)?;
        Ok(PreNorm::new(norms, Box::new(attention), Box::new(mlp)))
    }

    /// A layer of these parts; `norms` stand before `mixer` and before `mlp`.
    pub fn new(norms: [RmsNorm; 2], mixer: Box<dyn Block>, mlp: Box<dyn Module>) -> Self {
        let [mixer_norm, mlp_norm] = norms;
        PreNorm { mixer_norm, mixer, mlp_norm, mlp, residual_scale: 1.0 }
    }
}

impl Block for PreNorm {
    fn forward(&self, x: &Array, memory: &mut Memory) -> Result<Array> {
        if self.residual_scale == 1.0 {
            let h = self.mixer.forward_residual(x, &self.mixer_norm, memory)?;
            return self.mlp.forward_residual(&h, &self.mlp_norm);
        }
        let add = |x: &Array, change: Array| add(x, &scale(&change, self.residual_scale)?);
        let h = add(x, self.mixer.forward(&self.mixer_norm.forward(x)?, memory)?)?;
        add(&h, self.mlp.forward(&self.mlp_norm.forward(&h)?)?)
    }

    fn new_cache(&self) -> Cache {
        self.mixer.new_cache()
    }
}

impl Block for Attention {
    fn forward(&self, x: &Array, memory: &mut Memory) -> Result<Array> {
        self.forward(x, memory)
    }

    fn forward_residual(&self, x: &Array, norm: &RmsNorm, memory: &mut Memory) -> Result<Array> {
        self.forward_residual(x, norm, memory)
    }

    fn new_cache(&self) -> Cache {
        self.new_cache()
    }
}
