//! Making a model from a folder or a GGUF file, on the engine thread.

use super::options::{LoadOptions, ModelInfo};
use super::{checkpoint, gguf};
use crate::error::{Error, Result};
use crate::kernels;
use crate::mlx::{self, Array, Device, Dtype, ops};
use crate::models::{self, Config};
use crate::nn::{Taken, Weights};
use std::path::Path;

/// A model on the thread that made it.
pub struct LoadedModel {
    /// The model.
    pub model: Box<dyn models::Model>,
    /// What it says of itself.
    pub info: ModelInfo,
    /// Tells this model's weights from others'.
    pub fingerprint: String,
}

/// Evaluated together: large enough to keep the disk busy, small enough to cancel soon.
const BATCH_BYTES: usize = 64 << 20;

/// Loads the weights: of the folder `path`, or of the file that it is. `progress` gets bytes done and in
/// all; false stops.
pub(super) fn load(
    path: &Path,
    gguf: Option<&gguf::Model>,
    config: &Config,
    options: &LoadOptions,
    progress: &dyn Fn(u64, u64) -> bool,
) -> Result<LoadedModel> {
    let device = options.device.unwrap_or_else(mlx::default_device);
    mlx::use_device(device)?;
    kernels::set_exact(options.exact);
    if let Some(threads) = options.threads {
        kernels::set_threads(threads)?;
    }
    let make = models::find(config)?;
    let quantization = config.quantization()?;
    // MLX's CPU backend is up to 30 times slower in 16-bit types than in float32.
    let dtype = options.dtype.or((device == Device::Cpu).then_some(Dtype::F32));
    let (tensors, reading) = match gguf {
        Some(gguf) => gguf.tensors(dtype)?,
        None => {
            (checkpoint::open(path, device == Device::Cpu && !options.no_mmap)?, gguf::Reading::default())
        }
    };
    let default_quantization = quantization.default;
    let mut weights = Weights::new(tensors, path.to_path_buf(), quantization, dtype);
    if kernels::compute()? {
        weights.keep_matrices();
        if !options.exact {
            weights.interleave_matrices();
        }
    }
    let model = make(config, &mut weights)?;
    let Taken { tensors, derived, parameters, unused, mut interleaved, .. } = weights.into_taken();
    // These are made of tensors in their old order.
    mlx::eval(&derived)?;
    let (names, mut arrays): (Vec<String>, Vec<Array>) = tensors.into_iter().unzip();
    arrays.extend(derived);
    let mut samples = Samples::new(arrays.len());
    let weight_bytes = evaluate(&arrays, progress, |index| {
        samples.add(index, &arrays[index])?;
        match names.get(index) {
            // SAFETY: an array of its own, which layers take to be interleaved and have not yet used; once, should two
            // layers share it.
            Some(name) if interleaved.remove(name) => unsafe { kernels::interleave(&arrays[index]) },
            _ => Ok(()),
        }
    })?;
    reading.check()?;

    let dims = model.dims();
    let model_context = dims.context_length as u32;
    let info = ModelInfo {
        architecture: config.model_type()?.to_string(),
        parameters,
        unused_tensors: unused as u32,
        weight_bytes,
        vocab_size: dims.vocab_size as u32,
        num_layers: dims.num_layers as u32,
        hidden_size: dims.hidden_size as u32,
        num_heads: dims.num_heads as u32,
        num_kv_heads: dims.num_kv_heads as u32,
        head_dim: dims.head_dim as u32,
        context_length: options.context_length.map_or(model_context, |wanted| wanted.min(model_context)),
        quantization: default_quantization,
        has_chat_template: false,
        device,
        dtype: dtype
            .or_else(|| arrays.iter().map(Array::dtype).find(|dtype| dtype.is_float()))
            .unwrap_or(Dtype::F32),
    };
    let fingerprint = samples.fingerprint(&info, &names, &arrays);
    Ok(LoadedModel { model, info, fingerprint })
}

/// The bytes of a few weights: a tuned model differs from its base in every layer.
struct Samples {
    step: usize,
    bytes: Vec<u8>,
}

impl Samples {
    /// Of so many weights.
    fn new(weights: usize) -> Self {
        /// Weights whose bytes count.
        const SAMPLES: usize = 16;
        Samples { step: (weights / SAMPLES).max(1), bytes: vec![] }
    }

    /// To be called for each of the weights in order.
    fn add(&mut self, index: usize, array: &Array) -> Result<()> {
        /// So many elements count.
        const SAMPLE: i32 = 256;
        if !index.is_multiple_of(self.step) {
            return Ok(());
        }
        let mut sample = array.clone();
        while let [first, .., _] = *sample.shape() {
            // The middle row: padding stands at the ends.
            sample = ops::squeeze(&ops::slice(&sample, 0, first / 2, first / 2 + 1)?, 0)?;
        }
        let length = if sample.shape().is_empty() { 0 } else { sample.dim(0).min(SAMPLE) };
        if length > 0 {
            ops::slice(&sample, 0, 0, length)?.with_bytes(|bytes| self.bytes.extend(bytes))?;
        }
        Ok(())
    }

    /// Of what the model is, of the names, shapes and types of its weights, and of the samples.
    fn fingerprint(&self, info: &ModelInfo, names: &[String], arrays: &[Array]) -> String {
        let mut text = format!("{} {} {:?}", info.architecture, info.parameters, info.dtype);
        for (name, array) in names.iter().zip(arrays) {
            text += &format!(" {name} {:?} {:?}", array.shape(), array.dtype());
        }
        let mut hash = Fnv::default();
        hash.add(text.as_bytes());
        hash.add(&self.bytes);
        format!("{:016x}", hash.0)
    }
}

/// The FNV-1a hash (Fowler, Noll and Vo), which is the same in every process.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// What config.json says, or the GGUF file.
pub(super) fn read_config(path: &Path, gguf: Option<&gguf::Model>) -> Result<Config> {
    gguf.map_or_else(|| Config::read(&path.join("config.json")), gguf::Model::config)
}

/// Reads and converts the weights and hands on each one's index. Returns their bytes.
fn evaluate(
    arrays: &[Array],
    progress: &dyn Fn(u64, u64) -> bool,
    mut each: impl FnMut(usize) -> Result<()>,
) -> Result<u64> {
    let total: u64 = arrays.iter().map(|array| array.nbytes() as u64).sum();
    let (mut done, mut first, mut batch_bytes) = (0, 0, 0);
    if !progress(0, total) {
        return Err(Error::Cancelled);
    }
    for (index, array) in arrays.iter().enumerate() {
        batch_bytes += array.nbytes();
        if batch_bytes >= BATCH_BYTES || index + 1 == arrays.len() {
            mlx::eval(&arrays[first..=index])?;
            (first..=index).try_for_each(&mut each)?;
            done += batch_bytes as u64;
            (first, batch_bytes) = (index + 1, 0);
            if !progress(done, total) {
                return Err(Error::Cancelled);
            }
        }
    }
    Ok(total)
}

/// Loads a model onto the calling thread, without tokenizer and engine: for tests that look at logits.
pub fn load_for_tests(path: &Path, options: &LoadOptions) -> Result<LoadedModel> {
    let gguf = gguf::Model::open_if(path)?;
    load(path, gguf.as_ref(), &read_config(path, gguf.as_ref())?, options, &|_, _| true)
}
