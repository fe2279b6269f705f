//! Writing safetensors files, one tensor in memory at a time, in the layout that mlx-lm writes.

use crate::error::{Error, Result};
use crate::mlx::{Array, Dtype};
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// A tensor to be written, not yet computed.
pub(super) struct Tensor {
    pub name: String,
    pub array: Array,
}

/// Writes `model.safetensors`, or several of at most `shard_bytes` with one tensor at least, and their
/// index. `progress` is told bytes written, from 0 on, and in all; false stops.
pub(super) fn write(
    folder: &Path,
    tensors: Vec<Tensor>,
    shard_bytes: usize,
    parameters: u64,
    progress: &dyn Fn(u64, u64) -> bool,
) -> Result<()> {
    let total: u64 = tensors.iter().map(|tensor| tensor.array.nbytes() as u64).sum();
    let shards = cut(tensors, shard_bytes);
    let count = shards.len();
    let (mut done, mut index) = (0, Map::new());
    if !progress(0, total) {
        return Err(Error::Cancelled);
    }
    for (number, shard) in (1..).zip(shards) {
        let name = match count {
            1 => "model.safetensors".to_string(),
            _ => format!("model-{number:05}-of-{count:05}.safetensors"),
        };
        index.extend(shard.iter().map(|tensor| (tensor.name.clone(), Value::from(name.clone()))));
        write_file(&folder.join(&name), shard, &mut |bytes| {
            done += bytes;
            progress(done, total)
        })?;
    }
    let metadata = json!({ "total_size": total, "total_parameters": parameters });
    let index = json!({ "metadata": metadata, "weight_map": index });
    write_json(&folder.join("model.safetensors.index.json"), &index)
}

fn cut(tensors: Vec<Tensor>, shard_bytes: usize) -> Vec<Vec<Tensor>> {
    let mut shards = vec![vec![]];
    let mut size = 0;
    for tensor in tensors {
        let bytes = tensor.array.nbytes();
        if size > 0 && size + bytes > shard_bytes {
            shards.push(vec![]);
            size = 0;
        }
        size += bytes;
        shards.last_mut().expect("never empty").push(tensor);
    }
    shards
}

fn write_file(path: &Path, tensors: Vec<Tensor>, wrote: &mut dyn FnMut(u64) -> bool) -> Result<()> {
    let failed = |error| io_error(path, error);
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    let mut header = header(&tensors)?;
    // Data begins at a multiple of 8 bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
    file.write_all(&header).map_err(failed)?;
    for tensor in tensors {
        tensor.array.with_bytes(|bytes| file.write_all(bytes))?.map_err(failed)?;
        if !wrote(tensor.array.nbytes() as u64) {
            return Err(Error::Cancelled);
        }
    }
    file.into_inner().map_err(|error| failed(error.into_error()))?.sync_all().map_err(failed)
}

fn header(tensors: &[Tensor]) -> Result<Vec<u8>> {
    let mut end = 0;
    let infos = tensors.iter().map(|Tensor { name, array }| {
        let start = end;
        end += array.nbytes();
        let shape = array.shape().iter().map(|&size| size as usize).collect();
        let dtype = format_of(array.dtype())?;
        Ok((name.clone(), TensorInfo { dtype, shape, data_offsets: (start, end) }))
    });
    let infos = infos.collect::<Result<Vec<_>>>()?;
    // mlx-lm takes only files that say so for its own.
    let origin = HashMap::from([("format".to_string(), "mlx".to_string())]);
    let metadata = Metadata::new(Some(origin), infos)
        .map_err(|error| Error::Internal(format!("a header that safetensors refuses: {error}")))?;
    serde_json::to_vec(&metadata).map_err(|error| Error::Internal(error.to_string()))
}

fn format_of(dtype: Dtype) -> Result<safetensors::Dtype> {
    use safetensors::Dtype as Format;
    Ok(match dtype {
        Dtype::Bool => Format::BOOL,
        Dtype::U8 => Format::U8,
        Dtype::U32 => Format::U32,
        Dtype::I32 => Format::I32,
        Dtype::F16 => Format::F16,
        Dtype::BF16 => Format::BF16,
        Dtype::F32 => Format::F32,
        Dtype::Other => return Err(Error::Internal("a tensor of a type that cannot be written".into())),
    })
}

/// Writes a JSON file as people like to read it.
pub(super) fn write_json(path: &Path, json: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(json).map_err(|error| Error::Internal(error.to_string()))?;
    std::fs::write(path, text + "\n").map_err(|error| io_error(path, error))
}

/// What the system says about a file that is being written.
pub(super) fn io_error(path: &Path, error: std::io::Error) -> Error {
    Error::Io(format!("{}: {error}", path.display()))
}
