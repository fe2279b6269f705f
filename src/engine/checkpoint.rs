//! A folder's safetensors files, checked before MLX reads them.

use crate::error::{Error, Result};
use crate::mlx::{Array, MappedFile, io};
use safetensors::SafeTensors;
use safetensors::tensor::Metadata;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// Tensors by name, each with the file it lies in.
pub(super) type Tensors = HashMap<String, (Array, PathBuf)>;

/// Says which file each tensor lies in.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// The tensors of a model folder, not yet read. `map`: they stay in the files, where MLX can use them
/// there.
pub(super) fn open(folder: &Path, map: bool) -> Result<Tensors> {
    let mut tensors = Tensors::new();
    for file in files(folder)? {
        add(&mut tensors, &file, map)?;
    }
    Ok(tensors)
}

/// The files that hold a model's weights, all of them there. The index says which belong to it where
/// there is one; otherwise all `model*.safetensors`, or whatever `.safetensors` there is.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let index = folder.join(INDEX);
    if !index.exists() {
        return single_files(folder);
    }
    let file = |name: String| {
        let path = folder.join(name);
        if path.exists() {
            return Ok(path);
        }
        let (path, index) = (path.display(), index.display());
        Err(Error::NotFound(format!("{path}: not there, but {index} names it")))
    };
    shards(&index)?.into_iter().map(file).collect()
}

fn shards(index: &Path) -> Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(index).map_err(|error| Error::bad_file(index, error))?;
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| Error::bad_file(index, error))?;
    let map = json.get("weight_map").and_then(|map| map.as_object());
    let map = map.ok_or_else(|| Error::bad_file(index, "`weight_map`: expected an object"))?;
    map.iter()
        .map(|(tensor, file)| match file.as_str() {
            // A name that leaves the folder would read files that are none of the model's.
            Some(file) if Path::new(file).file_name().is_some_and(|name| name == file) => {
                Ok(file.to_string())
            }
            _ => Err(Error::bad_file(index, format!("`weight_map.{tensor}`: expected a file name"))),
        })
        .collect()
}

fn single_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)
        .map_err(|error| Error::NotFound(format!("{}: {error}", folder.display())))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    keep_weights(&mut files, |path| path.file_name()?.to_str());
    if files.is_empty() {
        return Err(Error::NotFound(format!("{}: holds no .safetensors file", folder.display())));
    }
    files.sort();
    Ok(files)
}

/// Keeps those of a folder's files that hold the weights where no index says which do: some repositories
/// have the same weights in other files too.
pub(super) fn keep_weights<T>(files: &mut Vec<T>, name: impl Fn(&T) -> Option<&str>) {
    files.retain(|file| name(file).is_some_and(|name| name.ends_with(".safetensors")));
    let is_model = |file: &T| name(file).is_some_and(|name| name.starts_with("model"));
    if files.iter().any(is_model) {
        files.retain(is_model);
    }
}

fn add(tensors: &mut Tensors, file: &Path, map: bool) -> Result<()> {
    let mapped = MappedFile::open(file)?;
    let (data, metadata) = checked_header(file, mapped.bytes())?;
    for (name, mut array) in io::load_safetensors(file)? {
        if let Some(info) = metadata.info(&name).filter(|_| map) {
            let (begin, end) = info.data_offsets;
            array = mapped.array(data + begin..data + end, &array)?.unwrap_or(array);
        }
        tensors.insert(name, (array, file.to_path_buf()));
    }
    Ok(())
}

/// Where the data begin, and what they are. Tensors are read when they are first used, and the header is
/// trusted until then: a truncated or forged file must be found out now.
fn checked_header(file: &Path, bytes: &[u8]) -> Result<(usize, Metadata)> {
    let (header_len, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| {
        Error::bad_file(file, format!("not a safetensors file, or its header is broken: {error}"))
    })?;
    // read_metadata checks that tensors are contiguous, but not that the file holds them all.
    let data_len = bytes.len().saturating_sub(header_len + 8);
    let past_end = metadata.tensors().into_iter().filter(|(_, info)| info.data_offsets.1 > data_len);
    if let Some((name, info)) = past_end.min_by_key(|(_, info)| info.data_offsets.0) {
        return Err(Error::bad_file(
            file,
            format!(
                "truncated: tensor `{name}` ends at byte {} of the data, the file has {data_len}",
                info.data_offsets.1
            ),
        ));
    }
    Ok((header_len + 8, metadata))
}
