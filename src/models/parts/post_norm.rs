//! The block of OLMo 2 (OLMo Team 2025): root mean square norms behind attention and behind the
//! feed-forward part, before each is added to the residual stream.

use super::decoder::Block;
use crate::error::Result;
use crate::mlx::Array;
use crate::nn::{Attention, AttentionSpec, Cache, Memory, Module, RmsNorm, Weights, add};

/// One layer.
pub struct PostNorm {
    attention: Attention,
    attention_norm: RmsNorm,
    mlp: Box<dyn Module>,
    mlp_norm: RmsNorm,
}

impl PostNorm {
    /// Takes `<prefix>.self_attn`, `.post_attention_layernorm`, `.post_feedforward_layernorm`; `mlp` is
    /// the feed-forward part.
    pub fn load(
        weights: &mut Weights,
        prefix: &str,
        spec: AttentionSpec,
        eps: f32,
        mlp: impl Module + 'static,
    ) -> Result<Self> {
        let width = spec.width;
        let mut norm = |name: &str| RmsNorm::load(weights, &format!("{prefix}.{name}"), width, eps);
        let attention_norm = norm("post_attention_layernorm")?;
        let mlp_norm = norm("post_feedforward_layernorm")?;
        let attention = Attention::load(weights, &format!("{prefix}.self_attn"), spec)?;
        Ok(PostNorm { attention, attention_norm, mlp: Box::new(mlp), mlp_norm })
    }
}

impl Block for PostNorm {
    fn forward(&self, x: &Array, memory: &mut Memory) -> Result<Array> {
        let h = add(x, &self.attention_norm.forward(&self.attention.forward(x, memory)?)?)?;
        add(&h, &self.mlp_norm.forward(&self.mlp.forward(&h)?)?)
    }

    fn new_cache(&self) -> Cache {
        self.attention.new_cache()
    }
}
