//! A safe layer over mlx-c: arrays that free themselves, errors as values, nothing that exits.
//!
//! This is the only module that calls mlx-c, and MLX itself for operations of our own (`primitive`). Arrays are not `Send`: MLX's streams belong to threads,
//! so an array lives and dies on the thread that made it.

mod array;
mod error;
mod gradient;
#[cfg(not(target_os = "macos"))]
mod input;
pub mod io;
mod mapped;
pub mod memory;
pub mod ops;
#[cfg(not(target_os = "macos"))]
pub mod primitive;
mod stream;
mod sys;

pub use array::{Array, Dtype};
pub use gradient::{is_tracing, value_and_grad};
pub use mapped::{LargePages, MappedFile, forget};
pub use stream::{Device, DeviceInfo, available, default_device, device_info, thread_device, use_device};

use crate::error::Result;

/// The version of MLX that is loaded, such as "0.32.2".
pub fn version() -> Result<String> {
    error::init();
    let mut text = error::MlxString::new();
    // SAFETY: `text` is a live mlx_string that mlx-c fills.
    error::check(unsafe { sys::mlx_version(text.as_mut()) })?;
    Ok(text.to_string())
}

/// Evaluates arrays now, together.
pub fn eval<'a>(arrays: impl IntoIterator<Item = &'a Array>) -> Result<()> {
    let vector = array::VectorArray::new(arrays)?;
    // SAFETY: `vector` is live for the call.
    error::check(unsafe { sys::mlx_eval(vector.raw()) })
}
