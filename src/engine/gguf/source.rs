//! The tensors of a GGUF file as MLX and the models have them, converted while MLX reads them: to MLX
//! they lie in a safetensors file. So each is read when it is evaluated, straight into its own memory.

use super::blocks::Format;
use crate::mlx::{Dtype, io};
use half::{bf16, f16};
use parking_lot::Mutex;
use serde_json::{Map, json};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

/// What is read of the file at once, about.
const CHUNK: usize = 1 << 18;

/// A tensor to be.
pub(super) struct Part {
    pub name: String,
    pub shape: Vec<usize>,
    pub dtype: Dtype,
    pub content: Content,
    pub stored: Stored,
}

/// What of the stored values it holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Content {
    Values,
    /// Less one: Gemma's norms, which GGUF stores with one added.
    LessOne,
    /// Of an affine format, as MLX has it.
    Packed,
    Scales,
    Biases,
}

/// Where and how the values lie in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored {
    pub format: Format,
    pub offset: u64,
    pub bytes: u64,
}

/// The made-up safetensors file.
pub(super) struct Converted {
    file: File,
    /// Length and text of the header.
    header: Vec<u8>,
    /// In the order of their offsets, which the header gives.
    parts: Vec<(usize, Part)>,
    size: usize,
    failure: Mutex<Option<std::io::Error>>,
}

impl Converted {
    pub fn new(file: File, parts: Vec<Part>) -> Self {
        let mut header = Map::new();
        let mut end = 0usize;
        let mut ends = vec![];
        for part in &parts {
            let begin = end;
            end = begin.saturating_add(part.bytes());
            let dtype = match part.dtype {
                Dtype::F16 => "F16",
                Dtype::BF16 => "BF16",
                Dtype::U32 => "U32",
                _ => "F32",
            };
            header.insert(
                part.name.clone(),
                json!({"dtype": dtype, "shape": part.shape, "data_offsets": [begin, end]}),
            );
            ends.push(end);
        }
        let text = serde_json::Value::Object(header).to_string();
        let mut header = (text.len() as u64).to_le_bytes().to_vec();
        header.extend(text.as_bytes());
        let begins = std::iter::once(0).chain(ends).map(|begin| begin.saturating_add(header.len()));
        let parts = begins.zip(parts).collect();
        let size = end.saturating_add(header.len());
        Converted { file, header, parts, size, failure: Mutex::new(None) }
    }

    /// The first error of reading, if there was one; then tensors hold zeros.
    pub fn failure(&self) -> Option<std::io::Error> {
        self.failure.lock().take()
    }

    fn write(&self, offset: usize, length: usize, out: &mut dyn Write) -> std::io::Result<()> {
        if let Some(header) = self.header.get(offset..).filter(|rest| !rest.is_empty()) {
            return out.write_all(header.get(..length).unwrap_or(header));
        }
        let index = self.parts.binary_search_by_key(&offset, |(begin, _)| *begin);
        let part = index.ok().and_then(|index| self.parts.get(index)).map(|(_, part)| part);
        match part.filter(|part| part.bytes() == length) {
            Some(part) => part.write(&self.file, out),
            None => Err(std::io::Error::other("MLX asked for a part of a tensor")),
        }
    }
}

impl io::Source for Converted {
    fn size(&self) -> usize {
        self.size
    }

    fn copy(&self, offset: usize, length: usize, out: &mut dyn Write) {
        if let Err(error) = self.write(offset, length, out) {
            self.failure.lock().get_or_insert(error);
        }
    }
}

impl Part {
    fn bytes(&self) -> usize {
        let width = if matches!(self.dtype, Dtype::F16 | Dtype::BF16) { 2 } else { 4 };
        self.shape.iter().fold(width, |bytes, &size| bytes.saturating_mul(size))
    }

    /// Reads, converts and hands on, a chunk of whole blocks at a time.
    fn write(&self, file: &File, out: &mut dyn Write) -> std::io::Result<()> {
        let Stored { format, offset, bytes } = self.stored;
        let chunk = CHUNK / format.bytes * format.bytes;
        let (mut stored, mut values, mut converted) = (vec![], vec![], vec![]);
        let mut done = 0;
        while done < bytes {
            let length = usize::try_from(bytes - done).unwrap_or(chunk).min(chunk);
            stored.resize(length, 0);
            file.read_exact_at(&mut stored, offset + done)?;
            done += length as u64;
            values.clear();
            converted.clear();
            self.convert(&stored, &mut values, &mut converted);
            out.write_all(&converted)?;
        }
        Ok(())
    }

    fn convert(&self, stored: &[u8], values: &mut Vec<f32>, out: &mut Vec<u8>) {
        let format = self.stored.format;
        let blocks = stored.chunks_exact(format.bytes);
        match (self.content, format.affine) {
            (Content::Values, _) if format.dtype == Some(self.dtype) => out.extend(stored),
            (Content::Values, _) => format.decode(stored, values),
            (Content::LessOne, _) => {
                format.decode(stored, values);
                values.iter_mut().for_each(|value| *value -= 1.0);
            }
            (Content::Packed, Some(affine)) => blocks.for_each(|block| {
                (affine.pack)(block, out);
            }),
            (Content::Scales, Some(affine)) => {
                values.extend(blocks.filter_map(affine.scale_and_bias).map(|(scale, _)| scale));
            }
            (Content::Biases, Some(affine)) => {
                values.extend(blocks.filter_map(affine.scale_and_bias).map(|(_, bias)| bias));
            }
            (_, None) => {}
        }
        match self.dtype {
            Dtype::F16 => out.extend(values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes())),
            Dtype::BF16 => out.extend(values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes())),
            _ => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::sync::Arc;

    /// Somebody cuts the file after its table was checked.
    #[test]
    fn a_read_that_fails_is_remembered() {
        let path = std::env::temp_dir().join(format!("mlxrt-cut-{}.gguf", std::process::id()));
        std::fs::write(&path, [0x3c; 100]).unwrap();
        let part = |name: &str, offset| Part {
            name: name.into(),
            shape: vec![16],
            dtype: Dtype::F32,
            content: Content::Values,
            stored: Stored { format: Format::find(1).unwrap(), offset, bytes: 32 },
        };
        let parts = vec![part("inside", 8), part("outside", 80)];
        let converted = Arc::new(Converted::new(File::open(&path).unwrap(), parts));
        std::fs::remove_file(&path).unwrap();
        let tensors = io::load_safetensors_from(converted.clone(), Path::new("cut.gguf")).unwrap();

        let inside = tensors["inside"].to_vec_f32().unwrap();
        assert_eq!(inside, [f16::from_le_bytes([0x3c, 0x3c]).to_f32(); 16]);
        assert!(converted.failure().is_none());
        assert_eq!(tensors["outside"].to_vec_f32().unwrap(), [0.0; 16]);
        assert_eq!(converted.failure().unwrap().kind(), std::io::ErrorKind::UnexpectedEof);
    }
}
