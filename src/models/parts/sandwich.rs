//! The block with a root mean square norm on both sides of attention and of the feed-forward part
//! ("Sandwich-LN", Ding et al. 2021, CogView).

use super::decoder::Block;
use crate::error::Result;
use crate::mlx::Array;
use crate::nn::{Attention, AttentionSpec, Cache, Memory, Mlp, Module, RmsNorm, Weights, add};

/// A block's norms as the checkpoint has them.
#[derive(Debug, Clone, Copy)]
pub struct SandwichNorms {
    /// Before and after attention, before and after the feed-forward part.
    pub names: [&'static str; 4],
    /// Whether `weight - 1` is stored.
    pub offset: bool,
    /// Added to the mean square.
    pub eps: f32,
}

impl SandwichNorms {
    /// Those of Gemma 2 and 3.
    pub fn gemma(eps: f32) -> Self {
        let names = [
            "input_layernorm",
            "post_attention_layernorm",
            "pre_feedforward_layernorm",
            "post_feedforward_layernorm",
        ];
        SandwichNorms { names, offset: true, eps }
    }
}

/// One layer.
pub struct Sandwich {
    norms: [RmsNorm; 4],
    attention: Attention,
    mlp: Mlp,
    /// The residual sum.
    pub add: fn(&Array, &Array) -> Result<Array>,
}

impl Sandwich {
    /// Takes the norms, each `<prefix>.<name>`, and `<prefix>.self_attn`; `mlp` is the feed-forward part.
    pub fn load(
        weights: &mut Weights,
        prefix: &str,
        norms: SandwichNorms,
        spec: AttentionSpec,
        mlp: Mlp,
    ) -> Result<Self> {
        let load = if norms.offset { RmsNorm::load_offset } else { RmsNorm::load };
        let mut norm =
            |i: usize| load(weights, &format!("{prefix}.{}", norms.names[i]), spec.width, norms.eps);
        let norms = [norm(0)?, norm(1)?, norm(2)?, norm(3)?];
        let attention = Attention::load(weights, &format!("{prefix}.self_attn"), spec)?;
        Ok(Sandwich { norms, attention, mlp, add })
    }
}

impl Block for Sandwich {
    fn forward(&self, x: &Array, memory: &mut Memory) -> Result<Array> {
        let [before_attention, after_attention, before_mlp, after_mlp] = &self.norms;
        let attended = self.attention.forward(&before_attention.forward(x)?, memory)?;
        let h = (self.add)(x, &after_attention.forward(&attended)?)?;
        let mapped = self.mlp.forward(&before_mlp.forward(&h)?)?;
        (self.add)(&h, &after_mlp.forward(&mapped)?)
    }

    fn new_cache(&self) -> Cache {
        self.attention.new_cache()
    }
}
