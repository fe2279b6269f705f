//! Sessions in files: safetensors, with tokens and caches as tensors and what they are as metadata.

use super::context::Context;
use super::safetensors_writer::{Tensor, io_error, write_file};
use crate::error::{Error, Result};
use crate::mlx::{Array, Dtype, io, ops};
use crate::models::Model;
use crate::nn::{Cache, CacheMeta, CacheOptions};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The key of the metadata, and in it what this version writes.
const KEY: &str = "mlxrt_session";
const VERSION: u32 = 1;
/// The name of the tokens.
const IDS: &str = "ids";
/// No header is larger.
const MAX_HEADER: u64 = 100 << 20;

#[derive(Serialize, Deserialize)]
struct Description {
    version: u32,
    /// Of the model.
    fingerprint: String,
    /// How many tokens the caches have seen.
    seen: usize,
    options: CacheOptions,
    caches: Vec<CacheMeta>,
}

/// Writes a context; the file appears when it is complete.
pub(super) fn write(path: &Path, context: &Context, fingerprint: &str) -> Result<()> {
    let ids = Array::from_i32(&context.ids, &[context.ids.len() as i32])?;
    let mut tensors = vec![Tensor { name: IDS.into(), array: ids }];
    let mut caches = vec![];
    for (layer, cache) in context.caches.iter().enumerate() {
        caches.push(cache.meta());
        let named = |(name, array)| Tensor { name: format!("{layer}.{name}"), array };
        tensors.extend(cache.arrays()?.into_iter().map(named));
    }
    let description = Description {
        version: VERSION,
        fingerprint: fingerprint.into(),
        seen: context.seen,
        options: context.options(),
        caches,
    };
    let text = serde_json::to_string(&description).map_err(|error| Error::Internal(error.to_string()))?;
    let metadata = HashMap::from([(KEY.to_string(), text)]);
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = Path::new(&part);
    let written = write_file(part, tensors, metadata, &mut |_| true)
        .and_then(|()| std::fs::rename(part, path).map_err(|error| io_error(path, error)));
    if written.is_err() {
        let _ = std::fs::remove_file(part);
    }
    written
}

/// Reads a context of the model with this fingerprint.
pub(super) fn read(
    path: &Path,
    model: &dyn Model,
    options: CacheOptions,
    fingerprint: &str,
) -> Result<Context> {
    let bad = |what: String| Error::bad_file(path, what);
    let description = description(path)?;
    if description.version != VERSION {
        return Err(bad(format!("`{KEY}.version` is {}, expected {VERSION}", description.version)));
    }
    if description.fingerprint != fingerprint {
        return Err(bad(format!(
            "a session of another model: `{KEY}.fingerprint` is {:?}, expected {fingerprint:?}",
            description.fingerprint
        )));
    }
    if description.options != options {
        return Err(bad(format!(
            "the model was loaded with other cache options: `{KEY}.options` is {:?}, expected {options:?}",
            description.options
        )));
    }
    let mut arrays = io::load_safetensors(path)?;
    let ids = read_ids(&mut arrays, path, model.dims().vocab_size)?;
    let seen = description.seen;
    if seen > ids.len() {
        return Err(bad(format!("`{KEY}.seen` is {seen}, expected at most {}", ids.len())));
    }
    let empty = Context::new(model, options)?;
    if description.caches.len() != empty.caches.len() {
        let (found, wanted) = (description.caches.len(), empty.caches.len());
        return Err(bad(format!("`{KEY}.caches` has {found} entries, expected {wanted}")));
    }
    let mut caches = vec![];
    for (layer, (saved, empty)) in description.caches.iter().zip(&empty.caches).enumerate() {
        let prefix = format!("{layer}.");
        let own = arrays.iter().filter_map(|(name, array)| {
            name.strip_prefix(&prefix).map(|name| (name.to_string(), array.clone()))
        });
        let mut own: Vec<_> = own.collect();
        own.sort_by(|(a, _), (b, _)| a.cmp(b));
        let wrong = |error: Error| bad(format!("layer {layer}: {error}"));
        let cache = Cache::restore(saved, own).map_err(wrong)?;
        empty.expect_like(&cache).map_err(wrong)?;
        if cache.offset() != seen as i32 {
            return Err(bad(format!("layer {layer} has seen {} tokens, expected {seen}", cache.offset())));
        }
        caches.push(cache);
    }
    Ok(Context::restore(ids, seen, caches, options))
}

/// The tokens of a file, without its caches, if it belongs to this model and these options.
pub(super) fn peek(
    path: &Path,
    model: &dyn Model,
    options: CacheOptions,
    fingerprint: &str,
) -> Result<Option<Vec<i32>>> {
    let description = description(path)?;
    let fits = description.fingerprint == fingerprint && description.options == options;
    if !fits || description.version != VERSION {
        return Ok(None);
    }
    read_ids(&mut io::load_safetensors(path)?, path, model.dims().vocab_size).map(Some)
}

fn read_ids(arrays: &mut HashMap<String, Array>, path: &Path, vocabulary: i32) -> Result<Vec<i32>> {
    let bad = |what: String| Error::bad_file(path, what);
    let ids = arrays.remove(IDS).ok_or_else(|| bad(format!("no tensor `{IDS}`")))?;
    if ids.dtype() != Dtype::I32 || ids.shape().len() != 1 {
        return Err(bad(format!("`{IDS}` is not a row of int32")));
    }
    let ids = ops::view(&ids, Dtype::U8)?.with_bytes(|bytes| {
        let (words, _) = bytes.as_chunks::<4>();
        words.iter().map(|word| i32::from_ne_bytes(*word)).collect::<Vec<_>>()
    })?;
    match ids.iter().find(|id| !(0..vocabulary).contains(*id)) {
        Some(id) => Err(bad(format!("`{IDS}` holds {id}, expected 0 to {}", vocabulary - 1))),
        None => Ok(ids),
    }
}

fn description(path: &Path) -> Result<Description> {
    let bad = |what: String| Error::bad_file(path, what);
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::NotFound(format!("{}: {error}", path.display())));
        }
        Err(error) => return Err(io_error(path, error)),
    };
    let mut length = [0; 8];
    let cut = |error: std::io::Error| bad(format!("not a session file: {error}"));
    file.read_exact(&mut length).map_err(cut)?;
    let length = u64::from_le_bytes(length);
    let size = file.metadata().map_err(|error| io_error(path, error))?.len();
    if length > MAX_HEADER.min(size) {
        return Err(bad(format!("not a session file: a header of {length} bytes")));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(cut)?;
    let not_json = |error: serde_json::Error| bad(format!("not a session file: {error}"));
    let header: serde_json::Value = serde_json::from_slice(&header).map_err(not_json)?;
    let text = header.get("__metadata__").and_then(|metadata| metadata.get(KEY)?.as_str());
    let text = text.ok_or_else(|| bad(format!("not a session file: no `{KEY}` in its metadata")))?;
    serde_json::from_str(text).map_err(|error| bad(format!("`{KEY}`: {error}")))
}
