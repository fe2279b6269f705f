//! The panic boundary: no unwinding ever reaches a caller's frames.

use super::error::{mlxrt_status, report};
use crate::error::{Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs the body of an entry point. A panic becomes MLXRT_STATUS_INTERNAL with its message.
pub(super) fn guard(body: impl FnOnce() -> Result<()>) -> mlxrt_status {
    // Asserting is sound: everything shared behind the boundary sits in locks that do not poison and
    // are released by unwinding.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => mlxrt_status::MLXRT_STATUS_OK,
        Ok(Err(error)) => report(&error),
        Err(payload) => report(&Error::from_panic(&*payload)),
    }
}

/// Runs the body of an entry point that cannot report, such as a `_free`.
pub(super) fn guard_quiet(body: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(body));
}
