//! MLX's memory: counters and limits in bytes, for the whole process.

use super::error::mlxrt_status;
use super::panic::guard;
use super::read::output;
use crate::error::{Error, Result};
use crate::mlx::memory;

/// # Safety
/// `out` is NULL or writable.
unsafe fn get(read: fn() -> Result<usize>, out: *mut u64) -> mlxrt_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let out = unsafe { output(out, "out") }?;
        *out = read()? as u64;
        Ok(())
    })
}

/// # Safety
/// `previous` is NULL or writable.
unsafe fn set(write: fn(usize) -> Result<usize>, bytes: u64, previous: *mut u64) -> mlxrt_status {
    guard(|| {
        let bytes = usize::try_from(bytes)
            .map_err(|_| Error::BadArgument(format!("a limit of {bytes} bytes is out of range")))?;
        let old = write(bytes)?;
        if !previous.is_null() {
            // SAFETY: the caller's promise.
            *unsafe { output(previous, "previous") }? = old as u64;
        }
        Ok(())
    })
}

/// Bytes in use by MLX's arrays: weights, caches and work in progress, of all models.
///
/// Errors: BAD_ARGUMENT (`out` is NULL), MLX.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_memory_active(out: *mut u64) -> mlxrt_status {
    // SAFETY: the caller's promise.
    unsafe { get(memory::active, out) }
}

/// The highest number of active bytes since the start or the last mlxrt_memory_reset_peak.
///
/// Errors: BAD_ARGUMENT (`out` is NULL), MLX.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_memory_peak(out: *mut u64) -> mlxrt_status {
    // SAFETY: the caller's promise.
    unsafe { get(memory::peak, out) }
}

/// Bytes that MLX keeps for reuse after arrays were freed. Always 0 in MLX's CPU build, which keeps
/// none.
///
/// Errors: BAD_ARGUMENT (`out` is NULL), MLX.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_memory_cache(out: *mut u64) -> mlxrt_status {
    // SAFETY: the caller's promise.
    unsafe { get(memory::cache, out) }
}

/// Limits the bytes that MLX keeps for reuse (0: keep none). `previous` receives the limit until
/// now and may be NULL. MLX's CPU build accepts and ignores it.
///
/// Errors: BAD_ARGUMENT (more bytes than the machine can address), MLX.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_memory_set_cache_limit(bytes: u64, previous: *mut u64) -> mlxrt_status {
    // SAFETY: the caller's promise.
    unsafe { set(memory::set_cache_limit, bytes, previous) }
}

/// Limits MLX's memory: above it allocations first give kept memory back and wait for running work.
/// A guideline, not a hard wall. `previous` receives the limit until now and may be NULL.
///
/// Errors: BAD_ARGUMENT (more bytes than the machine can address), MLX.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_memory_set_limit(bytes: u64, previous: *mut u64) -> mlxrt_status {
    // SAFETY: the caller's promise.
    unsafe { set(memory::set_memory_limit, bytes, previous) }
}

/// Limits the memory that macOS keeps wired for the GPU. Without effect on other systems.
/// `previous` receives the limit until now and may be NULL.
///
/// Errors: BAD_ARGUMENT (more bytes than the machine can address), MLX.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_memory_set_wired_limit(bytes: u64, previous: *mut u64) -> mlxrt_status {
    // SAFETY: the caller's promise.
    unsafe { set(memory::set_wired_limit, bytes, previous) }
}

/// Gives the bytes that MLX keeps for reuse back to the system.
///
/// Errors: MLX.
#[unsafe(no_mangle)]
pub extern "C" fn mlxrt_memory_clear_cache() -> mlxrt_status {
    guard(memory::clear_cache)
}

/// Starts the peak anew from the bytes now active.
///
/// Errors: MLX.
#[unsafe(no_mangle)]
pub extern "C" fn mlxrt_memory_reset_peak() -> mlxrt_status {
    guard(memory::reset_peak)
}
