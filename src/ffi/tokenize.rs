//! Text to token ids and back.

use super::error::mlxrt_status;
use super::model::{MODELS, mlxrt_model};
use super::panic::guard;
use super::read::{output, slice, text};
use crate::engine::Encoding;
use crate::error::{Error, Result};
use libc::c_char;

/// Copies values into the caller's buffer, and always says how many there are.
///
/// # Safety
/// `buffer` is NULL or has room for `capacity` values; `count` is NULL or writable.
pub(super) unsafe fn fill<T: Copy>(
    values: &[T],
    buffer: *mut T,
    capacity: usize,
    count: *mut usize,
) -> Result<()> {
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

/// Adds the tokenizer's own special tokens, one for the beginning of text, say.
pub const MLXRT_TOKENIZE_ADD_SPECIAL: u32 = 1;

/// Special tokens written in the text, such as "<|im_end|>", are text like any other and don't become
/// their ids. Special are those that the tokenizer's file says are: an added token that it doesn't
/// call special, `<think>` of many models for one, keeps its id. A few tokenizers, of the Unigram kind
/// mostly, have special tokens among their ordinary ones too, where no setting hides them.
pub const MLXRT_TOKENIZE_PLAIN_TEXT: u32 = 2;

/// Turns text into token ids. `flags` is 0 or a sum of MLXRT_TOKENIZE_ values.
///
/// Writes at most `capacity` ids to `ids`. `*count` receives how many there are, whether they fit or
/// not: call with `ids` NULL and `capacity` 0 to ask, which is no error; a buffer that is too small
/// is MLXRT_STATUS_BUFFER_TOO_SMALL and stays untouched.
///
/// Errors: BAD_ARGUMENT (a model that was freed, text that is not UTF-8, unknown flags, `count` is
/// NULL), BUFFER_TOO_SMALL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_model_tokenize(
    model: *const mlxrt_model,
    text: *const c_char,
    text_len: usize,
    flags: u32,
    ids: *mut i32,
    capacity: usize,
    count: *mut usize,
) -> mlxrt_status {
    guard(|| {
        let loaded = MODELS.get(model)?;
        // SAFETY: the caller's promise, here and below.
        let text = unsafe { self::text(text, text_len, "text") }?;
        let known = MLXRT_TOKENIZE_ADD_SPECIAL | MLXRT_TOKENIZE_PLAIN_TEXT;
        if flags & !known != 0 {
            return Err(Error::BadArgument(format!("flags is {flags:#x}: unknown bits are set")));
        }
        let encoding = Encoding {
            add_special: flags & MLXRT_TOKENIZE_ADD_SPECIAL != 0,
            plain_text: flags & MLXRT_TOKENIZE_PLAIN_TEXT != 0,
        };
        let tokens = loaded.model.tokenizer().encode(text, encoding)?;
        unsafe { fill(&tokens, ids, capacity, count) }
    })
}

/// Turns token ids into text. With `skip_special` non-zero special tokens are left out. Bytes that
/// are no UTF-8 become U+FFFD.
///
/// Writes at most `capacity` bytes to `text`, without a NUL; `*len` receives how many there are, as
/// for mlxrt_model_tokenize.
///
/// Errors: BAD_ARGUMENT (a model that was freed, an id that the tokenizer doesn't have, `len` is NULL),
/// BUFFER_TOO_SMALL.
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
