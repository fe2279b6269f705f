//! Writing a checkpoint anew, quantised.

use super::cancel::{CANCELS, mlxrt_cancel};
use super::error::mlxrt_status;
use super::model::{dtype_from, mlxrt_progress_callback, progress_of};
use super::panic::guard;
use super::read::{Sized, options, set_default, text};
use crate::engine::{ConvertOptions, convert};
use crate::error::{Error, Result};
use crate::mlx::ops::{QuantMode, Quantization};
use libc::{c_char, c_void};
use std::path::Path;

/// How to convert. Zero in any field means its default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mlxrt_convert_options {
    /// sizeof(mlxrt_convert_options).
    pub struct_size: usize,
    /// The mlxrt_quant_mode that weight matrices are stored in; MLXRT_QUANT_NONE leaves them dense.
    pub quant_mode: i32,
    /// Bits of a quantised weight; 0: 4, or 8 for MXFP8. Only AFFINE has a choice: 2, 3, 4, 5, 6, 8.
    pub quant_bits: u32,
    /// Weights that share a scale; 0: 64 for AFFINE, 32 for MXFP4 and MXFP8, 16 for NVFP4. Only AFFINE
    /// has a choice: 32, 64, 128.
    pub quant_group: u32,
    /// The mlxrt_dtype of what is not quantised; MLXRT_DTYPE_AUTO: what config.json says, or as it is in the
    /// source if that says nothing.
    pub dtype: i32,
    /// Stops converting from another thread; may be NULL.
    pub cancel: *const mlxrt_cancel,
    /// Told of progress, on the calling thread; may be NULL.
    pub progress: mlxrt_progress_callback,
    /// Passed to progress.
    pub user_data: *mut c_void,
}

// SAFETY: repr(C), starts with struct_size; integers, pointers and an optional function.
unsafe impl Sized for mlxrt_convert_options {
    const NAME: &'static str = "mlxrt_convert_options";
    const FIRST_SIZE: usize = 48;
}

/// Fills options with their defaults. `size` is sizeof(mlxrt_convert_options).
///
/// Errors: BAD_ARGUMENT (`options` is NULL, or `size` is below that of the struct's first version).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_convert_options_default(
    options: *mut mlxrt_convert_options,
    size: usize,
) -> mlxrt_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { set_default(options, size) })
}

/// Reads the model `source`, a folder or `org/name` of one in the Hugging Face cache, and writes the new
/// folder `destination`: weights in mlx-lm's names, quantised as `options` say, config.json that says so,
/// and copies of tokenizer, templates and generation settings. mlx-lm loads the result, and so does
/// mlxrt_model_load. Vision weights of multimodal checkpoints are left out. Matrices that are quantised
/// already stay as they are; those whose rows do not divide by the group stay dense; routers of experts
/// keep 8 bits. Blocks until done; needs memory for one tensor at a time.
///
/// The folder gets its name when it is complete. Until then it is called `destination.partial-` and a
/// random number; after an error or a cancel it is gone, and only a process that is killed leaves it.
///
/// Errors: BAD_ARGUMENT (`destination` is there already, all of `source` is quantised already, bits and
/// group that the mode does not have), IO (the system refused to write: no room on the disk, say),
/// NOT_FOUND, BAD_MODEL, UNSUPPORTED as for mlxrt_model_load, CANCELLED, OUT_OF_MEMORY, MLX.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_model_convert(
    source: *const c_char,
    source_len: usize,
    destination: *const c_char,
    destination_len: usize,
    options: *const mlxrt_convert_options,
) -> mlxrt_status {
    guard(|| {
        // SAFETY: the caller's promise, here and below.
        let source = unsafe { text(source, source_len, "source") }?;
        let destination = unsafe { text(destination, destination_len, "destination") }?;
        if source.is_empty() || destination.is_empty() {
            return Err(Error::BadArgument("source or destination is empty".into()));
        }
        let mut convert_options = ConvertOptions::default();
        let mut progress = progress_of(None, std::ptr::null_mut());
        if let Some(given) = unsafe { self::options(options) }? {
            convert_options.quantization = quantization_from(&given)?;
            convert_options.dtype = dtype_from(given.dtype)?;
            convert_options.cancel = CANCELS.get_optional(given.cancel)?;
            progress = progress_of(given.progress, given.user_data);
        }
        convert(Path::new(source), Path::new(destination), convert_options, &mut progress)
    })
}

fn quantization_from(given: &mlxrt_convert_options) -> Result<Option<Quantization>> {
    let (mode, group, bits) = match given.quant_mode {
        0 => return Ok(None),
        1 => (QuantMode::Affine, 64, 4),
        2 => (QuantMode::Mxfp4, 32, 4),
        3 => (QuantMode::Mxfp8, 32, 8),
        4 => (QuantMode::Nvfp4, 16, 4),
        other => {
            let expected = "expected a mlxrt_quant_mode (0 to 4)";
            return Err(Error::BadArgument(format!("quant_mode {other}: {expected}")));
        }
    };
    let or = |given: u32, default: i32| if given == 0 { default } else { i32::try_from(given).unwrap_or(-1) };
    let (group, bits) = (or(given.quant_group, group), or(given.quant_bits, bits));
    Quantization::new(mode, group, bits)
        .map(Some)
        .ok_or_else(|| Error::BadArgument(format!("{} has no {bits} bits in groups of {group}", mode.name())))
}
