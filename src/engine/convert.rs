//! Writing a checkpoint anew: quantised, or in another floating-point type, in the names and the form
//! that mlx-lm writes. The architecture's own loading code says which tensors there are, what
//! mlx-lm calls them and which of them are matrices.

use super::Cancel;
use super::checkpoint;
use super::safetensors_writer::{self as writer, Tensor};
use super::threads;
use crate::error::{Error, Result};
use crate::mlx::ops::{self, QuantMode, Quantization, Quantized};
use crate::mlx::{self, Array, Device, Dtype};
use crate::models::{self, Config};
use crate::nn::Weights;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;

/// How to convert.
#[derive(Debug, Default, Clone)]
pub struct ConvertOptions {
    /// What matrices become; `None`: they stay dense.
    pub quantization: Option<Quantization>,
    /// The type of what is not quantised, and what quantising starts from; `None`: as it is.
    pub dtype: Option<Dtype>,
    /// Stops converting.
    pub cancel: Option<Arc<Cancel>>,
}

/// Told bytes done and in all; false stops.
type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// Reads the model folder `source` and writes `destination`, which must not be there. Until all is
/// written it lies in a folder beside it, which an error or a cancel takes away. `progress` is called
/// on the calling thread.
pub fn convert(source: &Path, destination: &Path, options: ConvertOptions, progress: Progress) -> Result<()> {
    if destination.exists() {
        return Err(Error::BadArgument(format!("{}: is there already", destination.display())));
    }
    let config = Config::read(&source.join("config.json"))?;
    let cancel = options.cancel.clone();
    let stop = Arc::new(Cancel::default());
    let partial = Partial::create(destination)?;

    let (sender, told) = channel();
    let job = {
        let (source, folder, stop) = (source.to_path_buf(), partial.folder.clone(), stop.clone());
        move || {
            let report = |done, total| {
                let _ = sender.send(Told::Progress(done, total));
                !stop.is_triggered() && !cancel.as_ref().is_some_and(|cancel| cancel.is_triggered())
            };
            let written = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                write(&source, &config, &folder, &options, &report)
            }));
            let written = written.unwrap_or_else(|payload| Err(Error::from_panic(&*payload)));
            let _ = mlx::memory::clear_cache();
            let _ = sender.send(Told::End(written));
        }
    };
    let running = threads::run(job)?;
    let written = loop {
        match told.recv() {
            Ok(Told::Progress(done, total)) if !progress(done, total) => stop.trigger(),
            Ok(Told::Progress(..)) => {}
            Ok(Told::End(written)) => break written,
            Err(_) => break Err(Error::Internal("the engine thread ended while converting".into())),
        }
    };
    running.wait();
    written?;
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
        partial.push(format!(".partial-{}", std::process::id()));
        let folder = destination.with_file_name(partial);
        fs::create_dir(&folder).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::NotFound(format!("{}: the folder to write into is not there", destination.display()))
            }
            _ => Error::BadArgument(format!("{}: {error}", folder.display())),
        })?;
        Ok(Partial { folder })
    }

    fn finish(self, destination: &Path) -> Result<()> {
        fs::rename(&self.folder, destination)
            .map_err(|error| Error::BadArgument(format!("{}: {error}", destination.display())))
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
    let quantization = config.quantization()?;
    if quantization.default.is_some() && options.quantization.is_some() {
        return Err(Error::BadArgument(format!(
            "{}: is quantised already; quantising starts from floating-point weights",
            config.file().display()
        )));
    }
    let mut weights =
        Weights::new(checkpoint::open(source, true)?, source.to_path_buf(), quantization, options.dtype);
    make(config, &mut weights)?;
    let taken = weights.into_taken();

    let mut plan = Plan { config, options, exceptions: Map::new() };
    let tensors = taken.tensors.into_iter().map(|(name, array)| plan.add(name, array, &taken.matrices));
    let tensors: Vec<Tensor> = tensors.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    writer::write(folder, tensors, SHARD_BYTES, taken.parameters, progress)?;
    plan.write_config(&folder.join("config.json"))?;
    copy_rest(source, folder)
}

/// What becomes of each tensor, and what config.json has to say of it.
struct Plan<'a> {
    config: &'a Config,
    options: &'a ConvertOptions,
    /// Layers with a format of their own.
    exceptions: Map<String, Value>,
}

impl Plan<'_> {
    /// The tensors that one becomes.
    fn add(&mut self, name: String, array: Array, matrices: &HashSet<String>) -> Result<Vec<Tensor>> {
        let layer = name.strip_suffix(".weight").filter(|layer| matrices.contains(*layer));
        let (Some(layer), Some(default)) = (layer, self.options.quantization) else {
            return Ok(vec![Tensor { name, array }]);
        };
        let own = self.format_of(layer, default);
        if array.dim(-1) % own.group_size != 0 {
            return Ok(vec![Tensor { name, array }]);
        }
        if own != default {
            self.exceptions.insert(layer.to_string(), setting(own));
        }
        let Quantized { packed, scales, biases, .. } = ops::quantize(&array, own)?;
        let part = |kind: &str, array| Tensor { name: format!("{layer}.{kind}"), array };
        let mut parts = vec![part("weight", packed), part("scales", scales)];
        parts.extend(biases.map(|biases| part("biases", biases)));
        Ok(parts)
    }

    /// Layers that are small and that much depends on keep 8 bits, as mlx-lm has it: routers of
    /// experts; in Granite those whose values are too small for the scales of few-bit floats.
    fn format_of(&self, layer: &str, default: Quantization) -> Quantization {
        let ends = |endings: &[&str]| endings.iter().any(|ending| layer.ends_with(ending));
        let granite = self.config.model_type().is_ok_and(|kind| kind == "granite");
        let careful = ends(&["mlp.gate", "shared_expert_gate", ".router", "router.proj"])
            || granite && ends(&["self_attn.o_proj", "mlp.down_proj", "lm_head"]);
        match careful {
            true => Quantization { group_size: 64, bits: 8, mode: QuantMode::Affine },
            false => default,
        }
    }

    /// The source's config.json with what was done.
    fn write_config(self, file: &Path) -> Result<()> {
        let mut json = self.config.json().clone();
        let object = json.as_object_mut().expect("checked when it was read");
        for key in ["_name_or_path", "vision_config"] {
            object.remove(key);
        }
        if let Some(dtype) = self.options.dtype {
            object.insert("torch_dtype".into(), dtype.to_string().into());
        }
        if let Some(default) = self.options.quantization {
            let mut quantization = setting(default);
            quantization.as_object_mut().expect("made so").extend(self.exceptions);
            // Both names: mlx-lm reads the first, Hugging Face's model pages the second.
            object.insert("quantization".into(), quantization.clone());
            object.insert("quantization_config".into(), quantization);
        }
        writer::write_json(file, &json)
    }
}

fn setting(quantization: Quantization) -> Value {
    let Quantization { group_size, bits, mode } = quantization;
    json!({ "group_size": group_size, "bits": bits, "mode": mode.name() })
}

/// Tokenizer, templates, generation settings: everything that is neither weights nor their index.
fn copy_rest(source: &Path, folder: &Path) -> Result<()> {
    let failed = |path: &Path, error: std::io::Error| Error::bad_file(path, error);
    for entry in fs::read_dir(source).map_err(|error| failed(source, error))? {
        let path = entry.map_err(|error| failed(source, error))?.path();
        let (Some(name), Some(extension)) = (path.file_name(), path.extension()) else { continue };
        let wanted = ["json", "jinja", "txt", "model", "md"].iter().any(|known| extension == *known);
        let mine = folder.join(name);
        let index = name.to_string_lossy().ends_with(".safetensors.index.json");
        if wanted && !index && !mine.exists() && path.is_file() {
            fs::copy(&path, &mine).map_err(|error| failed(&path, error))?;
        }
    }
    Ok(())
}
