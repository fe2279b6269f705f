//! The next token behind many prompts, without generating.

use super::batch::{first_failure, guard_prompts, read_prompts};
use super::cancel::{CANCELS, mlxrt_cancel};
use super::error::{mlxrt_status, status_of};
use super::model::{MODELS, mlxrt_model};
use super::panic::guard;
use super::read::{Sized, mlxrt_string, options, set_default, slice, view};
use crate::engine::{Classification, Encoding, GenerateOptions, check_ids};
use crate::error::{Error, Result};
use libc::c_void;

/// How to classify. Zero in any field means its default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mlxrt_classify_options {
    /// sizeof(mlxrt_classify_options).
    pub struct_size: usize,
    /// Token ids whose logits are wanted, in this order: the first tokens of the possible answers, say.
    pub labels: *const i32,
    /// How many.
    pub label_count: usize,
    /// Stops the call from another thread; may be NULL.
    pub cancel: *const mlxrt_cancel,
    /// Non-zero: the logits of the whole vocabulary are wanted, in place of labels.
    pub all_logits: i32,
    /// Non-zero: the tokenizer's own special tokens are not added to the prompts.
    pub no_special: i32,
    /// Non-zero: special tokens that are written in a prompt are read as text, see
    /// mlxrt_generate_options.
    pub plain_text: i32,
    /// Zero; anything else is a bad argument.
    pub reserved: u32,
}

// SAFETY: repr(C), starts with struct_size; numbers and pointers.
unsafe impl Sized for mlxrt_classify_options {
    const NAME: &'static str = "mlxrt_classify_options";
    const FIRST_SIZE: usize = 48;
}

/// The next token behind a prompt, as the callback sees it.
#[repr(C)]
pub struct mlxrt_classification {
    /// sizeof(mlxrt_classification), set by the library: fields are only ever added, behind the last one.
    pub struct_size: usize,
    /// The mlxrt_status of this prompt; where it is not MLXRT_STATUS_OK, token is -1 and the rest empty.
    pub status: i32,
    /// The most likely next token.
    pub token: i32,
    /// Its text as of mlxrt_model_detokenize, also where it is a special token. Not NUL-terminated.
    pub text: mlxrt_string,
    /// The logits that the options ask for, else NULL.
    pub logits: *const f32,
    /// How many.
    pub logit_count: usize,
    /// The probability of token, among the whole vocabulary.
    pub probability: f32,
    /// Zero.
    pub reserved: u32,
}

/// Told of each prompt's next token, on the thread that made the call. `index` is the prompt's number. A
/// non-zero return: it is not told of the others.
pub type mlxrt_classify_callback = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        index: usize,
        classification: *const mlxrt_classification,
    ) -> i32,
>;

/// Fills options with their defaults. `size` is sizeof(mlxrt_classify_options).
///
/// Errors: BAD_ARGUMENT (`options` is NULL, or `size` is below that of the struct's first version).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_classify_options_default(
    options: *mut mlxrt_classify_options,
    size: usize,
) -> mlxrt_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { set_default(options, size) })
}

/// Finds the most likely next token behind each of many prompts, in shared steps of the model and without
/// generating: a prompt costs its prefill only. Blocks until all are computed, then tells `callback` of
/// each in the prompts' order, of those that failed too. `options` may be NULL.
///
/// The status is as for mlxrt_model_generate_batch: that of the first prompt that failed.
///
/// Errors: as for mlxrt_model_generate_batch, and BAD_ARGUMENT without anything being computed: `callback`
/// is NULL, a label that the model doesn't have, labels and all_logits at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_model_classify(
    model: *const mlxrt_model,
    prompts: *const mlxrt_string,
    count: usize,
    options: *const mlxrt_classify_options,
    callback: mlxrt_classify_callback,
    user_data: *mut c_void,
) -> mlxrt_status {
    guard_prompts(|| {
        let loaded = MODELS.get(model)?;
        let Some(callback) = callback else {
            return Err(Error::BadArgument("callback is NULL".into()));
        };
        // SAFETY: the caller's promise, here and below.
        let (labels, options, encoding) = unsafe { read_options(options) }?;
        check_ids("labels", labels.as_deref().unwrap_or_default(), loaded.model.info().vocab_size)?;
        let prompts = unsafe { read_prompts(&loaded, prompts, count, encoding) }?;
        let results = loaded.model.classify(prompts, labels, &options);
        for (index, result) in results.iter().enumerate() {
            let text = match result {
                Ok(found) => loaded.model.tokenizer().decode(&[found.token], false)?,
                Err(_) => String::new(),
            };
            let told = to_classification(result, &text);
            // SAFETY: the caller's function with the caller's data, on the caller's thread.
            if unsafe { callback(user_data, index, &told) } != 0 {
                break;
            }
        }
        Ok(first_failure(results.into_iter()))
    })
}

fn to_classification(result: &Result<Classification>, text: &str) -> mlxrt_classification {
    let found = result.as_ref().ok();
    let logits = found.map_or(&[][..], |found| &found.logits);
    mlxrt_classification {
        struct_size: size_of::<mlxrt_classification>(),
        status: result.as_ref().err().map_or(mlxrt_status::MLXRT_STATUS_OK, status_of) as i32,
        token: found.map_or(-1, |found| found.token),
        text: view(text),
        logits: if logits.is_empty() { std::ptr::null() } else { logits.as_ptr() },
        logit_count: logits.len(),
        probability: found.map_or(0.0, |found| found.probability),
        reserved: 0,
    }
}

/// The labels as the engine takes them, its options, and how to tokenize.
///
/// # Safety
/// `options` is NULL or points to `struct_size` bytes, and its labels are as many as it says.
unsafe fn read_options(
    options: *const mlxrt_classify_options,
) -> Result<(Option<Vec<i32>>, GenerateOptions, Encoding)> {
    let mut engine = GenerateOptions::default();
    let encoding = Encoding { add_special: true, plain_text: false };
    // SAFETY: the caller's promise, here and below.
    let Some(given) = (unsafe { self::options(options) })? else {
        return Ok((Some(vec![]), engine, encoding));
    };
    let labels = unsafe { slice(given.labels, given.label_count, "labels") }?;
    let bad = |what: &str| Err(Error::BadArgument(format!("mlxrt_classify_options: {what}")));
    if given.all_logits != 0 && !labels.is_empty() {
        return bad("labels and all_logits are both set");
    }
    if given.reserved != 0 {
        return bad("reserved is not zero");
    }
    engine.cancel = CANCELS.get_optional(given.cancel)?;
    let encoding = Encoding { add_special: given.no_special == 0, plain_text: given.plain_text != 0 };
    Ok(((given.all_logits == 0).then(|| labels.to_vec()), engine, encoding))
}
