//! The model handle: load, describe, free.

use super::cancel::{CANCELS, mlxrt_cancel};
use super::device::device_from;
use super::error::mlxrt_status;
use super::handle::Table;
use super::panic::{guard, guard_quiet};
use super::read::{Sized, options, output, set_default, text, write_sized};
use crate::engine::{LoadOptions, Model};
use crate::error::{Error, Result};
use crate::mlx::ops::QuantMode;
use crate::mlx::{Device, Dtype};
use libc::{c_char, c_void};
use once_cell::sync::Lazy;
use std::ffi::CString;
use std::path::Path;
use std::sync::Arc;

/// A loaded model with its tokenizer and a thread that computes. It may be used by any number of
/// threads at the same time.
pub struct mlxrt_model {
    _opaque: [u8; 0],
}

/// What a handle stands for: the model and the strings that were given out with it.
pub(super) struct Loaded {
    pub(super) model: Model,
    architecture: CString,
}

pub(super) static MODELS: Lazy<Table<mlxrt_model, Loaded>> = Lazy::new(|| Table::new("model"));

/// The type that a model computes in.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum mlxrt_dtype {
    /// float32 on the CPU, where MLX is slow with anything else; the checkpoint's own type on a GPU.
    MLXRT_DTYPE_AUTO = 0,
    /// 32-bit floats.
    MLXRT_DTYPE_FLOAT32 = 1,
    /// 16-bit floats.
    MLXRT_DTYPE_FLOAT16 = 2,
    /// 16-bit floats with the range of 32-bit ones.
    MLXRT_DTYPE_BFLOAT16 = 3,
}

pub(super) fn dtype_from(value: i32) -> Result<Option<Dtype>> {
    match value {
        0 => Ok(None),
        1 => Ok(Some(Dtype::F32)),
        2 => Ok(Some(Dtype::F16)),
        3 => Ok(Some(Dtype::BF16)),
        _ => Err(Error::BadArgument(format!("dtype {value}: expected a mlxrt_dtype (0 to 3)"))),
    }
}

/// How quantised weights are stored.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum mlxrt_quant_mode {
    /// Not quantised.
    MLXRT_QUANT_NONE = 0,
    /// Integers of 2, 3, 4, 5, 6 or 8 bits with a scale and a bias for every 32, 64 or 128.
    MLXRT_QUANT_AFFINE = 1,
    /// OCP microscaling: 4-bit floats, a scale for every 32.
    MLXRT_QUANT_MXFP4 = 2,
    /// OCP microscaling: 8-bit floats, a scale for every 32.
    MLXRT_QUANT_MXFP8 = 3,
    /// NVIDIA's 4-bit floats, a scale for every 16.
    MLXRT_QUANT_NVFP4 = 4,
}

pub(super) fn dtype_of(dtype: Option<Dtype>) -> mlxrt_dtype {
    use mlxrt_dtype::*;
    match dtype {
        Some(Dtype::F32) => MLXRT_DTYPE_FLOAT32,
        Some(Dtype::F16) => MLXRT_DTYPE_FLOAT16,
        Some(Dtype::BF16) => MLXRT_DTYPE_BFLOAT16,
        _ => MLXRT_DTYPE_AUTO,
    }
}

pub(super) fn quant_mode_of(mode: Option<QuantMode>) -> mlxrt_quant_mode {
    use mlxrt_quant_mode::*;
    match mode {
        None => MLXRT_QUANT_NONE,
        Some(QuantMode::Affine) => MLXRT_QUANT_AFFINE,
        Some(QuantMode::Mxfp4) => MLXRT_QUANT_MXFP4,
        Some(QuantMode::Mxfp8) => MLXRT_QUANT_MXFP8,
        Some(QuantMode::Nvfp4) => MLXRT_QUANT_NVFP4,
    }
}

/// Told while a model loads or is converted: bytes of weights done so far and in all. Before that, if
/// the model has to be downloaded: bytes downloaded so far and in all, what was there already included.
/// Each of the two ends with `done` equal to `total`, and the weights begin with `done` 0. A non-zero
/// return stops it with MLXRT_STATUS_CANCELLED.
pub type mlxrt_progress_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, done: u64, total: u64) -> i32>;

/// Tells a caller of progress; false asks to stop.
pub(super) fn progress_of(
    callback: mlxrt_progress_callback,
    user_data: *mut c_void,
) -> impl FnMut(u64, u64) -> bool {
    // SAFETY: the caller's function with the caller's data, on the caller's thread.
    move |done, total| callback.is_none_or(|callback| unsafe { callback(user_data, done, total) == 0 })
}

/// How to load. Zero in any field means its default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mlxrt_load_options {
    /// sizeof(mlxrt_load_options).
    pub struct_size: usize,
    /// A mlxrt_device.
    pub device: i32,
    /// A mlxrt_dtype: what dense weights are converted to and activations are computed in.
    pub dtype: i32,
    /// Most tokens of prompt and answer together. 0, or more than that: as many as the model was made
    /// for.
    pub context_length: u32,
    /// Non-zero: a model that is neither a path nor whole in the Hugging Face cache is downloaded into
    /// that cache.
    pub download: i32,
    /// Stops loading from another thread; may be NULL.
    pub cancel: *const mlxrt_cancel,
    /// Told of progress, on the calling thread; may be NULL.
    pub progress: mlxrt_progress_callback,
    /// Passed to progress.
    pub user_data: *mut c_void,
    /// Non-zero: read the weights into memory of the process's own. By default, on the CPU, those that are
    /// computed with as they are stored (quantised ones) stay in their files, mapped: loading takes
    /// no time, processes share them, and mlxrt_memory_active does not count them; but who shortens
    /// such a file while the model is loaded ends the process. Replacing it is fine. Where a processor has
    /// AVX-512 VNNI, matrices of 4 and 8 bits are put into another order as they are loaded, unless `exact`
    /// is set, and then are the process's own.
    pub no_mmap: i32,
    /// Non-zero: on the CPU, multiply affine quantised and bfloat16 matrices in float32. By default the input
    /// of a product with the former is rounded to 8-bit integers, with a scale for every 64 of a row (32 where
    /// the matrix has more than 4 bits or such groups), which is faster. On the demo model this changed the next-token distributions by
    /// a KL divergence of 2e-4 on average, and the most likely token in 0.7% of the positions. That of
    /// bfloat16 matrices is rounded to 16 bits where the processor has AMX. All other matrices are
    /// multiplied in float32 anyway. No effect on a GPU, nor on macOS.
    pub exact: i32,
    /// Threads that compute on the CPU, at most 1024. They are the process's: all models use this many
    /// from now on, until another is loaded with a number of its own. 0 leaves the number as it is; at
    /// first it is one for each physical core that the process may use. No effect on macOS.
    pub threads: u32,
    /// Zero.
    pub reserved: u32,
    /// Most requests that are computed together; further ones wait. 0: 32.
    pub max_concurrent: u32,
    /// Most requests that may wait; further ones end with MLXRT_STATUS_BUSY. 0: 1024.
    pub max_queue: u32,
    /// Bytes that requests and idle sessions may take for keys and values. A request that does not fit beside
    /// the others waits; one that could not fit alone ends with OUT_OF_MEMORY, and the message says how
    /// many it needs. 0: half of the device's memory.
    pub kv_budget_bytes: u64,
    /// Most bytes that are kept besides of prompts that were computed, so that prompts which begin alike
    /// share that. Those used longest ago go first. 0: an eighth of the budget.
    pub prefix_cache_bytes: u64,
    /// A folder where the prefix cache stays when the model is freed, for the next process; up to
    /// prefix_cache_bytes. NULL: it is forgotten.
    pub prefix_cache_path: *const c_char,
    /// Its length in bytes.
    pub prefix_cache_path_len: usize,
    /// Non-zero: no prefix cache.
    pub no_prefix_cache: i32,
    /// Bits of a stored key or value: 8 or 4, quantised in groups of 64 (32 where a head's width asks for it).
    /// 0: as they are computed.
    pub kv_bits: u32,
    /// Non-zero: generation goes on when the context is full. The first keep_tokens and the most recent
    /// tokens are then remembered, context_length in all, and the others forgotten.
    pub rotate_context: i32,
    /// How many of the first tokens stay in a context that rotates.
    pub keep_tokens: u32,
}

// SAFETY: repr(C), starts with struct_size; integers, pointers and an optional function.
unsafe impl Sized for mlxrt_load_options {
    const NAME: &'static str = "mlxrt_load_options";
    const FIRST_SIZE: usize = 48;
}

fn threads_from(count: u32) -> Result<Option<u32>> {
    match count {
        0 => Ok(None),
        1..=1024 => Ok(Some(count)),
        _ => Err(Error::BadArgument(format!("threads is {count}, expected at most 1024"))),
    }
}

/// Fills options with their defaults. `size` is sizeof(mlxrt_load_options).
///
/// Errors: BAD_ARGUMENT (`options` is NULL, or `size` is below that of the struct's first version).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_load_options_default(
    options: *mut mlxrt_load_options,
    size: usize,
) -> mlxrt_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { set_default(options, size) })
}

/// Loads a model from a folder in the Hugging Face layout: config.json, one or more .safetensors,
/// tokenizer.json, and optionally tokenizer_config.json and generation_config.json; or from a GGUF file,
/// which holds all of this (of a split one, the first file). Blocks until the weights are in memory;
/// `options` may be NULL. On success `*out` is a handle for mlxrt_model_free, on failure NULL.
///
/// Where no such path exists, `org/name` or `org/name@revision` is looked for in the Hugging Face
/// cache (see mlxrt_discover), and downloaded if the options say so. A download that was interrupted
/// goes on where it stopped when the model is asked for again; what arrives is checked against the
/// checksums that the hub lists. Of several processes one downloads, the others wait. HF_ENDPOINT,
/// HF_TOKEN and HF_HUB_DOWNLOAD_TIMEOUT (seconds of silence that are too many; 30) are honoured. No
/// other call of this library uses the network.
///
/// Errors: NOT_FOUND (no such path, nor in the cache, nor on the hub; no file in it), NETWORK (the
/// download failed), IO (the cache cannot be written), BAD_MODEL (a file is broken: the message names
/// file, key and what was expected), UNSUPPORTED (unknown model_type: the message lists the known ones;
/// no such device; or a download is needed and the library was built without Cargo feature `hub`),
/// CANCELLED, OUT_OF_MEMORY, BAD_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_model_load(
    path: *const c_char,
    path_len: usize,
    options: *const mlxrt_load_options,
    out: *mut *mut mlxrt_model,
) -> mlxrt_status {
    guard(|| {
        // SAFETY: the caller's promise, here and below.
        let out = unsafe { output(out, "out") }?;
        *out = std::ptr::null_mut();
        let path = unsafe { text(path, path_len, "path") }?;
        if path.is_empty() {
            return Err(Error::BadArgument("path is empty".into()));
        }
        let mut load = LoadOptions::default();
        let mut progress = progress_of(None, std::ptr::null_mut());
        if let Some(given) = unsafe { self::options(options) }? {
            if given.reserved != 0 {
                let what = format!("mlxrt_load_options: reserved is {}, expected 0", given.reserved);
                return Err(Error::BadArgument(what));
            }
            load.device = device_from(given.device)?;
            load.dtype = dtype_from(given.dtype)?;
            load.context_length = (given.context_length > 0).then_some(given.context_length);
            load.download = given.download != 0;
            load.no_mmap = given.no_mmap != 0;
            load.exact = given.exact != 0;
            load.threads = threads_from(given.threads)?;
            if given.max_concurrent > 0 {
                load.serving.max_concurrent = given.max_concurrent as usize;
            }
            if given.max_queue > 0 {
                load.serving.max_queue = given.max_queue as usize;
            }
            let serving = &mut load.serving;
            serving.kv_budget = (given.kv_budget_bytes > 0).then_some(given.kv_budget_bytes as usize);
            serving.prefix_cache_bytes = match given.no_prefix_cache {
                0 => (given.prefix_cache_bytes > 0).then_some(given.prefix_cache_bytes as usize),
                _ => Some(0),
            };
            let folder = (given.prefix_cache_path, given.prefix_cache_path_len);
            let folder = unsafe { text(folder.0, folder.1, "prefix_cache_path") }?;
            serving.prefix_cache_folder = (!folder.is_empty()).then(|| folder.into());
            serving.caches.bits = (given.kv_bits > 0).then_some(given.kv_bits.min(64) as i32);
            serving.rotate_keeping = (given.rotate_context != 0).then_some(given.keep_tokens as usize);
            load.cancel = CANCELS.get_optional(given.cancel)?;
            progress = progress_of(given.progress, given.user_data);
        }
        let model = Model::load(Path::new(path), load, &mut progress)?;
        let architecture = CString::new(model.info().architecture.as_str()).unwrap_or_default();
        *out = MODELS.insert(Arc::new(Loaded { model, architecture }));
        Ok(())
    })
}

/// Frees a model: NULL and handles that were freed before are ignored. Calls that are using it on
/// other threads, and its streams, end with MLXRT_STATUS_CLOSED. Returns when the weights are freed and MLX's kept
/// memory was given back.
#[unsafe(no_mangle)]
pub extern "C" fn mlxrt_model_free(model: *mut mlxrt_model) {
    guard_quiet(|| {
        if let Some(loaded) = MODELS.remove(model) {
            loaded.model.close();
        }
    });
}

/// What mlxrt_model_info tells.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mlxrt_model_desc {
    /// sizeof(mlxrt_model_desc), set by the caller.
    pub struct_size: usize,
    /// model_type of config.json, such as "qwen3", or what a GGUF file's architecture is called there:
    /// NUL-terminated, valid until the model is freed.
    pub architecture: *const c_char,
    /// Number of parameters, counted before quantisation.
    pub parameters: u64,
    /// Bytes that the weights take in memory.
    pub weight_bytes: u64,
    /// Rows of the embedding table: token ids are below this.
    pub vocab_size: u32,
    /// Transformer layers.
    pub num_layers: u32,
    /// Width of the residual stream.
    pub hidden_size: u32,
    /// Query heads.
    pub num_heads: u32,
    /// Key and value heads.
    pub num_kv_heads: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// Most tokens of prompt and answer together.
    pub context_length: u32,
    /// Bits of a quantised weight, 0: not quantised.
    pub quant_bits: u32,
    /// Weights that share a scale, 0: not quantised.
    pub quant_group: u32,
    /// 1 if the model has a chat template, so that mlxrt_model_chat works.
    pub has_chat_template: i32,
    /// The mlxrt_device that the model computes on.
    pub device: i32,
    /// The mlxrt_dtype that the model computes in.
    pub dtype: i32,
    /// Tensors in the files that the model has no use for: those of the vision tower of a multimodal
    /// checkpoint, of which only the text part is loaded.
    pub unused_tensors: u32,
    /// The mlxrt_quant_mode of quantised weights.
    pub quant_mode: i32,
}

// SAFETY: repr(C), starts with struct_size; integers and a pointer.
unsafe impl Sized for mlxrt_model_desc {
    const NAME: &'static str = "mlxrt_model_desc";
    const FIRST_SIZE: usize = 88;
}

/// Describes a model. Set `out->struct_size` before the call.
///
/// Errors: BAD_ARGUMENT (a model that was freed, `out` is NULL or its struct_size was not set).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_model_info(
    model: *const mlxrt_model,
    out: *mut mlxrt_model_desc,
) -> mlxrt_status {
    guard(|| {
        let loaded = MODELS.get(model)?;
        let info = loaded.model.info();
        let desc = mlxrt_model_desc {
            struct_size: 0,
            architecture: loaded.architecture.as_ptr(),
            parameters: info.parameters,
            weight_bytes: info.weight_bytes,
            vocab_size: info.vocab_size,
            num_layers: info.num_layers,
            hidden_size: info.hidden_size,
            num_heads: info.num_heads,
            num_kv_heads: info.num_kv_heads,
            head_dim: info.head_dim,
            context_length: info.context_length,
            quant_bits: info.quantization.map_or(0, |q| q.bits as u32),
            quant_group: info.quantization.map_or(0, |q| q.group_size as u32),
            has_chat_template: info.has_chat_template.into(),
            device: match info.device {
                Device::Cpu => 1,
                Device::Gpu => 2,
            },
            dtype: dtype_of(Some(info.dtype)) as i32,
            unused_tensors: info.unused_tensors,
            quant_mode: quant_mode_of(info.quantization.map(|q| q.mode)) as i32,
        };
        // SAFETY: the caller's promise.
        unsafe { write_sized(out, &desc) }
    })
}
