//! Finding models on this disk. Weights are not read: what is told comes from config.json, the index of the
//! shards and the sizes of files, or from a GGUF file's header.

use super::{Cancel, HubCache, checkpoint, gguf, hub};
use crate::error::{Error, Result};
use crate::mlx::Dtype;
use crate::mlx::ops::QuantMode;
use crate::models::{self, Config};
use crate::nn::{QuantizationConfig, RopeScaling};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// How deep to look where nothing else is said. A model of the hub's cache lies three folders deep.
const DEFAULT_DEPTH: u32 = 16;

/// Larger ones are no config.json: they are reported and not read.
const MAX_CONFIG: u64 = 16 << 20;
/// Larger ones are no index of shards.
const MAX_INDEX: u64 = 256 << 20;

/// Where and how to look.
#[derive(Debug, Default, Clone)]
pub struct DiscoverOptions {
    /// After the folder, look into the Hugging Face cache too.
    pub include_cache: bool,
    /// Folders below the first one; `None`: 16.
    pub max_depth: Option<u32>,
    /// Stops looking.
    pub cancel: Option<Arc<Cancel>>,
}

/// A model that was found, or what looks like one and cannot be run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelEntry {
    /// What loads it: its folder, or its file.
    pub path: PathBuf,
    /// Its name in the Hugging Face cache, which loads it too: `org/name`, with `@commit` where that is
    /// not the commit of `main`.
    pub id: Option<String>,
    /// `model_type` of config.json, or what a GGUF file's architecture is called there. Empty where
    /// there is none.
    pub architecture: String,
    /// `torch_dtype` or `dtype` of config.json, such as "bfloat16". Empty where it says none.
    pub dtype_name: String,
    /// The same where a model can compute in it.
    pub dtype: Option<Dtype>,
    /// Bytes of the weights' files.
    pub weight_bytes: u64,
    /// Positions that the model was made for. 0 where config.json does not say.
    pub context_length: u32,
    /// How weights are quantised in config.json's words, such as "affine" or "gptq". Empty: they are not.
    pub quant_name: String,
    /// How they are quantised where MLX has it.
    pub quant_mode: Option<QuantMode>,
    /// Bits of a quantised weight.
    pub quant_bits: u32,
    /// Weights that share a scale.
    pub quant_group: u32,
    /// Why it cannot be run. `None`: it can, as far as one can tell without reading weights.
    pub problem: Option<Error>,
}

/// Finds the models below a folder, or in the Hugging Face cache where there is `None`, in the order of
/// their paths. `found` is told of each, on the calling thread; false stops, which is no error. What
/// cannot be read is an entry with a problem. Links to folders are followed, but no folder is looked
/// into twice, nor one whose name starts with a dot.
///
/// Errors: [`Error::NotFound`] for a first folder that is not there, [`Error::Cancelled`].
pub fn discover(
    folder: Option<&Path>,
    options: &DiscoverOptions,
    found: &mut dyn FnMut(&ModelEntry) -> bool,
) -> Result<()> {
    let mut walk = Walk {
        max_depth: options.max_depth.unwrap_or(DEFAULT_DEPTH),
        cancel: options.cancel.as_deref(),
        visited: HashSet::new(),
        found,
    };
    if let Some(folder) = folder {
        if !folder.is_dir() {
            return Err(Error::NotFound(format!("{}: no such folder", folder.display())));
        }
        if !walk.below(folder)? {
            return Ok(());
        }
    }
    if let Some(cache) = HubCache::from_env()
        && (folder.is_none() || options.include_cache)
        && cache.root().is_dir()
    {
        walk.below(cache.root())?;
    }
    Ok(())
}

struct Walk<'a> {
    max_depth: u32,
    cancel: Option<&'a Cancel>,
    /// Device and inode of each folder.
    visited: HashSet<(u64, u64)>,
    found: &'a mut dyn FnMut(&ModelEntry) -> bool,
}

/// What the walk has still to look at.
enum Item {
    Folder(Folder),
    Gguf(PathBuf),
}

struct Folder {
    path: PathBuf,
    depth: u32,
    /// The repository whose `snapshots`, or one of them, this is.
    repository: Option<Rc<Repository>>,
}

impl Walk<'_> {
    /// False: the caller has seen enough.
    fn below(&mut self, root: &Path) -> Result<bool> {
        let root = Folder { path: root.to_path_buf(), depth: 0, repository: None };
        let mut items = vec![Item::Folder(root)];
        while let Some(item) = items.pop() {
            if self.cancel.is_some_and(Cancel::is_triggered) {
                return Err(Error::Cancelled);
            }
            let entry = match item {
                Item::Gguf(file) => Some(gguf_entry(&file)),
                Item::Folder(folder) => self.look_into(&folder, &mut items),
            };
            if entry.is_some_and(|entry| !(self.found)(&loadable(entry))) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What a folder is. What lies in it is left in `items`, the first on top.
    fn look_into(&mut self, folder: &Folder, items: &mut Vec<Item>) -> Option<ModelEntry> {
        let Folder { path, depth, repository } = folder;
        if let Ok(metadata) = fs::metadata(path)
            && !self.visited.insert((metadata.dev(), metadata.ino()))
        {
            return None;
        }
        let listing = match Listing::read(path) {
            Ok(listing) => listing,
            Err(error) => return Some(broken(path, Error::bad_file(path, error))),
        };
        if let Some(repository) = Repository::at(path, &listing) {
            return match listing.folders.iter().any(|name| name == "snapshots") {
                true => {
                    let path = path.join("snapshots");
                    let repository = Some(Rc::new(repository));
                    items.push(Item::Folder(Folder { path, depth: depth + 1, repository }));
                    None
                }
                // Nothing of it has arrived yet.
                false => Some(repository.unfinished_entry(path)),
            };
        }
        let is_snapshots = path.ends_with("snapshots");
        let of_snapshot = repository.as_deref().filter(|_| !is_snapshots);
        let entry = listing.is_model(of_snapshot).then(|| model_entry(path, &listing, of_snapshot));

        let ggufs = listing.files.into_iter();
        let ggufs = ggufs.filter(|name| has_extension(name, "gguf") && !continues_split(name));
        let ggufs = ggufs.map(|name| (name.clone(), Item::Gguf(path.join(name))));
        let folders = listing.folders.into_iter().filter(|_| *depth < self.max_depth).map(|name| {
            let repository = repository.clone().filter(|_| is_snapshots);
            (name.clone(), Item::Folder(Folder { path: path.join(name), depth: depth + 1, repository }))
        });
        let mut below: Vec<_> = ggufs.chain(folders).collect();
        below.sort_by(|(a, _), (b, _)| b.cmp(a));
        items.extend(below.into_iter().map(|(_, item)| item));
        entry
    }
}

/// The names in a folder.
struct Listing {
    files: BTreeSet<OsString>,
    folders: Vec<OsString>,
}

impl Listing {
    fn read(folder: &Path) -> std::io::Result<Self> {
        let mut listing = Listing { files: BTreeSet::new(), folders: vec![] };
        // An entry that vanishes meanwhile is no entry.
        for entry in fs::read_dir(folder)?.flatten() {
            let Ok(mut kind) = entry.file_type() else { continue };
            if kind.is_symlink() {
                // A link that leads nowhere stays: as a shard it is a problem to be told.
                kind = fs::metadata(entry.path()).map_or(kind, |metadata| metadata.file_type());
            }
            let name = entry.file_name();
            if kind.is_file() || kind.is_symlink() {
                listing.files.insert(name);
            } else if kind.is_dir() && !name.as_encoded_bytes().starts_with(b".") {
                listing.folders.push(name);
            }
        }
        Ok(listing)
    }

    fn has(&self, name: &str) -> bool {
        self.files.contains(OsStr::new(name))
    }

    /// Many a program has a config.json: it takes weights or a tokenizer beside it to be a model.
    fn is_model(&self, repository: Option<&Repository>) -> bool {
        let any = |is: fn(&str) -> bool| self.files.iter().any(|name| name.to_str().is_some_and(is));
        let has_weights = || any(|name| name.ends_with(".safetensors"));
        match self.has("config.json") {
            true => {
                has_weights()
                    || self.has(checkpoint::INDEX)
                    || any(|name| name.starts_with("tokenizer") || name.starts_with("pytorch_model"))
                    || repository.is_some_and(|repository| repository.unfinished > 0)
            }
            false => self.has(checkpoint::INDEX) || self.has("model.safetensors"),
        }
    }
}

/// A model's folder in the hub's cache.
struct Repository {
    name: Option<String>,
    /// The commit of `main`.
    main: Option<String>,
    /// Files that are not whole yet.
    unfinished: usize,
}

impl Repository {
    fn at(path: &Path, listing: &Listing) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let is_there = |name: &str| listing.folders.iter().any(|folder| folder == name);
        if !name.starts_with("models--") || !(is_there("snapshots") || is_there("blobs")) {
            return None;
        }
        let blobs = fs::read_dir(path.join("blobs")).into_iter().flatten().flatten();
        // As huggingface_hub and hf-hub call them.
        let unfinished = |name: &OsString| has_extension(name, "incomplete") || has_extension(name, "part");
        Some(Repository {
            name: hub::name_of(name),
            main: hub::commit_of(path, "main"),
            unfinished: blobs.map(|entry| entry.file_name()).filter(unfinished).count(),
        })
    }

    fn id_of(&self, snapshot: &Path) -> Option<String> {
        let (name, commit) = (self.name.as_ref()?, snapshot.file_name()?.to_str()?);
        Some(if self.main.as_deref() == Some(commit) { name.clone() } else { format!("{name}@{commit}") })
    }

    fn unfinished_entry(&self, path: &Path) -> ModelEntry {
        let what = format!("{}: its download has hardly begun: no file is whole", path.display());
        ModelEntry { id: self.name.clone(), ..broken(path, Error::NotFound(what)) }
    }
}

fn broken(path: &Path, problem: Error) -> ModelEntry {
    ModelEntry { path: path.to_path_buf(), problem: Some(problem), ..Default::default() }
}

/// A model that cannot be named cannot be loaded.
fn loadable(mut entry: ModelEntry) -> ModelEntry {
    if entry.problem.is_none() && entry.path.to_str().is_none() {
        let what = format!("{}: the path is not UTF-8 and cannot be passed on", entry.path.display());
        entry.problem = Some(Error::BadArgument(what));
    }
    entry
}

fn model_entry(path: &Path, listing: &Listing, repository: Option<&Repository>) -> ModelEntry {
    let mut entry = ModelEntry { path: path.to_path_buf(), ..Default::default() };
    entry.id = repository.and_then(|repository| repository.id_of(path));
    entry.problem = match describe(&mut entry, listing) {
        Err(Error::NotFound(what)) if repository.is_some_and(|repository| repository.unfinished > 0) => {
            Some(Error::NotFound(format!("{what}; its download is not finished")))
        }
        other => other.err(),
    };
    entry
}

/// Fills an entry in, as far as its files are sound; the error says what is not.
fn describe(entry: &mut ModelEntry, listing: &Listing) -> Result<()> {
    let folder = entry.path.clone();
    let weights = listing.files.iter().filter(|name| has_extension(name, "safetensors"));
    entry.weight_bytes =
        weights.filter_map(|name| fs::metadata(folder.join(name)).ok()).map(|m| m.len()).sum();

    let file = folder.join("config.json");
    check_file(&file, MAX_CONFIG)?;
    let config = Config::read(&file)?;
    entry.tell_config(&config);
    models::find(&config)?;
    config.quantization()?;
    check_rope(&config)?;
    if listing.has(checkpoint::INDEX) {
        check_file(&folder.join(checkpoint::INDEX), MAX_INDEX)?;
    }
    let mut bytes = 0;
    for file in checkpoint::files(&folder)? {
        bytes += check_file(&file, u64::MAX)?;
    }
    entry.weight_bytes = bytes;
    check_file(&folder.join("tokenizer.json"), u64::MAX).map(drop)
}

/// Whether positions are stretched in a known way, wherever config.json says so.
fn check_rope(config: &Config) -> Result<()> {
    let nested = config.get("text_config").and_then(Value::as_object);
    let top = config.json().as_object();
    let keys = ["rope_scaling", "rope_parameters"];
    let given = [top, nested].into_iter().flatten().flat_map(|json| keys.map(|key| json.get(key)));
    let given: Vec<_> = given.flatten().filter_map(Value::as_object).collect();
    // Some have one for each kind of layers.
    let of_layers = given.iter().flat_map(|json| json.values()).filter_map(Value::as_object);
    for json in given.iter().copied().chain(of_layers) {
        // What is malformed is for loading to tell.
        if let Ok(scaling) = RopeScaling::deserialize(json) {
            scaling.check_kind()?;
        }
    }
    Ok(())
}

/// The size of a file, which must be one: opening a pipe would wait for ever.
fn check_file(file: &Path, largest: u64) -> Result<u64> {
    let metadata = fs::metadata(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::NotFound(format!("{}: not there", file.display())),
        _ => Error::bad_file(file, error),
    })?;
    match metadata.len() {
        _ if !metadata.is_file() => Err(Error::bad_file(file, "not a file")),
        bytes if bytes > largest => {
            Err(Error::bad_file(file, format!("expected {largest} bytes at most, it has {bytes}")))
        }
        bytes => Ok(bytes),
    }
}

impl ModelEntry {
    /// What config.json says, where it makes sense; multimodal models say some of it in `text_config`.
    fn tell_config(&mut self, config: &Config) {
        let get = |key: &str| config.get(key).or_else(|| config.get("text_config")?.get(key));
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_string();
        let number = |value: Option<&Value>| {
            value.and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok()).unwrap_or(0)
        };
        self.architecture = text(config.get("model_type"));
        self.dtype_name = text(get("torch_dtype").or_else(|| get("dtype")));
        self.dtype = [Dtype::F32, Dtype::F16, Dtype::BF16]
            .into_iter()
            .find(|dtype| dtype.to_string() == self.dtype_name);
        self.context_length = number(get("max_position_embeddings"));
        if let Some(ours) = config.get("quantization").filter(|json| json.is_object()) {
            self.quant_name = text(ours.get("mode").or(Some(&Value::from("affine"))));
            self.quant_bits = number(ours.get("bits"));
            self.quant_group = number(ours.get("group_size"));
        } else if let Some(other) = config.get("quantization_config") {
            self.quant_name = text(other.get("quant_method"));
            self.quant_bits = number(other.get("bits"));
            self.quant_group = number(other.get("group_size"));
        }
        if let Ok(QuantizationConfig { default: Some(default), .. }) = config.quantization() {
            self.quant_mode = Some(default.mode);
            (self.quant_bits, self.quant_group) = (default.bits as u32, default.group_size as u32);
        }
    }
}

/// A file whose name ends in `.gguf`; of a split model the first.
fn gguf_entry(file: &Path) -> ModelEntry {
    let mut entry = ModelEntry { path: file.to_path_buf(), ..Default::default() };
    let mut describe = || {
        entry.weight_bytes = check_file(file, u64::MAX)?;
        let model = gguf::Model::open(file)?;
        entry.weight_bytes = model.bytes();
        let config = model.config()?;
        entry.tell_config(&config);
        models::find(&config)?;
        check_rope(&config)?;
        model.check()
    };
    entry.problem = describe().err();
    entry
}

/// Whether a file continues a split model: `NAME-00002-of-00003.gguf`.
fn continues_split(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let number = || name.strip_suffix(".gguf")?.rsplit_once("-of-")?.0.rsplit_once('-').map(|(_, n)| n);
    number().is_some_and(|number| number.parse::<u32>().is_ok_and(|number| number > 1))
}

fn has_extension(name: &OsStr, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}
