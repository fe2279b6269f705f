//! The cancel handle.

use super::error::mlxrt_status;
use super::handle::Table;
use super::panic::{guard, guard_quiet};
use super::read::output;
use crate::engine::Cancel;
use once_cell::sync::Lazy;
use std::sync::Arc;

/// Stops loading, generating, looking for models or converting from any thread. One handle may serve
/// any number of calls, one after the other or at the same time; once triggered it stops them all until
/// it is reset.
pub struct mlxrt_cancel {
    _opaque: [u8; 0],
}

pub(super) static CANCELS: Lazy<Table<mlxrt_cancel, Cancel>> = Lazy::new(|| Table::new("cancel"));

/// Makes a cancel handle, not triggered. `out` must not be NULL; free the handle with
/// mlxrt_cancel_free.
///
/// Errors: BAD_ARGUMENT (`out` is NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_cancel_new(out: *mut *mut mlxrt_cancel) -> mlxrt_status {
    guard(|| {
        // SAFETY: the caller's promise.
        *unsafe { output(out, "out") }? = CANCELS.insert(Arc::new(Cancel::default()));
        Ok(())
    })
}

/// Asks every call that was given this handle to stop. Returns at once; each of the calls then returns
/// MLXRT_STATUS_CANCELLED, or what it came to in the meantime:
///
/// - One that generates, within milliseconds; the engine gives its work up before the next token (in a
///   prefill before the next layer on the CPU, the next 2,048 tokens on a GPU).
/// - One that loads, before the next 64 MiB of weights; one that downloads, within milliseconds, even
///   where the network hangs.
/// - One that looks for models, before the next folder or file; one that converts, before the next
///   tensor.
///
/// May be called from any thread, from a callback and from a signal-handling thread.
///
/// Errors: BAD_ARGUMENT (NULL, or a handle that was freed).
#[unsafe(no_mangle)]
pub extern "C" fn mlxrt_cancel_trigger(cancel: *mut mlxrt_cancel) -> mlxrt_status {
    guard(|| {
        CANCELS.get(cancel)?.trigger();
        Ok(())
    })
}

/// Makes a triggered handle ready for another call.
///
/// Errors: BAD_ARGUMENT (NULL, or a handle that was freed).
#[unsafe(no_mangle)]
pub extern "C" fn mlxrt_cancel_reset(cancel: *mut mlxrt_cancel) -> mlxrt_status {
    guard(|| {
        CANCELS.get(cancel)?.reset();
        Ok(())
    })
}

/// Frees the handle; NULL is ignored. A call that was given it goes on and can no longer be
/// cancelled.
#[unsafe(no_mangle)]
pub extern "C" fn mlxrt_cancel_free(cancel: *mut mlxrt_cancel) {
    guard_quiet(|| drop(CANCELS.remove(cancel)));
}
