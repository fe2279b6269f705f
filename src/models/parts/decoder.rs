//! What all decoders share: token vectors in, a stack of blocks, a norm, logits out.

use super::super::{Dims, Model};
use crate::error::Result;
use crate::mlx::{Array, ops};
use crate::nn::{
    Batch, Cache, Embedding, Linear, Memory, Module, Pass, RmsNorm, Weights, add, scale, soft_cap,
};

/// A layer, or a part of one that looks at past positions: maps its input and remembers what it must.
pub trait Block {
    /// Maps `x` `[1, length, width]`, for each sequence the positions behind those in its cache.
    fn forward(&self, x: &Array, memory: &mut Memory) -> Result<Array>;

    /// `x + forward(norm(x))`.
    fn forward_residual(&self, x: &Array, norm: &RmsNorm, memory: &mut Memory) -> Result<Array> {
        add(x, &self.forward(&norm.forward(x)?, memory)?)
    }

    /// An empty cache for this layer.
    fn new_cache(&self) -> Cache;
}

/// The whole model.
pub struct Decoder<B> {
    pub dims: Dims,
    embedding: Embedding,
    pub blocks: Vec<B>,
    /// The one behind the last block.
    pub norm: Box<dyn Module>,
    /// `None`: the embedding serves as the output layer.
    head: Option<Linear>,
    /// Factor on the token vectors.
    pub embedding_scale: f32,
    /// Factor on the logits.
    pub logit_scale: f32,
    /// What logits are divided by.
    pub logit_divisor: f32,
    /// Logits stay between plus and minus this, by tanh.
    pub logit_softcap: Option<f32>,
}

impl<B> Decoder<B> {
    /// Takes `model.embed_tokens`, the blocks `model.layers.<i>` by `block`, and `lm_head` unless it is
    /// tied to the embedding. `norm` is the one behind the last block.
    pub fn load(
        weights: &mut Weights,
        dims: Dims,
        tied: bool,
        norm: impl Module + 'static,
        block: impl Fn(&mut Weights, i32, &str) -> Result<B>,
    ) -> Result<Self> {
        let Dims { hidden_size: width, vocab_size, num_layers, .. } = dims;
        let embedding = Embedding::load(weights, "model.embed_tokens", vocab_size, width)?;
        let blocks = (0..num_layers)
            .map(|i| block(weights, i, &format!("model.layers.{i}")))
            .collect::<Result<_>>()?;
        let head = match tied {
            true => None,
            false => Some(Linear::load(weights, "lm_head", width, vocab_size, false)?),
        };
        Ok(Decoder {
            dims,
            embedding,
            blocks,
            norm: Box::new(norm),
            head,
            embedding_scale: 1.0,
            logit_scale: 1.0,
            logit_divisor: 1.0,
            logit_softcap: None,
        })
    }

    /// The vectors of token ids.
    pub fn embed(&self, ids: &Array) -> Result<Array> {
        let vectors = self.embedding.forward(ids)?;
        match self.embedding_scale {
            1.0 => Ok(vectors),
            factor => scale(&vectors, factor),
        }
    }

    /// The logits of what the last norm gave.
    pub fn unembed(&self, hidden: &Array) -> Result<Array> {
        let mut logits = match &self.head {
            Some(head) => head.forward(hidden)?,
            None => self.embedding.logits(hidden)?,
        };
        if self.logit_scale != 1.0 {
            logits = scale(&logits, self.logit_scale)?;
        }
        if self.logit_divisor != 1.0 {
            logits = ops::divide(&logits, &ops::constant(self.logit_divisor, &logits)?)?;
        }
        match self.logit_softcap {
            Some(cap) => soft_cap(&logits, cap),
            None => Ok(logits),
        }
    }
}

impl<B: Block> Model for Decoder<B> {
    fn forward(&self, ids: &Array, batch: &mut Batch, pass: &Pass) -> Result<Array> {
        let mut h = self.embed(ids)?;
        for (index, block) in self.blocks.iter().enumerate() {
            h = block.forward(&h, &mut batch.layer(index)?)?;
            pass.layer_done(&h)?;
        }
        self.norm.forward(&h)
    }

    fn logits(&self, hidden: &Array) -> Result<Array> {
        self.unembed(hidden)
    }

    fn new_caches(&self) -> Vec<Cache> {
        self.blocks.iter().map(Block::new_cache).collect()
    }

    fn dims(&self) -> Dims {
        self.dims
    }
}
