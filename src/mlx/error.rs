//! mlx-c's errors as values. Its default handler prints and exits the process, so ours is put in its
//! place before the first call.

use super::sys;
use crate::error::{Error, Result};
use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Once;

thread_local! {
    static MESSAGE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Installs the handler. Every path to mlx-c goes through this first.
pub(super) fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler is a plain function without data; `Once` makes the write of mlx-c's
        // unsynchronised global happen before every call of ours.
        unsafe { sys::mlx_set_error_handler(Some(remember), std::ptr::null_mut(), None) };
    });
}

/// Called by mlx-c inside its catch block, on the thread of the failing call.
unsafe extern "C" fn remember(message: *const c_char, _data: *mut c_void) {
    // SAFETY: mlx-c passes a NUL-terminated string that lives for the call.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
    // A thread that is going down has no slot any more; the return code still says that it failed.
    let _ = MESSAGE.try_with(|slot| slot.replace(Some(text)));
}

/// Turns mlx-c's return code into a result with MLX's message.
pub(super) fn check(code: c_int) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    let message = MESSAGE
        .try_with(|slot| slot.take())
        .ok()
        .flatten()
        .unwrap_or_else(|| "failed without a message".to_string());
    // mlx-c appends " at FILE:LINE" of its own sources, which tells a caller nothing.
    let message = match message.rfind(" at ") {
        Some(end) if message[end..].contains("mlx/c/") => message[..end].to_string(),
        _ => message,
    };
    // MLX has no error codes; its allocators' messages are the only sign.
    if message.contains("alloc]") || message.contains("bad_alloc") || message.contains("out of memory") {
        return Err(Error::OutOfMemory(format!("MLX: {message}")));
    }
    Err(Error::Mlx(message))
}

/// An owned mlx_string.
pub(super) struct MlxString(sys::mlx_string);

impl MlxString {
    pub(super) fn new() -> Self {
        // SAFETY: makes an empty string.
        MlxString(unsafe { sys::mlx_string_new() })
    }

    pub(super) fn as_mut(&mut self) -> *mut sys::mlx_string {
        &mut self.0
    }
}

impl std::fmt::Display for MlxString {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // SAFETY: `self.0` is live; its data is NUL-terminated or NULL.
        let data = unsafe { sys::mlx_string_data(self.0) };
        if data.is_null() {
            return Ok(());
        }
        // SAFETY: as above.
        f.write_str(&unsafe { CStr::from_ptr(data) }.to_string_lossy())
    }
}

impl Drop for MlxString {
    fn drop(&mut self) {
        // SAFETY: owned, freed once. The code only reports a failure that nobody can act on.
        unsafe { sys::mlx_string_free(self.0) };
    }
}
