//! The C boundary: raw pointers from callers exist here and nowhere else.
//!
//! Each file holds one object of the header. Every entry point runs its body in `panic::guard`,
//! looks handles up in a `handle::Table` and copies what it is given into Rust types before it
//! calls the engine. The conventions are written at the head of `include/mlxrt.h` (`cbindgen.toml`).
#![allow(non_camel_case_types)]
// What callers must uphold is the same everywhere and stands once, under POINTERS in the header.
#![allow(clippy::missing_safety_doc)]

mod handle;
mod panic;
mod read;

// The objects, in the order of the header.
pub mod version;

pub mod error;

pub mod device;

pub mod memory;

pub mod cancel;

pub mod discover;

pub mod model;

pub mod tokenize;

pub mod generate;

pub mod chat;

pub mod stream;

pub mod session;

pub mod batch;

pub mod classify;

pub mod stats;

pub mod convert;
