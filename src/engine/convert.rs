//! Writing a checkpoint anew: quantised, or in another floating-point type, in the names and the form
//! that mlx-lm writes. The architecture's own loading code says which tensors there are, what
//! mlx-lm calls them and which of them are matrices.

use super::Cancel;
use super::options::LoadOptions;
use super::safetensors_writer::{self as writer, Tensor, io_error};
use super::{chat, checkpoint, hub, threads};
use crate::error::{Error, Result, without_panic};
use crate::mlx::ops::{self, QuantMode, Quantization, Quantized};
use crate::mlx::{self, Array, Device, Dtype};
use crate::models::{self, Config};
use crate::nn::{QuantizationConfig, Taken, Weights};
use serde_json::{Map, Value, json};
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;

/// How to convert.
#[derive(Debug, Default, Clone)]
pub struct ConvertOptions {
    /// What matrices become; `None`: they stay dense.
    pub quantization: Option<Quantization>,
    /// The type of what is not quantised, and what quantising starts from; `None`: what config.json
    /// says, or as it is if that says nothing.
    pub dtype: Option<Dtype>,
    /// Stops converting.
    pub cancel: Option<Arc<Cancel>>,
}

/// Told bytes done and in all; false stops.
type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// Reads the model `source`, a folder or `org/name` of one in the Hugging Face cache, and writes the
/// folder `destination`, which must not be there. Until all is written it lies in a folder beside it,
/// `destination.partial-` and a random number, which an error or a cancel takes away; only a process that
/// is killed leaves it. `progress` is called on the calling thread.
pub fn convert(source: &Path, destination: &Path, options: ConvertOptions, progress: Progress) -> Result<()> {
    if destination.exists() {
        return Err(Error::BadArgument(format!("{}: is there already", destination.display())));
    }
    let source = hub::locate(source, &LoadOptions::default(), &mut |_, _| true)?;
    let config = Config::read(&source.join("config.json"))?;
    let cancel = options.cancel.clone();
    let stop = Arc::new(Cancel::default());
    let partial = Partial::create(destination)?;

    let (sender, told) = channel();
    let job = {
        let (folder, stop) = (partial.folder.clone(), stop.clone());
        move || {
            let report = |done, total| {
                let _ = sender.send(Told::Progress(done, total));
                !stop.is_triggered() && !cancel.as_ref().is_some_and(|cancel| cancel.is_triggered())
            };
            let written = without_panic(|| write(&source, &config, &folder, &options, &report)).flatten();
            let _ = mlx::memory::clear_cache();
            let _ = sender.send(Told::End(written));
        }
    };
    let running = threads::run(job)?;
    let written = loop {
        match told.recv() {
            // What was told before the caller asked to stop is still on its way.
            Ok(Told::Progress(done, total)) if !stop.is_triggered() && !progress(done, total) => {
                stop.trigger();
            }
            Ok(Told::Progress(..)) => {}
            Ok(Told::End(written)) => break written,
            Err(_) => break Err(Error::Internal("the engine thread ended while converting".into())),
        }
    };
    running.wait();
    written?;
    // The engine may have been done before it saw that.
    if stop.is_triggered() {
        return Err(Error::Cancelled);
    }
    partial.finish(destination)
}

enum Told {
    Progress(u64, u64),
    End(Result<()>),
}

/// The folder that is being written; dropping it takes it away.
struct Partial {
    folder: PathBuf,
}

impl Partial {
    fn create(destination: &Path) -> Result<Self> {
        let name = destination.file_name().ok_or_else(|| {
            Error::BadArgument(format!("{}: expected the name of a new folder", destination.display()))
        })?;
        let mut partial = name.to_os_string();
        // The standard library's hashers start from random keys.
        partial.push(format!(".partial-{:016x}", RandomState::new().build_hasher().finish()));
        let folder = destination.with_file_name(partial);
        fs::create_dir(&folder).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::NotFound(format!("{}: the folder to write into is not there", destination.display()))
            }
            _ => io_error(&folder, error),
        })?;
        Ok(Partial { folder })
    }

    fn finish(self, destination: &Path) -> Result<()> {
        fs::rename(&self.folder, destination).map_err(|error| io_error(destination, error))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// mlx-lm looks for files of about this size.
const SHARD_BYTES: usize = 5 << 30;

fn write(
    source: &Path,
    config: &Config,
    folder: &Path,
    options: &ConvertOptions,
    progress: &dyn Fn(u64, u64) -> bool,
) -> Result<()> {
    // Reading and writing files takes the time; and every machine gets the same bytes.
    mlx::use_device(Device::Cpu)?;
    let make = models::find(config)?;
    let stored = config.quantization()?;
    let dtype = options.dtype.or_else(|| config.dtype());
    let tensors = checkpoint::open(source, true)?;
    let mut weights = Weights::new(tensors, source.to_path_buf(), stored.clone(), dtype);
    make(config, &mut weights)?;
    let mut taken = weights.into_taken();

    let tensors = std::mem::take(&mut taken.tensors);
    let mut plan = Plan { wanted: options.quantization, stored, taken: &taken, formats: Map::new() };
    let tensors = tensors.into_iter().map(|(name, array)| plan.add(name, array));
    let tensors: Vec<Tensor> = tensors.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    if plan.stored.default.is_some() && plan.wanted.is_some() && plan.formats.is_empty() {
        return Err(Error::BadArgument(format!(
            "{}: is quantised already; quantising starts from floating-point weights",
            config.file().display()
        )));
    }
    let json = config_json(config, dtype, plan.setting(config));
    writer::write(folder, tensors, SHARD_BYTES, taken.parameters, progress)?;
    writer::write_json(&folder.join("config.json"), &json)?;
    copy_rest(source, folder)
}

/// What becomes of each tensor, and what config.json has to say of it.
struct Plan<'a> {
    /// What dense matrices become.
    wanted: Option<Quantization>,
    /// What the source says of its own matrices. Those that are quantised stay as they are.
    stored: QuantizationConfig,
    taken: &'a Taken,
    /// Of matrices that are quantised here, those whose format is not what config.json says of all.
    formats: Map<String, Value>,
}

impl Plan<'_> {
    /// The tensors that one becomes.
    fn add(&mut self, name: String, array: Array) -> Result<Vec<Tensor>> {
        let matrix = name.strip_suffix(".weight").filter(|layer| self.taken.matrices.contains(*layer));
        let (Some(layer), Some(wanted)) = (matrix, self.wanted) else {
            return Ok(vec![Tensor { name, array }]);
        };
        let precise = self.taken.precise.iter().any(|ending| layer.ends_with(ending));
        // As mlx-lm has it.
        let eight_bits = Quantization { group_size: 64, bits: 8, mode: QuantMode::Affine };
        let own = if precise { eight_bits } else { wanted };
        if ![own, wanted].iter().all(|format| format.divides(array.dim(-1))) {
            return Ok(vec![Tensor { name, array }]);
        }
        if own != wanted || self.stored.default.is_some() {
            self.formats.insert(layer.to_string(), setting(own));
        }
        let Quantized { packed, scales, biases, .. } = ops::quantize(&array, own)?;
        let part = |kind: &str, array| Tensor { name: format!("{layer}.{kind}"), array };
        let mut parts = vec![part("weight", packed), part("scales", scales)];
        parts.extend(biases.map(|biases| part("biases", biases)));
        Ok(parts)
    }

    /// `quantization` of the new config.json: what the source said, or what was wanted, and the layers
    /// that have it otherwise.
    fn setting(self, config: &Config) -> Option<Value> {
        let said = config.get("quantization").cloned();
        let mut all = said.or_else(|| self.stored.default.or(self.wanted).map(setting))?;
        all.as_object_mut()?.extend(self.formats);
        Some(all)
    }
}

fn setting(quantization: Quantization) -> Value {
    let Quantization { group_size, bits, mode } = quantization;
    json!({ "group_size": group_size, "bits": bits, "mode": mode.name() })
}

/// The source's config.json with what was done.
fn config_json(config: &Config, dtype: Option<Dtype>, quantization: Option<Value>) -> Value {
    let mut json = config.json().clone();
    for key in ["_name_or_path", "vision_config", "quantization_config"] {
        remove(&mut json, key);
    }
    if let Some(text) = json.get_mut("text_config") {
        remove(text, "quantization_config");
    }
    if let Some(dtype) = dtype {
        set_dtype(&mut json, dtype);
    }
    if let Some(quantization) = quantization {
        // Both names: mlx-lm reads the first, Hugging Face's model pages the second.
        json["quantization"] = quantization.clone();
        json["quantization_config"] = quantization;
    }
    json
}

fn remove(json: &mut Value, key: &str) {
    json.as_object_mut().map(|object| object.remove(key));
}

/// Sets the type wherever config.json has one.
fn set_dtype(json: &mut Value, dtype: Dtype) {
    const PLACES: [&str; 4] = ["/torch_dtype", "/dtype", "/text_config/torch_dtype", "/text_config/dtype"];
    let mut set = false;
    for place in PLACES {
        if let Some(old) = json.pointer_mut(place) {
            *old = dtype.to_string().into();
            set = true;
        }
    }
    if !set {
        json["torch_dtype"] = dtype.to_string().into();
    }
}

/// Tokenizer, templates, generation settings: what mlx-lm takes beside the weights.
fn copy_rest(source: &Path, folder: &Path) -> Result<()> {
    const EXTENSIONS: [&str; 7] = ["json", "jsonl", "jinja", "txt", "model", "tiktoken", "py"];
    // Says how the source's weights are quantised.
    const STALE: &str = "hf_quant_config.json";
    copy_files(source, folder, |name| {
        let wanted =
            Path::new(name).extension().is_some_and(|extension| EXTENSIONS.iter().any(|e| extension == *e));
        wanted && !name.ends_with(".index.json") && name != STALE
    })?;
    let templates = source.join(chat::TEMPLATES);
    if !templates.is_dir() {
        return Ok(());
    }
    let copies = folder.join(chat::TEMPLATES);
    fs::create_dir(&copies).map_err(|error| io_error(&copies, error))?;
    copy_files(&templates, &copies, |name| name.ends_with(".jinja"))
}

/// Copies the files whose names are wanted and not there yet.
fn copy_files(from: &Path, to: &Path, wanted: impl Fn(&str) -> bool) -> Result<()> {
    for entry in fs::read_dir(from).map_err(|error| io_error(from, error))? {
        let path = entry.map_err(|error| io_error(from, error))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let copy = to.join(name);
        if wanted(name) && !copy.exists() && path.is_file() {
            fs::copy(&path, &copy).map_err(|error| io_error(&copy, error))?;
        }
    }
    Ok(())
}
