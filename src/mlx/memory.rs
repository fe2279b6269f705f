//! MLX's memory counters and limits, all in bytes. They are process-wide and may be used from any
//! thread.

use super::error::{check, init};
use super::sys;
use crate::error::Result;

fn read(f: unsafe extern "C" fn(*mut usize) -> i32) -> Result<usize> {
    init();
    let mut bytes = 0;
    // SAFETY: `f` is one of mlx-c's getters, which write one size.
    check(unsafe { f(&mut bytes) })?;
    Ok(bytes)
}

fn set(f: unsafe extern "C" fn(*mut usize, usize) -> i32, limit: usize) -> Result<usize> {
    init();
    let mut previous = 0;
    // SAFETY: `f` is one of mlx-c's setters, which write the previous limit.
    check(unsafe { f(&mut previous, limit) })?;
    Ok(previous)
}

/// Bytes in use by arrays.
pub fn active() -> Result<usize> {
    read(sys::mlx_get_active_memory)
}

/// The highest value of [`active`] since the start or the last [`reset_peak`].
pub fn peak() -> Result<usize> {
    // MLX's reset sets the peak to 0 and not to what is in use.
    Ok(read(sys::mlx_get_peak_memory)?.max(active()?))
}

/// Bytes that MLX keeps for reuse.
pub fn cache() -> Result<usize> {
    read(sys::mlx_get_cache_memory)
}

/// Starts [`peak`] anew.
pub fn reset_peak() -> Result<()> {
    init();
    // SAFETY: no arguments.
    check(unsafe { sys::mlx_reset_peak_memory() })
}

/// Gives the kept bytes back to the system.
pub fn clear_cache() -> Result<()> {
    init();
    // SAFETY: no arguments.
    check(unsafe { sys::mlx_clear_cache() })
}

/// Limits the bytes kept for reuse; returns the previous limit.
pub fn set_cache_limit(bytes: usize) -> Result<usize> {
    set(sys::mlx_set_cache_limit, bytes)
}

/// Limits what MLX allocates before it waits for work to finish; returns the previous limit.
pub fn set_memory_limit(bytes: usize) -> Result<usize> {
    set(sys::mlx_set_memory_limit, bytes)
}

/// Limits the wired memory (Metal only); returns the previous limit.
pub fn set_wired_limit(bytes: usize) -> Result<usize> {
    set(sys::mlx_set_wired_limit, bytes)
}
