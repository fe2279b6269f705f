//! Listing the models on this disk.

use super::cancel::{CANCELS, mlxrt_cancel};
use super::error::{mlxrt_status, status_of};
use super::model::{dtype_of, quant_mode_of};
use super::panic::guard;
use super::read::{Sized, mlxrt_string, options, set_default, text};
use crate::engine::{DiscoverOptions, ModelEntry, discover};
use crate::error::{Error, Result};
use libc::{c_char, c_void};
use std::path::Path;

/// Where to look for models. Zero in any field means its default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mlxrt_discover_options {
    /// sizeof(mlxrt_discover_options).
    pub struct_size: usize,
    /// How many folders deep to look below the first one. 0: 16.
    pub max_depth: u32,
    /// Non-zero: look into the Hugging Face cache too, after the folder.
    pub include_cache: i32,
    /// Stops looking from another thread; may be NULL.
    pub cancel: *const mlxrt_cancel,
}

// SAFETY: repr(C), starts with struct_size; integers and a pointer.
unsafe impl Sized for mlxrt_discover_options {
    const NAME: &'static str = "mlxrt_discover_options";
    const FIRST_SIZE: usize = 24;
}

/// A model that was found, or what looks like one and cannot be run. Strings are valid during the
/// callback and not NUL-terminated.
#[repr(C)]
pub struct mlxrt_model_entry {
    /// sizeof(mlxrt_model_entry), set by the library: fields are only ever added, behind the last one.
    pub struct_size: usize,
    /// What loads it: its folder, or its .gguf file.
    pub path: mlxrt_string,
    /// What loads it as well if it lies in the Hugging Face cache: "org/name", with "@commit" where
    /// that is not the commit of branch main. Otherwise empty.
    pub id: mlxrt_string,
    /// model_type of config.json, such as "qwen3", or what a GGUF file's architecture is called there, as
    /// in mlxrt_model_desc. Empty if it has none.
    pub architecture: mlxrt_string,
    /// The type of dense weights in config.json's words, such as "bfloat16". Empty if it says none.
    pub dtype_name: mlxrt_string,
    /// How weights are quantised in config.json's words, such as "affine" or "gptq". Empty: they are not.
    pub quant_name: mlxrt_string,
    /// Empty if the model can be run, as far as that can be told without reading its weights.
    /// Otherwise why not, for people.
    pub problem: mlxrt_string,
    /// MLXRT_STATUS_OK if problem is empty, else the mlxrt_status that loading it would give.
    pub status: i32,
    /// The mlxrt_dtype of dtype_name; MLXRT_DTYPE_AUTO: it says none, or another one.
    pub dtype: i32,
    /// The mlxrt_quant_mode of quant_name; MLXRT_QUANT_NONE: not quantised, or in another way.
    pub quant_mode: i32,
    /// Bits of a quantised weight, 0: not quantised or not said.
    pub quant_bits: u32,
    /// Weights that share a scale, 0: not quantised or not said.
    pub quant_group: u32,
    /// Most tokens of prompt and answer together, 0: config.json does not say.
    pub context_length: u32,
    /// Bytes of the files with its weights.
    pub weight_bytes: u64,
}

/// Told of each model that is found, on the thread that called mlxrt_discover. A non-zero return ends
/// the search: the call then succeeds.
pub type mlxrt_discover_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, entry: *const mlxrt_model_entry) -> i32>;

/// Fills options with their defaults. `size` is sizeof(mlxrt_discover_options).
///
/// Errors: BAD_ARGUMENT (`options` is NULL, or `size` is below that of the struct's first version).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_discover_options_default(
    options: *mut mlxrt_discover_options,
    size: usize,
) -> mlxrt_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { set_default(options, size) })
}

/// Lists the models in a folder and below it, in the order of their paths; with a `folder` of NULL and
/// length 0 those in the Hugging Face cache: $HF_HUB_CACHE, $HF_HOME/hub,
/// $XDG_CACHE_HOME/huggingface/hub or ~/.cache/huggingface/hub, whichever is set first. A cache that
/// does not exist holds no models. `options` may be NULL.
///
/// A model is a folder with config.json and weights or a tokenizer, or a .gguf file. No weights are
/// read, so thousands of folders take less than a second. Of a .gguf file the whole header is read, its
/// vocabulary included: 10 ms for 150,000 tokens. What is broken, incomplete or unreadable is listed with
/// its problem and stops nothing. Links to folders are followed, but no folder is looked into twice, and
/// none below the first whose name starts with a dot.
///
/// Errors: NOT_FOUND (no such folder), CANCELLED, BAD_ARGUMENT (a path that is empty or not UTF-8, no
/// callback, a freed cancel handle).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_discover(
    folder: *const c_char,
    folder_len: usize,
    options: *const mlxrt_discover_options,
    callback: mlxrt_discover_callback,
    user_data: *mut c_void,
) -> mlxrt_status {
    guard(|| {
        // SAFETY: the caller's promise, here and below.
        let name = unsafe { text(folder, folder_len, "folder") }?;
        if name.is_empty() && !folder.is_null() {
            return Err(Error::BadArgument("folder is empty".into()));
        }
        let options = unsafe { read_options(options) }?;
        let Some(callback) = callback else {
            return Err(Error::BadArgument("callback is NULL".into()));
        };
        let folder = (!name.is_empty()).then_some(Path::new(name));
        // SAFETY: the caller's function with the caller's data, on the caller's thread.
        discover(folder, &options, &mut |entry| {
            with_entry(entry, |entry| unsafe { callback(user_data, entry) == 0 })
        })
    })
}

/// # Safety
/// `options` is NULL or points to as many readable bytes as its struct_size says.
unsafe fn read_options(options: *const mlxrt_discover_options) -> Result<DiscoverOptions> {
    // SAFETY: the caller's promise.
    let Some(given) = (unsafe { self::options(options) })? else { return Ok(DiscoverOptions::default()) };
    Ok(DiscoverOptions {
        include_cache: given.include_cache != 0,
        max_depth: (given.max_depth > 0).then_some(given.max_depth),
        cancel: CANCELS.get_optional(given.cancel)?,
    })
}

fn with_entry(entry: &ModelEntry, call: impl FnOnce(&mlxrt_model_entry) -> bool) -> bool {
    let path = entry.path.to_string_lossy();
    let problem = entry.problem.as_ref().map(Error::to_string).unwrap_or_default();
    call(&mlxrt_model_entry {
        struct_size: size_of::<mlxrt_model_entry>(),
        path: view(&path),
        id: view(entry.id.as_deref().unwrap_or_default()),
        architecture: view(&entry.architecture),
        dtype_name: view(&entry.dtype_name),
        quant_name: view(&entry.quant_name),
        problem: view(&problem),
        status: entry.problem.as_ref().map_or(mlxrt_status::MLXRT_STATUS_OK, status_of) as i32,
        dtype: dtype_of(entry.dtype) as i32,
        quant_mode: quant_mode_of(entry.quant_mode) as i32,
        quant_bits: entry.quant_bits,
        quant_group: entry.quant_group,
        context_length: entry.context_length,
        weight_bytes: entry.weight_bytes,
    })
}

fn view(text: &str) -> mlxrt_string {
    let data = if text.is_empty() { c"".as_ptr() } else { text.as_ptr().cast() };
    mlxrt_string { data, len: text.len() }
}
