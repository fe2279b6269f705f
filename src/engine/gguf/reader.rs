//! The container: header, metadata and tensor table of a GGUF file (the specification is ggml's
//! docs/gguf.md). Nothing is copied: names, texts and arrays are parts of the file's bytes.

use super::blocks::Format;
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A parsed file.
pub struct Gguf<'a> {
    file: PathBuf,
    metadata: HashMap<&'a str, Value<'a>>,
    tensors: Vec<Tensor<'a>>,
}

/// A value of the metadata.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// Any unsigned or signed integer.
    Int(i128),
    /// float32 or float64.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A text.
    Text(&'a str),
    /// A list of one kind of values.
    List(List<'a>),
}

/// A list of values, decoded as it is walked through.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct List<'a> {
    kind: u32,
    len: u64,
    bytes: &'a [u8],
}

impl<'a> List<'a> {
    /// Its values in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let (mut cursor, kind) = (Cursor { bytes: self.bytes, position: 0 }, self.kind);
        // The parser went through all of them, so none fails.
        (0..self.len).map_while(move |_| cursor.value(kind).ok())
    }
}

/// An entry of the tensor table, with its data found to be inside the file.
#[derive(Debug, Clone)]
pub struct Tensor<'a> {
    /// Its name.
    pub name: &'a str,
    /// How the data is stored.
    pub format: Format,
    /// Rows before columns, as everybody but ggml has it.
    pub shape: Vec<i32>,
    /// Where the data begins in the file.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
}

impl Tensor<'_> {
    /// Values in a row.
    pub fn columns(&self) -> usize {
        self.shape.last().map_or(1, |&columns| columns as usize)
    }
}

const MAGIC: &[u8] = b"GGUF";
/// ggml's own limit.
const MAX_AXES: u32 = 4;
const LIST: u32 = 9;

impl<'a> Gguf<'a> {
    /// Parses a whole file's `bytes`; `file` names it in messages. Every length and offset is checked, and
    /// no more is allocated than a small multiple of what the table of tensors takes in the file.
    pub fn parse(file: &Path, bytes: &'a [u8]) -> Result<Self> {
        parse(file, bytes).map_err(|what| Error::bad_file(file, what))
    }

    /// Where it was read from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The table of tensors.
    pub fn tensors(&self) -> &[Tensor<'a>] {
        &self.tensors
    }

    /// An error about one key.
    pub fn bad(&self, key: &str, expected: impl std::fmt::Display) -> Error {
        Error::bad_file(&self.file, format!("`{key}`: expected {expected}"))
    }

    /// A value of any kind.
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        self.metadata.get(key).copied()
    }

    /// A size, a count or an id: from 0 to 2^31 - 1.
    pub fn int(&self, key: &str) -> Result<Option<i32>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Int(value)) if (0..=i32::MAX.into()).contains(&value) => Ok(Some(value as i32)),
            Some(_) => Err(self.bad(key, format!("a number from 0 to {}", i32::MAX))),
        }
    }

    /// A finite number.
    pub fn float(&self, key: &str) -> Result<Option<f32>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Float(value)) if (value as f32).is_finite() => Ok(Some(value as f32)),
            Some(Value::Int(value)) => Ok(Some(value as f32)),
            Some(_) => Err(self.bad(key, "a finite number")),
        }
    }

    /// A truth value.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(_) => Err(self.bad(key, "true or false")),
        }
    }

    /// A text.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(value)) => Ok(Some(value)),
            Some(_) => Err(self.bad(key, "a text")),
        }
    }

    /// A list of texts.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>> {
        let text = |value| if let Value::Text(text) = value { Some(text) } else { None };
        self.list(key, "a list of texts", text)
    }

    /// A list of integers.
    pub fn ints(&self, key: &str) -> Result<Option<Vec<i128>>> {
        let int = |value| if let Value::Int(int) = value { Some(int) } else { None };
        self.list(key, "a list of integers", int)
    }

    /// A list of numbers.
    pub fn floats(&self, key: &str) -> Result<Option<Vec<f32>>> {
        let float = |value| if let Value::Float(float) = value { Some(float as f32) } else { None };
        self.list(key, "a list of floating-point numbers", float)
    }

    fn list<T>(
        &self,
        key: &str,
        expected: &str,
        each: impl Fn(Value<'a>) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::List(list)) => {
                let values = list.iter().map(each).collect::<Option<_>>();
                values.map(Some).ok_or_else(|| self.bad(key, expected))
            }
            Some(_) => Err(self.bad(key, expected)),
        }
    }
}

fn parse<'a>(file: &Path, bytes: &'a [u8]) -> std::result::Result<Gguf<'a>, String> {
    let mut cursor = Cursor { bytes, position: 0 };
    if cursor.take(4).ok() != Some(MAGIC) {
        return Err("not a GGUF file: it does not begin with \"GGUF\"".into());
    }
    let version = cursor.u32()?;
    match version {
        2 | 3 => {}
        _ if matches!(version.swap_bytes(), 1..=3) => return Err("big-endian GGUF is not supported".into()),
        _ => return Err(format!("GGUF version {version}; known are 2 and 3")),
    }
    let (tensor_count, metadata_count) = (cursor.u64()?, cursor.u64()?);

    let mut metadata = HashMap::new();
    for index in 0..metadata_count {
        let key =
            cursor.text().map_err(|what| format!("metadata key {index} of {metadata_count}: {what}"))?;
        let value = cursor.u32().and_then(|kind| cursor.value(kind));
        let value = value.map_err(|what| format!("`{key}`: {what}"))?;
        if metadata.insert(key, value).is_some() {
            return Err(format!("`{key}`: stands there twice"));
        }
    }
    let alignment = match metadata.get("general.alignment") {
        None => 32,
        Some(Value::Int(value)) if (1..=1 << 20).contains(value) && value.count_ones() == 1 => *value as u64,
        Some(_) => return Err("`general.alignment`: expected a power of two".into()),
    };

    let mut tensors = vec![];
    for index in 0..tensor_count {
        let name = cursor.text().map_err(|what| format!("tensor {index} of {tensor_count}: {what}"))?;
        tensors.push(cursor.tensor(name, alignment).map_err(|what| format!("tensor `{name}`: {what}"))?);
    }
    let data = (cursor.position as u64).next_multiple_of(alignment);
    for tensor in &mut tensors {
        let begin = data.checked_add(tensor.offset);
        let end = begin.and_then(|begin| begin.checked_add(tensor.bytes));
        let (Some(begin), Some(end)) = (begin, end) else {
            return Err(format!("tensor `{}`: its offset is {}", tensor.name, tensor.offset));
        };
        if end > bytes.len() as u64 {
            return Err(format!(
                "truncated: tensor `{}` ends at byte {end}, the file has {}",
                tensor.name,
                bytes.len()
            ));
        }
        tensor.offset = begin;
    }
    check_apart(&tensors)?;
    Ok(Gguf { file: file.to_path_buf(), metadata, tensors })
}

/// Tensors that share names or bytes would let a small file ask for much memory.
fn check_apart(tensors: &[Tensor]) -> std::result::Result<(), String> {
    let mut sorted: Vec<_> = tensors.iter().collect();
    sorted.sort_by_key(|tensor| tensor.offset);
    for pair in sorted.windows(2) {
        if let [a, b] = pair
            && a.offset + a.bytes > b.offset
        {
            return Err(format!("tensors `{}` and `{}` overlap", a.name, b.name));
        }
    }
    sorted.sort_by_key(|tensor| tensor.name);
    match sorted.windows(2).find(|pair| pair[0].name == pair[1].name) {
        Some(pair) => Err(format!("tensor `{}` stands there twice", pair[0].name)),
        None => Ok(()),
    }
}

/// Reads on through bytes; everything that would go past their end is an error.
struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

type Read<T> = std::result::Result<T, String>;

impl<'a> Cursor<'a> {
    fn take(&mut self, length: u64) -> Read<&'a [u8]> {
        let end = usize::try_from(length).ok().and_then(|length| self.position.checked_add(length));
        let part = end.and_then(|end| Some((end, self.bytes.get(self.position..end)?)));
        let (end, part) = part.ok_or_else(|| {
            format!(
                "truncated: {length} bytes wanted at byte {}, the file has {}",
                self.position,
                self.bytes.len()
            )
        })?;
        self.position = end;
        Ok(part)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let part = self.take(N as u64)?;
        part.try_into().map_err(|_| "truncated".to_string())
    }

    fn u32(&mut self) -> Read<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Read<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Read<&'a str> {
        let length = self.u64()?;
        std::str::from_utf8(self.take(length)?).map_err(|_| "not UTF-8".to_string())
    }

    fn value(&mut self, kind: u32) -> Read<Value<'a>> {
        Ok(match kind {
            0 => Value::Int(u8::from_le_bytes(self.array()?).into()),
            1 => Value::Int(i8::from_le_bytes(self.array()?).into()),
            2 => Value::Int(u16::from_le_bytes(self.array()?).into()),
            3 => Value::Int(i16::from_le_bytes(self.array()?).into()),
            4 => Value::Int(self.u32()?.into()),
            5 => Value::Int(i32::from_le_bytes(self.array()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array()?).into()),
            7 => Value::Bool(self.array::<1>()? != [0]),
            8 => Value::Text(self.text()?),
            LIST => Value::List(self.list()?),
            10 => Value::Int(self.u64()?.into()),
            11 => Value::Int(i64::from_le_bytes(self.array()?).into()),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            _ => return Err(format!("metadata of the unknown kind {kind}")),
        })
    }

    fn list(&mut self) -> Read<List<'a>> {
        let (kind, len) = (self.u32()?, self.u64()?);
        let begin = self.position;
        let width = match kind {
            0 | 1 | 7 => Some(1),
            2 | 3 => Some(2),
            4..=6 => Some(4),
            10..=12 => Some(8),
            8 => None,
            LIST => return Err("lists of lists are not supported".into()),
            _ => return Err(format!("a list of the unknown kind {kind}")),
        };
        match width {
            Some(width) => {
                let length = len.checked_mul(width).ok_or_else(|| format!("a list of {len} values"))?;
                self.take(length)?;
            }
            // Each takes bytes, so a forged length ends with the file.
            None => (0..len).try_for_each(|_| self.text().map(drop))?,
        }
        let bytes = self.bytes.get(begin..self.position).unwrap_or_default();
        Ok(List { kind, len, bytes })
    }

    fn tensor(&mut self, name: &'a str, alignment: u64) -> Read<Tensor<'a>> {
        let axes = self.u32()?;
        if !(1..=MAX_AXES).contains(&axes) {
            return Err(format!("{axes} axes; expected 1 to {MAX_AXES}"));
        }
        let mut shape = vec![];
        for _ in 0..axes {
            let size = self.u64()?;
            match i32::try_from(size) {
                Ok(size @ 1..) => shape.insert(0, size),
                _ => return Err(format!("an axis of size {size}")),
            }
        }
        let id = self.u32()?;
        let format = Format::find(id).ok_or_else(|| {
            let known: Vec<_> = Format::ALL.iter().map(|format| format.name).collect();
            format!("stored in format {}; known are {}", Format::name_of(id), known.join(", "))
        })?;
        let offset = self.u64()?;
        if offset % alignment != 0 {
            return Err(format!("its offset {offset} is no multiple of the alignment {alignment}"));
        }
        let (columns, block) = (shape.last().map_or(1, |&size| size as u64), format.block as u64);
        if columns % block != 0 {
            return Err(format!(
                "rows of {columns} values do not divide into {}'s blocks of {block}",
                format.name
            ));
        }
        let values = shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size as u64));
        let bytes = values.and_then(|values| (values / block).checked_mul(format.bytes as u64));
        let bytes = bytes.ok_or_else(|| format!("its shape is {shape:?}"))?;
        Ok(Tensor { name, format, shape, offset, bytes })
    }
}
