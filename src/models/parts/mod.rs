//! What several architectures are made of.

pub mod decoder;
pub mod dense;
pub mod gated_delta_net;
pub mod latent_attention;
pub mod moe;
pub mod post_norm;
pub mod pre_norm;
pub mod published;
pub mod sandwich;
