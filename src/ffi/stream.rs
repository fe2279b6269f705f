//! The tokens of an answer, taken one by one: no callback.

use super::chat::{mlxrt_chat_options, mlxrt_message, read_chat};
use super::error::mlxrt_status;
use super::generate::{mlxrt_generate_options, mlxrt_generate_result, mlxrt_token};
use super::generate::{read_ids, read_prompt, to_result, to_token};
use super::handle::Table;
use super::model::{Loaded, MODELS, mlxrt_model};
use super::panic::{guard, guard_quiet};
use super::read::{output, write_sized};
use crate::engine::{Finish, GenerateOptions, Stream, Token};
use crate::error::{Error, Result};
use libc::c_char;
use once_cell::sync::Lazy;
use parking_lot::{Mutex, MutexGuard};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// An answer under way whose tokens are taken one by one. Any thread may take the next one, one at a time.
pub struct mlxrt_stream {
    _opaque: [u8; 0],
}

/// What a handle stands for.
struct Open {
    /// Locked while a call uses the stream.
    state: Mutex<State>,
    is_freed: AtomicBool,
    abandon: Box<dyn Fn() + Send + Sync>,
}

struct State {
    stream: Stream,
    end: Option<Result<Finish>>,
    /// The token that the caller was given last.
    told: Option<Arc<Told>>,
}

/// A token and what callers see of it.
struct Told {
    seen: mlxrt_token,
    _token: Token,
}

// SAFETY: `seen` points to the text of `_token`, which nobody changes.
unsafe impl Send for Told {}
unsafe impl Sync for Told {}

static STREAMS: Lazy<Table<mlxrt_stream, Open>> = Lazy::new(|| Table::new("stream"));

thread_local! {
    /// The token that this thread was given last: its caller may be reading it when another thread frees
    /// the stream.
    static TOLD: RefCell<Option<Arc<Told>>> = const { RefCell::new(None) };
}

impl Open {
    fn use_alone(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state.try_lock();
        state.ok_or_else(|| Error::Busy("the stream is in use by another call".into()))
    }

    fn next(&self) -> Result<*const mlxrt_token> {
        let mut state = self.use_alone()?;
        state.told = None;
        let next = state.stream.next();
        if self.is_freed.load(Ordering::Acquire) {
            return Err(Error::Cancelled);
        }
        let token = match next {
            Ok(token) => token,
            Err(error) => {
                state.end = Some(Err(error.clone()));
                return Err(error);
            }
        };
        state.end = state.stream.finish().map(Ok);
        let Some(token) = token else { return Ok(std::ptr::null()) };
        // Moving a token leaves its text where it is.
        let told = Arc::new(Told { seen: to_token(&token), _token: token });
        state.told = Some(told.clone());
        let seen = &raw const told.seen;
        // A thread that is going down has no slot any more; the stream keeps the token too.
        let _ = TOLD.try_with(|slot| slot.replace(Some(told)));
        Ok(seen)
    }
}

/// Begins an answer.
///
/// # Safety
/// `out` is NULL or writable.
unsafe fn open(
    model: *const mlxrt_model,
    out: *mut *mut mlxrt_stream,
    read: impl FnOnce(&Loaded) -> Result<(Vec<i32>, GenerateOptions)>,
) -> mlxrt_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let out = unsafe { output(out, "out") }?;
        *out = std::ptr::null_mut();
        let loaded = MODELS.get(model)?;
        let (ids, options) = read(&loaded)?;
        let stream = loaded.model.stream(ids, options)?;
        let abandon = Box::new(stream.abandoner());
        let state = Mutex::new(State { stream, end: None, told: None });
        *out = STREAMS.insert(Arc::new(Open { state, is_freed: AtomicBool::new(false), abandon }));
        Ok(())
    })
}

/// Begins to continue a prompt as it stands, and returns at once: the tokens are taken with
/// mlxrt_stream_next. The answer is that of mlxrt_model_generate. `options` may be NULL. On success `*out`
/// is a handle for mlxrt_stream_free, on failure NULL.
///
/// The model computes a few tokens ahead of the caller and then waits. A stream that is left alone keeps its
/// place among the model's max_concurrent requests, so free those that are no longer read. The model may
/// be freed before its streams.
///
/// Errors: BAD_ARGUMENT as for mlxrt_model_generate, and where `out` is NULL; CLOSED. What the model finds
/// when it begins, such as CONTEXT_FULL and BUSY, mlxrt_stream_next tells.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_stream_open(
    model: *const mlxrt_model,
    prompt: *const c_char,
    prompt_len: usize,
    options: *const mlxrt_generate_options,
    out: *mut *mut mlxrt_stream,
) -> mlxrt_status {
    // SAFETY: the caller's promise.
    unsafe { open(model, out, |loaded| read_prompt(loaded, prompt, prompt_len, options)) }
}

/// Like mlxrt_stream_open, for a prompt of token ids.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_stream_open_ids(
    model: *const mlxrt_model,
    ids: *const i32,
    id_count: usize,
    options: *const mlxrt_generate_options,
    out: *mut *mut mlxrt_stream,
) -> mlxrt_status {
    // SAFETY: the caller's promise.
    unsafe { open(model, out, |_| read_ids(ids, id_count, options)) }
}

/// Like mlxrt_stream_open, for a conversation: the answer is that of mlxrt_model_chat.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_stream_open_chat(
    model: *const mlxrt_model,
    messages: *const mlxrt_message,
    message_count: usize,
    chat: *const mlxrt_chat_options,
    options: *const mlxrt_generate_options,
    out: *mut *mut mlxrt_stream,
) -> mlxrt_status {
    // SAFETY: the caller's promise.
    unsafe { open(model, out, |loaded| read_chat(loaded, messages, message_count, chat, options)) }
}

/// Waits for the next token. `*token` is NULL when the answer is complete, and after a failure. What it
/// points to is valid until the next call of this function for the same stream, or until the stream is
/// freed; if another thread frees it, until the next call of this function on this thread.
///
/// After the end it gives the end again, after an error the same error.
///
/// Errors: BAD_ARGUMENT (a stream that was freed, `token` is NULL), BUSY (another thread's call is using
/// the stream: that one goes on; or, as the first thing, too many requests waited for the model),
/// CONTEXT_FULL, CANCELLED (by the cancel handle, or the stream was freed during the call), CLOSED (the
/// model was freed), OUT_OF_MEMORY, MLX.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_stream_next(
    stream: *mut mlxrt_stream,
    token: *mut *const mlxrt_token,
) -> mlxrt_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let out = unsafe { output(token, "token") }?;
        *out = std::ptr::null();
        *out = STREAMS.get(stream)?.next()?;
        Ok(())
    })
}

/// What was done so far: finish is MLXRT_FINISH_NONE and status MLXRT_STATUS_OK while the answer goes on,
/// and after an error status says which. total_seconds counts until this call. Set `out->struct_size`
/// before the call.
///
/// Errors: BAD_ARGUMENT (a stream that was freed, `out` is NULL or its struct_size was not set), BUSY
/// (another thread's call is using the stream).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_stream_result(
    stream: *const mlxrt_stream,
    out: *mut mlxrt_generate_result,
) -> mlxrt_status {
    guard(|| {
        let open = STREAMS.get(stream)?;
        let state = open.use_alone()?;
        // SAFETY: the caller's promise.
        unsafe { write_sized(out, &to_result(&state.stream.summary(), state.end.as_ref())) }
    })
}

/// Frees a stream and ends its answer if it is under way: NULL and handles that were freed before are
/// ignored. Returns at once. A call of mlxrt_stream_next that waits on another thread returns with
/// MLXRT_STATUS_CANCELLED before the model's next step.
#[unsafe(no_mangle)]
pub extern "C" fn mlxrt_stream_free(stream: *mut mlxrt_stream) {
    guard_quiet(|| {
        if let Some(open) = STREAMS.remove(stream) {
            open.is_freed.store(true, Ordering::Release);
            (open.abandon)();
        }
    });
}
