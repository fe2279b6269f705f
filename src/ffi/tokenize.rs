//! Text to token ids and back, and the text of a conversation.

use super::error::mlxrt_status;
use super::generate::{mlxrt_message, read_messages};
use super::model::{MODELS, mlxrt_model};
use super::panic::guard;
use super::read::{output, slice, text};
use crate::error::{Error, Result};
use libc::c_char;

/// Copies values into the caller's buffer, and always says how many there are.
///
/// # Safety
/// `buffer` is NULL or has room for `capacity` values; `count` is NULL or writable.
unsafe fn fill<T: Copy>(values: &[T], buffer: *mut T, capacity: usize, count: *mut usize) -> Result<()> {
    // SAFETY: the caller's promise.
    let count = unsafe { output(count, "count") }?;
    *count = values.len();
    if buffer.is_null() && capacity == 0 {
        return Ok(());
    }
    if buffer.is_null() || !buffer.is_aligned() {
        return Err(Error::BadArgument("the buffer is NULL or not aligned, its capacity is not 0".into()));
    }
    if capacity < values.len() {
        return Err(Error::BufferTooSmall(format!(
            "the buffer holds {capacity}, {} are needed",
            values.len()
        )));
    }
    // SAFETY: the caller's promise; room was checked.
    unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), buffer, values.len()) };
    Ok(())
}

/// Turns text into token ids. Special tokens written in the text, such as "<|im_end|>", become their
/// ids; with `add_special` non-zero the model's own (a beginning-of-text token, say) are added as
/// its tokenizer does.
///
/// Writes at most `capacity` ids to `ids`. `*count` receives how many there are, whether they fit or
/// not: call with `ids` NULL and `capacity` 0 to ask, which is no error; a buffer that is too small
/// is MLXRT_STATUS_BUFFER_TOO_SMALL and stays untouched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_model_tokenize(
    model: *const mlxrt_model,
    text: *const c_char,
    text_len: usize,
    add_special: i32,
    ids: *mut i32,
    capacity: usize,
    count: *mut usize,
) -> mlxrt_status {
    guard(|| {
        let loaded = MODELS.get(model)?;
        // SAFETY: the caller's promise, here and below.
        let text = unsafe { self::text(text, text_len, "text") }?;
        let tokens = loaded.model.tokenizer().encode(text, add_special != 0)?;
        unsafe { fill(&tokens, ids, capacity, count) }
    })
}

/// Turns token ids into text. With `skip_special` non-zero special tokens are left out. Bytes that
/// are no UTF-8 become U+FFFD.
///
/// Writes at most `capacity` bytes to `text`, without a NUL; `*len` receives how many there are, as
/// for mlxrt_model_tokenize. An id that the tokenizer doesn't have is a bad argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_model_detokenize(
    model: *const mlxrt_model,
    ids: *const i32,
    id_count: usize,
    skip_special: i32,
    text: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> mlxrt_status {
    guard(|| {
        let loaded = MODELS.get(model)?;
        // SAFETY: the caller's promise, here and below.
        let ids = unsafe { slice(ids, id_count, "ids") }?;
        let string = loaded.model.tokenizer().decode(ids, skip_special != 0)?;
        unsafe { fill(string.as_bytes(), text.cast(), capacity, len) }
    })
}

/// The text that a conversation becomes through the model's chat template: what mlxrt_model_chat
/// gives the model to read. With `add_generation_prompt` non-zero it ends where the assistant's
/// answer begins. Buffer and `*len` as for mlxrt_model_detokenize. A template that refuses the
/// conversation is a bad argument with the template's own message; a model without a template is
/// MLXRT_STATUS_UNSUPPORTED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_model_render_chat(
    model: *const mlxrt_model,
    messages: *const mlxrt_message,
    message_count: usize,
    add_generation_prompt: i32,
    text: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> mlxrt_status {
    guard(|| {
        let loaded = MODELS.get(model)?;
        // SAFETY: the caller's promise, here and below.
        let messages = unsafe { read_messages(messages, message_count) }?;
        let string = loaded.model.render_chat(&messages, add_generation_prompt != 0)?;
        unsafe { fill(string.as_bytes(), text.cast(), capacity, len) }
    })
}
