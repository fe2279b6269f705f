//! Conversations that keep what was computed.

use super::error::mlxrt_status;
use super::handle::Table;
use super::model::{MODELS, mlxrt_model};
use super::panic::{guard, guard_quiet};
use super::read::{output, text};
use super::tokenize::fill;
use crate::engine::Session;
use crate::error::Result;
use libc::c_char;
use once_cell::sync::Lazy;
use std::path::Path;
use std::sync::Arc;

/// A conversation with a model, which remembers its tokens and what was computed of them: a call that
/// names it in its options only computes what is new. One call at a time may use it; further ones end with
/// MLXRT_STATUS_BUSY.
pub struct mlxrt_session {
    _opaque: [u8; 0],
}

pub(super) static SESSIONS: Lazy<Table<mlxrt_session, Session>> = Lazy::new(|| Table::new("session"));

/// Hands a new session to the caller.
///
/// # Safety
/// `out` is NULL or writable.
unsafe fn make(out: *mut *mut mlxrt_session, session: impl FnOnce() -> Result<Session>) -> mlxrt_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let out = unsafe { output(out, "out") }?;
        *out = std::ptr::null_mut();
        *out = SESSIONS.insert(Arc::new(session()?));
        Ok(())
    })
}

/// Makes an empty conversation with a model. Free the handle with mlxrt_session_free; the model may be freed
/// before, and calls with the session then end with CLOSED.
///
/// Errors: BAD_ARGUMENT (a model that was freed, `out` is NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_session_new(
    model: *const mlxrt_model,
    out: *mut *mut mlxrt_session,
) -> mlxrt_status {
    // SAFETY: the caller's promise.
    unsafe { make(out, || Ok(Session::new(&MODELS.get(model)?.model))) }
}

/// The ids of all its tokens in order: prompts and answers, as far as the callers took them. Buffer and
/// `*count` as for mlxrt_model_tokenize.
///
/// Errors: BAD_ARGUMENT, BUFFER_TOO_SMALL, BUSY, CLOSED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_session_tokens(
    session: *const mlxrt_session,
    ids: *mut i32,
    capacity: usize,
    count: *mut usize,
) -> mlxrt_status {
    guard(|| {
        let tokens = SESSIONS.get(session)?.tokens()?;
        // SAFETY: the caller's promise.
        unsafe { fill(&tokens, ids, capacity, count) }
    })
}

/// Forgets all tokens behind the first `count`. What comes then is computed behind those. Where the model
/// can't go back so far (recurrent layers, sliding windows, a rotated context) the next call computes some
/// of the first ones again.
///
/// Errors: BAD_ARGUMENT (more than the session has), BUSY, CLOSED, MLX.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_session_rewind(session: *mut mlxrt_session, count: usize) -> mlxrt_status {
    guard(|| SESSIONS.get(session)?.rewind(count))
}

/// Makes a second conversation that begins with the same tokens; both go on independently. The memory of
/// what they have in common is shared. On failure `*out` is NULL.
///
/// Errors: BAD_ARGUMENT, BUSY, CLOSED, MLX.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_session_fork(
    session: *const mlxrt_session,
    out: *mut *mut mlxrt_session,
) -> mlxrt_status {
    // SAFETY: the caller's promise.
    unsafe { make(out, || SESSIONS.get(session)?.fork()) }
}

/// Writes a conversation to a file, tokens and what was computed of them. It is a safetensors file and
/// appears when it is complete.
///
/// Errors: BAD_ARGUMENT, IO, BUSY, CLOSED, MLX.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_session_export(
    session: *const mlxrt_session,
    path: *const c_char,
    path_len: usize,
) -> mlxrt_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let path = unsafe { text(path, path_len, "path") }?;
        SESSIONS.get(session)?.export(Path::new(path))
    })
}

/// Makes a conversation from a file that mlxrt_session_export wrote, with the same model, weights and type
/// included, and the same kv_bits, rotate_context and keep_tokens. On failure `*out` is NULL.
///
/// Errors: BAD_ARGUMENT, NOT_FOUND, BAD_MODEL (the file is broken, or belongs to another model: the message
/// says what was expected), IO, CLOSED, MLX.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_session_import(
    model: *const mlxrt_model,
    path: *const c_char,
    path_len: usize,
    out: *mut *mut mlxrt_session,
) -> mlxrt_status {
    // SAFETY: the caller's promise.
    unsafe {
        make(out, || Session::import(&MODELS.get(model)?.model, Path::new(text(path, path_len, "path")?)))
    }
}

/// Frees a conversation and its memory: NULL and handles that were freed before are ignored. A call that
/// uses it goes on to its end.
#[unsafe(no_mangle)]
pub extern "C" fn mlxrt_session_free(session: *mut mlxrt_session) {
    guard_quiet(|| drop(SESSIONS.remove(session)));
}
