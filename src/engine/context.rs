//! A conversation's tokens and what the model remembers of them.

use crate::models::Model;
use crate::nn::Cache;

/// Tokens in order, and the caches of those that the model has seen.
pub(super) struct Context {
    /// All tokens.
    pub ids: Vec<i32>,
    /// How many of them the model has seen.
    pub seen: usize,
    pub caches: Vec<Cache>,
}

impl Context {
    /// Of nothing.
    pub fn new(model: &dyn Model) -> Self {
        Context { ids: vec![], seen: 0, caches: model.new_caches() }
    }

    /// Tokens that the model has yet to see.
    pub fn unseen(&self) -> &[i32] {
        &self.ids[self.seen..]
    }
}
