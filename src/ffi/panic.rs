//! The panic boundary: no unwinding ever reaches a caller's frames.

use super::error::{mlxrt_status, report};
use crate::error::{Result, without_panic};

/// Runs the body of an entry point. A panic becomes MLXRT_STATUS_INTERNAL with its message.
pub(super) fn guard(body: impl FnOnce() -> Result<()>) -> mlxrt_status {
    match without_panic(body).flatten() {
        Ok(()) => mlxrt_status::MLXRT_STATUS_OK,
        Err(error) => report(&error),
    }
}

/// Runs the body of an entry point that cannot report, such as a `_free`.
pub(super) fn guard_quiet(body: impl FnOnce()) {
    let _ = without_panic(body);
}
