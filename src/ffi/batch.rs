//! Answers to many prompts at once.

use super::error::{mlxrt_status, report_as};
use super::generate::{mlxrt_generate_options, mlxrt_generate_result, mlxrt_token, read_options};
use super::generate::{to_result, to_token};
use super::model::{Loaded, MODELS, mlxrt_model};
use super::panic::guard;
use super::read::{mlxrt_string, outputs, texts, write_sized};
use crate::engine::Encoding;
use crate::error::{Error, Result};
use libc::c_void;

/// Told of each token of a batch, on the thread that made the call. `index` is the prompt's number. A
/// non-zero return ends the answer to that prompt, with MLXRT_FINISH_CALLBACK.
pub type mlxrt_batch_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, index: usize, token: *const mlxrt_token) -> i32>;

/// Continues many prompts, each as mlxrt_model_generate would, in shared steps of the model. Blocks until
/// all answers are complete; `callback` sees the tokens as they come, those of one prompt in their order
/// and those of several mixed. `options` are for each prompt, the seed too. `options`, `callback` and
/// `results` may be NULL.
///
/// `results` is an array of `count` structs. The struct_size of all is set by the caller and the same, and
/// is how far apart they are. They are written whatever the answers came to, each with its status: when the
/// cancel handle is triggered they tell what was done until then, and how far each answer came. A prompt
/// that fails, because it doesn't fit the context, say, doesn't stop the others. The call succeeds if all
/// answers did; else its status is that of the first prompt that failed, and the message names it.
///
/// Errors: as for mlxrt_model_generate, for each prompt, BUSY (other callers' requests
/// fill the queue) included; there may be more prompts than max_queue.
/// BAD_ARGUMENT without anything being generated or written: an invalid option, invalid UTF-8 in any
/// prompt, `prompts` is NULL and `count` not 0, a struct_size of `results` that was not set or is another
/// than the first. No prompts at all are answered at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_model_generate_batch(
    model: *const mlxrt_model,
    prompts: *const mlxrt_string,
    count: usize,
    options: *const mlxrt_generate_options,
    callback: mlxrt_batch_callback,
    user_data: *mut c_void,
    results: *mut mlxrt_generate_result,
) -> mlxrt_status {
    guard_prompts(|| {
        let loaded = MODELS.get(model)?;
        // SAFETY: the caller's promise, here and below.
        let (options, encoding) = unsafe { read_options(options) }?;
        options.check(loaded.model.info().vocab_size)?;
        if options.session.is_some() {
            return Err(Error::BadArgument(
                "options: a session goes with one prompt, not with a batch".into(),
            ));
        }
        let places = unsafe { outputs(results, count) }?;
        let prompts = unsafe { read_prompts(&loaded, prompts, count, encoding) }?;
        let outcomes = loaded.model.generate_batch(prompts, &options, &mut |index, token| {
            // SAFETY: the caller's function with the caller's data, on the caller's thread.
            callback.is_none_or(|callback| unsafe { callback(user_data, index, &to_token(token)) == 0 })
        });
        for (place, outcome) in places.into_iter().zip(&outcomes) {
            unsafe { write_sized(place, &to_result(&outcome.summary, Some(&outcome.end))) }?;
        }
        Ok(first_failure(outcomes.into_iter().map(|outcome| outcome.end)))
    })
}

/// The ids of each prompt.
///
/// # Safety
/// As for [`texts`].
pub(super) unsafe fn read_prompts(
    loaded: &Loaded,
    prompts: *const mlxrt_string,
    count: usize,
    encoding: Encoding,
) -> Result<Vec<Vec<i32>>> {
    // SAFETY: the caller's promise.
    let prompts = unsafe { texts(prompts, count, "prompts") }?;
    prompts.into_iter().map(|prompt| loaded.model.tokenizer().encode(prompt, encoding)).collect()
}

/// The number and the error of the first prompt that failed.
pub(super) fn first_failure<T>(results: impl Iterator<Item = Result<T>>) -> Option<(usize, Error)> {
    results.enumerate().find_map(|(index, result)| result.err().map(|error| (index, error)))
}

/// Runs the body of an entry point with many prompts, which gives its [`first_failure`].
pub(super) fn guard_prompts(body: impl FnOnce() -> Result<Option<(usize, Error)>>) -> mlxrt_status {
    let mut failure = None;
    let status = guard(|| {
        failure = body()?;
        Ok(())
    });
    match failure {
        Some((index, error)) => report_as(&error, &format!("prompts[{index}]: {error}")),
        None => status,
    }
}
