//! Status codes and the message behind the last failure of each thread.

use crate::error::Error;
use libc::c_char;
use std::cell::RefCell;
use std::ffi::CString;

/// What a call came to. The values never change; new ones may be added.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum mlxrt_status {
    /// The call did what was asked.
    MLXRT_STATUS_OK = 0,
    /// An argument is NULL, out of range, malformed, not UTF-8, or a handle that was freed.
    MLXRT_STATUS_BAD_ARGUMENT = 1,
    /// A file or folder does not exist.
    MLXRT_STATUS_NOT_FOUND = 2,
    /// A file of the model is broken; the message names the file, the key and what was expected.
    MLXRT_STATUS_BAD_MODEL = 3,
    /// The model is sound but of a kind that this library does not run, or the device is missing.
    MLXRT_STATUS_UNSUPPORTED = 4,
    /// The prompt does not fit the model's context.
    MLXRT_STATUS_CONTEXT_FULL = 5,
    /// Memory ran out, or the memory limit was reached.
    MLXRT_STATUS_OUT_OF_MEMORY = 6,
    /// The cancel handle was triggered, or a progress callback asked to stop.
    MLXRT_STATUS_CANCELLED = 7,
    /// The model was freed during the call.
    MLXRT_STATUS_CLOSED = 8,
    /// The caller's buffer is too small; the count says how much is needed.
    MLXRT_STATUS_BUFFER_TOO_SMALL = 9,
    /// MLX reported an error.
    MLXRT_STATUS_MLX = 10,
    /// A defect of this library, please report it. The process is safe and handles stay valid.
    MLXRT_STATUS_INTERNAL = 11,
    /// The system refused to write or read a file that is no part of a model: the disk is full, say, or
    /// the folder belongs to somebody else.
    MLXRT_STATUS_IO = 12,
    /// A download failed: the hub cannot be reached, went silent, refused, or sent something else than
    /// it lists. What arrived is kept where it can be gone on from.
    MLXRT_STATUS_NETWORK = 13,
    /// As many requests wait for the model as may, or the stream or session is in use by another call.
    MLXRT_STATUS_BUSY = 14,
}

use mlxrt_status::*;

thread_local! {
    static LAST: RefCell<CString> = RefCell::new(CString::default());
}

/// Keeps the message for the thread and gives the code.
pub(super) fn report(error: &Error) -> mlxrt_status {
    report_as(error, &error.to_string())
}

/// Reports an error with a message of the caller's own.
pub(super) fn report_as(error: &Error, message: &str) -> mlxrt_status {
    let text = message.replace('\0', "\u{fffd}");
    // A thread that is going down has no slot any more: the code must do.
    let _ = LAST.try_with(|last| last.replace(CString::new(text).unwrap_or_default()));
    status_of(error)
}

/// The code of an error.
pub(super) fn status_of(error: &Error) -> mlxrt_status {
    match error {
        Error::BadArgument(_) => MLXRT_STATUS_BAD_ARGUMENT,
        Error::NotFound(_) => MLXRT_STATUS_NOT_FOUND,
        Error::BadModel(_) => MLXRT_STATUS_BAD_MODEL,
        Error::Unsupported(_) => MLXRT_STATUS_UNSUPPORTED,
        Error::ContextFull(_) => MLXRT_STATUS_CONTEXT_FULL,
        Error::OutOfMemory(_) => MLXRT_STATUS_OUT_OF_MEMORY,
        Error::Cancelled => MLXRT_STATUS_CANCELLED,
        Error::Closed => MLXRT_STATUS_CLOSED,
        Error::BufferTooSmall(_) => MLXRT_STATUS_BUFFER_TOO_SMALL,
        Error::Io(_) => MLXRT_STATUS_IO,
        Error::Network(_) => MLXRT_STATUS_NETWORK,
        Error::Busy(_) => MLXRT_STATUS_BUSY,
        Error::Mlx(_) => MLXRT_STATUS_MLX,
        Error::Internal(_) => MLXRT_STATUS_INTERNAL,
    }
}

/// The message of this thread's last failed call: NUL-terminated UTF-8, empty if none failed yet,
/// valid until the next failing call on this thread. A successful call does not clear it. Cannot
/// fail.
#[unsafe(no_mangle)]
pub extern "C" fn mlxrt_error_message() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// The name of a status code, such as "BAD_ARGUMENT" ("UNKNOWN" for any other number):
/// NUL-terminated, valid for ever. Cannot fail.
#[unsafe(no_mangle)]
pub extern "C" fn mlxrt_status_name(status: i32) -> *const c_char {
    const NAMES: [&std::ffi::CStr; 15] = [
        c"OK",
        c"BAD_ARGUMENT",
        c"NOT_FOUND",
        c"BAD_MODEL",
        c"UNSUPPORTED",
        c"CONTEXT_FULL",
        c"OUT_OF_MEMORY",
        c"CANCELLED",
        c"CLOSED",
        c"BUFFER_TOO_SMALL",
        c"MLX",
        c"INTERNAL",
        c"IO",
        c"NETWORK",
        c"BUSY",
    ];
    let name = usize::try_from(status).ok().and_then(|index| NAMES.get(index));
    name.unwrap_or(&c"UNKNOWN").as_ptr()
}
