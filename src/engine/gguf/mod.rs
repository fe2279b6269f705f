//! Models in GGUF, llama.cpp's format: one file, or several that were split, holds configuration,
//! weights, tokenizer and chat template. Q4_0, Q4_1 and Q8_0 become MLX's quantisation of the same values;
//! all other blocks are decoded to dense matrices.

mod architecture;
mod blocks;
mod config;
mod reader;
mod source;
mod tokenizer;
mod weights;

pub use config::config;
pub use reader::{Gguf, List, Tensor, Value};
pub use tokenizer::tokenizer;

use super::checkpoint::Tensors;
use super::{ChatTemplate, Tokenizer};
use crate::error::{Error, Result};
use crate::mlx::{Dtype, io};
use crate::models::Config;
use memmap2::Mmap;
use source::Converted;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whether a path is a GGUF file, by name or by its first bytes.
fn is_gguf(path: &Path) -> bool {
    let by_name = || path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    let by_magic = || {
        let mut magic = [0; 4];
        File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"GGUF"
    };
    path.is_file() && (by_name() || by_magic())
}

/// Five digits number the files of a split model.
const MAX_FILES: i32 = 99_999;

/// An opened model.
pub(super) struct Model {
    /// It has the metadata.
    first: Parsed,
    others: Vec<Parsed>,
}

self_cell::self_cell!(
    /// A file and what its header says, which is parsed once: names and texts lie in the file.
    struct Parsed {
        owner: Mapped,
        #[covariant]
        dependent: Gguf,
    }
);

impl Parsed {
    fn open(path: PathBuf) -> Result<Self> {
        Parsed::try_new(Mapped::open(path)?, |mapped| Gguf::parse(&mapped.path, &mapped.map))
    }

    fn mapped(&self) -> &Mapped {
        self.borrow_owner()
    }

    fn gguf(&self) -> &Gguf<'_> {
        self.borrow_dependent()
    }
}

struct Mapped {
    path: PathBuf,
    file: File,
    map: Mmap,
}

impl Mapped {
    fn open(path: PathBuf) -> Result<Self> {
        if !path.is_file() {
            return Err(Error::NotFound(format!("{}: no such file", path.display())));
        }
        let file = File::open(&path).map_err(|error| Error::bad_file(&path, error))?;
        // SAFETY: only headers are read through it, while the model is loaded. If another process truncates
        // the file in this moment the access faults; a model's files are not written while it is loaded.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| Error::bad_file(&path, error))?;
        Ok(Mapped { path, file, map })
    }

    /// A tensor's values. For small ones: they are read through the mapping.
    fn floats(&self, tensor: &Tensor) -> Vec<f32> {
        let mut values = vec![];
        let (begin, end) = (tensor.offset as usize, (tensor.offset + tensor.bytes) as usize);
        tensor.format.decode(self.map.get(begin..end).unwrap_or_default(), &mut values);
        values
    }
}

/// What went wrong when MLX read tensors.
#[derive(Default)]
pub(super) struct Reading(Vec<(PathBuf, Arc<Converted>)>);

impl Reading {
    /// To be asked when all is evaluated.
    pub fn check(&self) -> Result<()> {
        let failure = self.0.iter().find_map(|(path, file)| Some((path, file.failure()?)));
        failure.map_or(Ok(()), |(path, error)| Err(Error::bad_file(path, error)))
    }
}

impl Model {
    /// Opens the file, and the others of a split model, which must lie beside it.
    pub fn open(path: &Path) -> Result<Self> {
        let first = Parsed::open(path.to_path_buf())?;
        let others = other_files(first.gguf())?.into_iter().map(Parsed::open).collect::<Result<_>>()?;
        Ok(Model { first, others })
    }

    /// Opens what is a GGUF file.
    pub fn open_if(path: &Path) -> Result<Option<Self>> {
        is_gguf(path).then(|| Self::open(path)).transpose()
    }

    /// The size of its files.
    pub fn bytes(&self) -> u64 {
        self.files().map(|file| file.mapped().map.len() as u64).sum()
    }

    /// What config.json would say.
    pub fn config(&self) -> Result<Config> {
        let tensors: Vec<_> = self.files().flat_map(|file| file.gguf().tensors()).collect();
        let factors = self.files().find_map(|file| {
            let tensor = file.gguf().tensors().iter().find(|tensor| tensor.name == config::ROPE_FACTORS);
            Some(file.mapped().floats(tensor?))
        });
        config::config(self.first.gguf(), &tensors, factors)
    }

    /// What the headers have that loading would refuse: tensors that the architecture does not know, and
    /// tokenizers of other kinds.
    pub fn check(&self) -> Result<()> {
        let architecture = config::architecture(self.first.gguf())?;
        self.files().try_for_each(|file| weights::parts(file.gguf(), architecture, Dtype::F32).map(drop))?;
        tokenizer::check(self.first.gguf())
    }

    /// Its tensors by Hugging Face's names, not yet read. `dtype`: of all but packed weights; `None`: the
    /// file's own, or float16 for blocks of integers (bfloat16 for Gemma, which leaves float16's range).
    pub fn tensors(&self, dtype: Option<Dtype>) -> Result<(Tensors, Reading)> {
        let architecture = config::architecture(self.first.gguf())?;
        let all = self.files().flat_map(|file| file.gguf().tensors());
        let dtype = dtype.unwrap_or_else(|| weights::own_dtype(all, architecture));
        let (mut tensors, mut reading) = (Tensors::new(), Reading::default());
        for file in self.files() {
            let mapped = file.mapped();
            let parts = weights::parts(file.gguf(), architecture, dtype)?;
            let file = mapped.file.try_clone().map_err(|error| Error::bad_file(&mapped.path, error))?;
            let converted = Arc::new(Converted::new(file, parts));
            for (name, array) in io::load_safetensors_from(converted.clone(), &mapped.path)? {
                if tensors.insert(name.clone(), (array, mapped.path.clone())).is_some() {
                    return Err(Error::bad_file(&mapped.path, format!("tensor `{name}` is in two files")));
                }
            }
            reading.0.push((mapped.path.clone(), converted));
        }
        Ok((tensors, reading))
    }

    /// Chat template, if there is one, and tokenizer.
    pub fn text(&self) -> Result<(Option<ChatTemplate>, Tokenizer)> {
        let gguf = self.first.gguf();
        let tokenizer = tokenizer::tokenizer(gguf)?;
        let template = match gguf.text("tokenizer.chat_template")? {
            None => None,
            Some(source) => Some(
                ChatTemplate::compile(source, tokenizer.special_tokens().clone())
                    .map_err(|error| Error::bad_file(gguf.file(), error))?,
            ),
        };
        Ok((template, tokenizer))
    }

    fn files(&self) -> impl Iterator<Item = &Parsed> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

/// The files beside the first of a split model, by llama.cpp's names: NAME-00001-of-00003.gguf.
fn other_files(gguf: &Gguf) -> Result<Vec<PathBuf>> {
    let count = gguf.int("split.count")?.unwrap_or(1);
    if count <= 1 {
        return Ok(vec![]);
    }
    let path = gguf.file();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let ending = format!("-00001-of-{count:05}.gguf");
    let Some(prefix) = name.strip_suffix(&ending).filter(|_| count <= MAX_FILES) else {
        return Err(Error::bad_file(
            path,
            format!("`split.count` is {count}: expected the first of the files, whose name ends in {ending}"),
        ));
    };
    Ok((2..=count)
        .map(|number| path.with_file_name(format!("{prefix}-{number:05}-of-{count:05}.gguf")))
        .collect())
}
