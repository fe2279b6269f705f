//! The operations that models use. Each builds a node of MLX's graph on this thread's stream; nothing
//! is computed until an array is evaluated.

mod elementwise;
mod fast;
mod product;
mod reduce;
mod shape;

pub use elementwise::*;
pub use fast::*;
pub use product::*;
pub use reduce::*;
pub use shape::*;

use super::array::{Array, VectorArray};
use super::stream::with_stream;
use super::sys;
use crate::error::Result;

/// Builds one array with this thread's stream.
fn build(f: impl FnOnce(*mut sys::mlx_array, sys::mlx_stream) -> i32) -> Result<Array> {
    with_stream(|stream| Array::make(|out| f(out, stream)))?
}

/// Builds several arrays with this thread's stream.
fn build_many(f: impl FnOnce(*mut sys::mlx_vector_array, sys::mlx_stream) -> i32) -> Result<Vec<Array>> {
    with_stream(|stream| VectorArray::make(|out| f(out, stream)))?
}

/// mlx-c's "may be null" array.
fn null() -> sys::mlx_array {
    sys::mlx_array { ctx: std::ptr::null_mut() }
}

fn or_null(array: Option<&Array>) -> sys::mlx_array {
    array.map_or_else(null, Array::raw)
}
