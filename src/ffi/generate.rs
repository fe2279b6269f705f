//! Generating text: options, the token callback, the result.

use super::cancel::{CANCELS, mlxrt_cancel};
use super::error::{mlxrt_status, status_of};
use super::model::{Loaded, MODELS, mlxrt_model};
use super::panic::guard;
use super::read::{Sized, mlxrt_string, options, set_default, slice, text, texts, view, write_sized};
use super::session::{SESSIONS, mlxrt_session};
use crate::engine::{Encoding, Finish, GenerateOptions, Outcome, Summary, Token};
use crate::error::{Error, Result};
use libc::{c_char, c_void};

/// How to generate. Zero in any field means its default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mlxrt_generate_options {
    /// sizeof(mlxrt_generate_options).
    pub struct_size: usize,
    /// Most tokens to generate. 0: 256.
    pub max_tokens: u32,
    /// Divides the logits before sampling. 0: no sampling, the most likely token is taken (greedy).
    /// The filters below look at the probabilities before this division.
    pub temperature: f32,
    /// Sample from this many most likely tokens only. 0: from all.
    pub top_k: u32,
    /// Sample from the most likely tokens that together reach this probability. 0 or 1: from all.
    pub top_p: f32,
    /// Leave out tokens less likely than this times the most likely one. 0: none.
    pub min_p: f32,
    /// Divides positive logits of recent tokens and multiplies negative ones. 0 or 1: off.
    pub repetition_penalty: f32,
    /// How many recent tokens the penalty looks at, the prompt's included. 0: 64.
    pub repetition_window: u32,
    /// Non-zero: don't stop at the model's end-of-turn tokens.
    pub ignore_end: i32,
    /// Seed of the sampling: the same seed gives the same tokens, on a GPU others than on a CPU. 0: another one each
    /// time.
    pub seed: u64,
    /// Ids that end the answer besides the model's own; not part of it.
    pub stop_tokens: *const i32,
    /// How many.
    pub stop_token_count: usize,
    /// Strings that end the answer; neither they nor what follows is part of it.
    pub stop_strings: *const mlxrt_string,
    /// How many.
    pub stop_string_count: usize,
    /// Stops generating from another thread; may be NULL.
    pub cancel: *const mlxrt_cancel,
    /// Non-zero: mlxrt_model_generate does not add the tokenizer's own special tokens to the prompt.
    pub no_special: i32,
    /// Non-zero: special tokens that are written in a prompt, or in the messages, tools and variables
    /// of a conversation, are read as text. Set it where people you don't trust write them: else
    /// "<|im_end|>" in a message ends it, and what follows can pass for another's words.
    /// MLXRT_TOKENIZE_PLAIN_TEXT says what is special. In a conversation it is certain: a token that
    /// the tokenizer makes of plain text all the same is a bad argument.
    pub plain_text: i32,
    /// The conversation to go on from, one of this model; NULL: the prompt stands alone. The prompt of
    /// mlxrt_model_generate and of _ids then stands behind the session's tokens (without the tokenizer's own
    /// special tokens, unless there are none yet). The messages of mlxrt_model_chat are the whole
    /// conversation: what of it the session holds is not computed again, and what it holds besides is
    /// forgotten. Afterwards the session holds the prompt and the answer, without the token that ended
    /// it. Not for batches and classification.
    pub session: *const mlxrt_session,
}

// SAFETY: repr(C), starts with struct_size; numbers and pointers.
unsafe impl Sized for mlxrt_generate_options {
    const NAME: &'static str = "mlxrt_generate_options";
    const FIRST_SIZE: usize = 96;
}

/// A generated token, as the callback sees it.
#[repr(C)]
pub struct mlxrt_token {
    /// sizeof(mlxrt_token), set by the library: fields are only ever added, behind the last one.
    pub struct_size: usize,
    /// The id, or -1 for text that was held back (part of what could have become a stop string, or
    /// an unfinished character) and comes with no token of its own.
    pub id: i32,
    /// The natural logarithm of the probability that the model gave the token: after the repetition
    /// penalty, before temperature and filters. 0 where id is -1.
    pub logprob: f32,
    /// The text that this token completes: whole UTF-8, perhaps none yet, not NUL-terminated.
    pub text: *const c_char,
    /// Its length in bytes.
    pub text_len: usize,
}

/// Told of each token, on the thread that called generate or chat. A non-zero return ends the
/// answer: the call then succeeds with MLXRT_FINISH_CALLBACK.
pub type mlxrt_token_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, token: *const mlxrt_token) -> i32>;

/// Why an answer ended.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum mlxrt_finish {
    /// It did not: the call failed, or the answer goes on.
    MLXRT_FINISH_NONE = 0,
    /// The model ended its turn, or a token of stop_tokens came.
    MLXRT_FINISH_END = 1,
    /// max_tokens were generated.
    MLXRT_FINISH_LENGTH = 2,
    /// A string of stop_strings came.
    MLXRT_FINISH_STOP_STRING = 3,
    /// The callback asked to stop.
    MLXRT_FINISH_CALLBACK = 4,
    /// The context is full.
    MLXRT_FINISH_CONTEXT = 5,
}

/// What a call did and what it took. Seconds are wall-clock: those in which the model was also busy with
/// other callers count in full.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mlxrt_generate_result {
    /// sizeof(mlxrt_generate_result), set by the caller.
    pub struct_size: usize,
    /// A mlxrt_finish.
    pub finish: i32,
    /// The token id that ended the answer where finish is MLXRT_FINISH_END, else -1.
    pub stop_token: i32,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens generated, one that ended the answer included.
    pub generated_tokens: u32,
    /// From the call to the first token.
    pub prefill_seconds: f64,
    /// From the first token to the last.
    pub decode_seconds: f64,
    /// From the call to its return.
    pub total_seconds: f64,
    /// prompt_tokens / prefill_seconds.
    pub prefill_tokens_per_second: f64,
    /// (generated_tokens - 1) / decode_seconds: the first token belongs to the prefill.
    pub decode_tokens_per_second: f64,
    /// mlxrt_memory_peak at the end. The peak is the process's and is not reset by the call.
    pub peak_memory_bytes: u64,
    /// mlxrt_memory_active at the end.
    pub active_memory_bytes: u64,
    /// The mlxrt_status of this answer: of a batch each prompt has its own.
    pub status: i32,
    /// Tokens of the prompt that were not computed, because a cache had them. The engine tells this and
    /// queue_seconds at the end: 0 in an answer that goes on or was cut short by its caller.
    pub cached_tokens: u32,
    /// From the call until the engine began with the request; part of prefill_seconds.
    pub queue_seconds: f64,
}

// SAFETY: repr(C), starts with struct_size; numbers.
unsafe impl Sized for mlxrt_generate_result {
    const NAME: &'static str = "mlxrt_generate_result";
    const FIRST_SIZE: usize = 80;
}

/// Fills options with their defaults. `size` is sizeof(mlxrt_generate_options).
///
/// Errors: BAD_ARGUMENT (`options` is NULL, or `size` is below that of the struct's first version).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_generate_options_default(
    options: *mut mlxrt_generate_options,
    size: usize,
) -> mlxrt_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { set_default(options, size) })
}

/// Continues a prompt as it stands. Blocks until the answer is complete; `callback` sees each token
/// as it comes. `options`, `callback` and `result` may be NULL.
///
/// `result` is written when the call succeeds, and also when it ends with CANCELLED or CLOSED: then
/// it tells what was done until then.
///
/// Errors: BAD_ARGUMENT (an empty prompt, invalid UTF-8, a NaN or out-of-range option, a stop token
/// the model doesn't have), CONTEXT_FULL (the prompt leaves no room for a token), BUSY (as many requests
/// wait as may), CANCELLED, CLOSED, OUT_OF_MEMORY, MLX.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_model_generate(
    model: *const mlxrt_model,
    prompt: *const c_char,
    prompt_len: usize,
    options: *const mlxrt_generate_options,
    callback: mlxrt_token_callback,
    user_data: *mut c_void,
    result: *mut mlxrt_generate_result,
) -> mlxrt_status {
    guard(|| {
        let loaded = MODELS.get(model)?;
        // SAFETY: the caller's promise, here and below.
        let (ids, options) = unsafe { read_prompt(&loaded, prompt, prompt_len, options) }?;
        let outcome = loaded.model.generate(ids, options, &mut |t| emit(t, callback, user_data));
        unsafe { finish(outcome, result) }
    })
}

/// Like mlxrt_model_generate, for a prompt of token ids. An id outside the vocabulary is a bad
/// argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_model_generate_ids(
    model: *const mlxrt_model,
    ids: *const i32,
    id_count: usize,
    options: *const mlxrt_generate_options,
    callback: mlxrt_token_callback,
    user_data: *mut c_void,
    result: *mut mlxrt_generate_result,
) -> mlxrt_status {
    guard(|| {
        let loaded = MODELS.get(model)?;
        // SAFETY: the caller's promise, here and below.
        let (ids, options) = unsafe { read_ids(ids, id_count, options) }?;
        let outcome = loaded.model.generate(ids, options, &mut |t| emit(t, callback, user_data));
        unsafe { finish(outcome, result) }
    })
}

/// Calls the caller's function; false asks to stop.
pub(super) fn emit(token: &Token, callback: mlxrt_token_callback, user_data: *mut c_void) -> bool {
    let Some(callback) = callback else { return true };
    // SAFETY: the caller's function with the caller's data, on the caller's thread.
    unsafe { callback(user_data, &to_token(token)) == 0 }
}

/// What callers see of a token; it points to the text of `token`.
pub(super) fn to_token(token: &Token) -> mlxrt_token {
    let text = view(&token.text);
    mlxrt_token {
        struct_size: size_of::<mlxrt_token>(),
        id: token.id.unwrap_or(-1),
        logprob: token.logprob,
        text: text.data,
        text_len: text.len,
    }
}

/// # Safety
/// `result` is NULL or points to as many writable bytes as its struct_size says.
pub(super) unsafe fn finish(outcome: Outcome, result: *mut mlxrt_generate_result) -> Result<()> {
    let tells = matches!(outcome.end, Ok(_) | Err(Error::Cancelled | Error::Closed));
    if tells && !result.is_null() {
        // SAFETY: the caller's promise.
        unsafe { write_sized(result, &to_result(&outcome.summary, Some(&outcome.end))) }?;
    }
    outcome.end.map(drop)
}

/// The result of an answer that ended, or (`None`) of one that goes on.
pub(super) fn to_result(summary: &Summary, end: Option<&Result<Finish>>) -> mlxrt_generate_result {
    use mlxrt_finish::*;
    let rate = |tokens: u32, seconds: f64| if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 };
    let decoded = summary.generated_tokens.saturating_sub(1);
    mlxrt_generate_result {
        struct_size: 0,
        finish: match end {
            None | Some(Err(_)) => MLXRT_FINISH_NONE,
            Some(Ok(Finish::End(_))) => MLXRT_FINISH_END,
            Some(Ok(Finish::Length)) => MLXRT_FINISH_LENGTH,
            Some(Ok(Finish::StopString)) => MLXRT_FINISH_STOP_STRING,
            Some(Ok(Finish::Callback)) => MLXRT_FINISH_CALLBACK,
            Some(Ok(Finish::Context)) => MLXRT_FINISH_CONTEXT,
        } as i32,
        stop_token: match end {
            Some(Ok(Finish::End(id))) => *id,
            _ => -1,
        },
        prompt_tokens: summary.prompt_tokens,
        generated_tokens: summary.generated_tokens,
        prefill_seconds: summary.prefill.as_secs_f64(),
        decode_seconds: summary.decode.as_secs_f64(),
        total_seconds: summary.total.as_secs_f64(),
        prefill_tokens_per_second: rate(summary.prompt_tokens, summary.prefill.as_secs_f64()),
        decode_tokens_per_second: rate(decoded, summary.decode.as_secs_f64()),
        peak_memory_bytes: summary.peak_memory as u64,
        active_memory_bytes: summary.active_memory as u64,
        status: match end {
            Some(Err(error)) => status_of(error),
            _ => mlxrt_status::MLXRT_STATUS_OK,
        } as i32,
        cached_tokens: summary.cached_tokens,
        queue_seconds: summary.queued.as_secs_f64(),
    }
}

/// The ids of a text, and the options.
///
/// # Safety
/// As for [`text()`] and [`read_options`].
pub(super) unsafe fn read_prompt(
    loaded: &Loaded,
    prompt: *const c_char,
    prompt_len: usize,
    options: *const mlxrt_generate_options,
) -> Result<(Vec<i32>, GenerateOptions)> {
    // SAFETY: the caller's promise, here and below.
    let prompt = unsafe { text(prompt, prompt_len, "prompt") }?;
    let (options, mut encoding) = unsafe { read_options(options) }?;
    if let Some(session) = &options.session {
        encoding.add_special &= session.tokens()?.is_empty();
    }
    Ok((loaded.model.tokenizer().encode(prompt, encoding)?, options))
}

/// Ids as they are given, and the options.
///
/// # Safety
/// As for [`slice()`] and [`read_options`].
pub(super) unsafe fn read_ids(
    ids: *const i32,
    id_count: usize,
    options: *const mlxrt_generate_options,
) -> Result<(Vec<i32>, GenerateOptions)> {
    // SAFETY: the caller's promise, here and below.
    let ids = unsafe { slice(ids, id_count, "ids") }?.to_vec();
    Ok((ids, unsafe { read_options(options) }?.0))
}

/// The engine's options, and how to tokenize a prompt.
///
/// # Safety
/// `options` is NULL or points to `struct_size` bytes, and its pointers to what their counts say.
pub(super) unsafe fn read_options(
    options: *const mlxrt_generate_options,
) -> Result<(GenerateOptions, Encoding)> {
    let mut read = GenerateOptions::default();
    let encoding = Encoding { add_special: true, plain_text: false };
    // SAFETY: the caller's promise, here and below.
    let Some(given) = (unsafe { self::options(options) })? else { return Ok((read, encoding)) };
    if given.max_tokens > 0 {
        read.max_tokens = given.max_tokens;
    }
    read.ignore_end = given.ignore_end != 0;
    let sampling = &mut read.sampling;
    sampling.temperature = given.temperature;
    sampling.top_k = given.top_k;
    sampling.top_p = if given.top_p == 0.0 { 1.0 } else { given.top_p };
    sampling.min_p = given.min_p;
    if given.repetition_penalty != 0.0 {
        sampling.repetition_penalty = given.repetition_penalty;
    }
    if given.repetition_window > 0 {
        sampling.repetition_window = given.repetition_window;
    }
    sampling.seed = (given.seed != 0).then_some(given.seed);
    read.stop_tokens = unsafe { slice(given.stop_tokens, given.stop_token_count, "stop_tokens") }?.to_vec();
    let strings = unsafe { texts(given.stop_strings, given.stop_string_count, "stop_strings") }?;
    read.stop_strings = strings.into_iter().map(String::from).collect();
    read.session = SESSIONS.get_optional(given.session)?;
    read.cancel = CANCELS.get_optional(given.cancel)?;
    let encoding = Encoding { add_special: given.no_special == 0, plain_text: given.plain_text != 0 };
    Ok((read, encoding))
}
