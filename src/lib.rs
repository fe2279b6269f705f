//! Run MLX language models from any language.
//!
//! The product is the C library: `include/mlxrt.h` is generated from [`ffi`]. Dependencies point one
//! way: `ffi` -> `engine` -> `models` -> `nn` -> `kernels` -> `mlx`. ARCHITECTURE.md follows a request through them.

pub mod engine;
pub mod error;
pub mod ffi;
pub mod kernels;
pub mod mlx;
pub mod models;
pub mod nn;
