//! Named tensors on their way from a checkpoint into layers.

use super::linear::Matrix;
use crate::error::{Error, Result};
use crate::kernels;
use crate::mlx::ops::{self, QuantMode, Quantization, Quantized};
use crate::mlx::{Array, Dtype};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// `quantization` of config.json: one setting for all matrices, and exceptions by layer name.
#[derive(Debug, Clone, Default)]
pub struct QuantizationConfig {
    /// What holds where no exception does. `None`: the checkpoint is not quantised.
    pub default: Option<Quantization>,
    /// Exceptions.
    pub layers: HashMap<String, Quantization>,
}

/// The tensors of a checkpoint. Layers take theirs by name; shapes and types are checked here, so
/// that a broken file is an error that names tensor and file.
pub struct Weights {
    tensors: BTreeMap<String, (Array, PathBuf)>,
    /// Where a missing tensor was looked for.
    source: PathBuf,
    quantization: QuantizationConfig,
    /// What floating-point tensors are converted to; `None` keeps their own type.
    dtype: Option<Dtype>,
    /// Matrices keep their own type whatever `dtype` says: our kernels read any.
    keep_matrices: bool,
    interleave_matrices: bool,
    prefix: String,
    names: Option<fn(&str) -> String>,
    taken: Taken,
}

/// A matrix as it lay in the checkpoint.
#[derive(Debug)]
pub struct StoredMatrix {
    /// Its values, in the type of its scales if it was quantised.
    pub matrix: Array,
    quantization: Option<Quantization>,
    file: PathBuf,
}

/// What layers took from a checkpoint.
#[derive(Default)]
pub struct Taken {
    /// The tensors that layers hold, by name, not yet evaluated.
    pub tensors: Vec<(String, Array)>,
    /// The names of those that are dense matrices, without their ".weight".
    pub matrices: HashSet<String>,
    /// The names of those that are to be interleaved ([`kernels::interleave()`]) before layers compute.
    pub interleaved: HashSet<String>,
    /// Endings of the names of matrices that keep 8 bits when the others get fewer.
    pub precise: &'static [&'static str],
    /// What layers computed from their tensors and hold.
    pub derived: Vec<Array>,
    /// Parameters in them, counted before quantisation.
    pub parameters: u64,
    /// Tensors that no layer asked for: a vision tower, say.
    pub unused: usize,
}

impl Weights {
    /// Wraps tensors with the files they come from. `source` names the checkpoint in messages.
    pub fn new(
        tensors: HashMap<String, (Array, PathBuf)>,
        source: PathBuf,
        quantization: QuantizationConfig,
        dtype: Option<Dtype>,
    ) -> Self {
        Weights {
            tensors: tensors.into_iter().collect(),
            source,
            quantization,
            dtype,
            keep_matrices: false,
            interleave_matrices: false,
            prefix: String::new(),
            names: None,
            taken: Taken::default(),
        }
    }

    /// From here on the matrices of linear layers, experts and embeddings, and their scales, keep the type
    /// that they are stored in.
    pub fn keep_matrices(&mut self) {
        self.keep_matrices = true;
    }

    /// From here on quantised matrices that kernels compute with are taken to be interleaved, if that makes them
    /// faster: whoever says so interleaves [`Taken::interleaved`] once they are evaluated.
    pub fn interleave_matrices(&mut self) {
        self.interleave_matrices = true;
    }

    /// From here on names are looked up behind `prefix`, such as "language_model.".
    pub fn set_prefix(&mut self, prefix: &str) {
        self.prefix = prefix.to_string();
    }

    /// From here on a tensor that a layer asks for is looked up by the name that `names` returns, behind
    /// the prefix. For families whose layers are the usual ones under other names.
    pub fn set_names(&mut self, names: fn(&str) -> String) {
        self.names = Some(names);
    }

    fn full(&self, name: &str) -> String {
        let name = self.names.map_or_else(|| name.to_string(), |names| names(name));
        format!("{}{name}", self.prefix)
    }

    /// Whether a tensor is there.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(&self.full(name))
    }

    /// The shape of a tensor, if it is there.
    pub fn shape(&self, name: &str) -> Option<&[i32]> {
        self.tensors.get(&self.full(name)).map(|(tensor, _)| tensor.shape())
    }

    /// Gives every tensor the name that `to` returns; the prefix plays no part. For families whose
    /// publishers write other names than mlx-lm.
    pub fn rename(&mut self, to: impl Fn(&str) -> String) {
        self.tensors =
            std::mem::take(&mut self.tensors).into_iter().map(|(name, t)| (to(&name), t)).collect();
    }

    /// Takes a tensor out as it is, to be put back in another form.
    pub fn remove(&mut self, name: &str) -> Option<(Array, PathBuf)> {
        self.tensors.remove(&self.full(name))
    }

    /// [`Weights::remove`] of a tensor that must have this shape, if it is there.
    pub fn remove_shaped(&mut self, name: &str, shape: &[i32]) -> Result<Option<(Array, PathBuf)>> {
        if self.has(name) {
            self.find(name, shape)?;
        }
        Ok(self.remove(name))
    }

    /// Puts a tensor that was computed from one of `file` into the checkpoint.
    pub fn insert(&mut self, name: &str, array: Array, file: &Path) {
        self.tensors.insert(self.full(name), (array, file.to_path_buf()));
    }

    /// Puts what `change` makes of a tensor into its place, if it is there.
    pub fn map(&mut self, name: &str, change: impl FnOnce(Array) -> Result<Array>) -> Result<()> {
        let Some((tensor, file)) = self.remove(name) else { return Ok(()) };
        self.insert(name, change(tensor)?, &file);
        Ok(())
    }

    /// The names that end so.
    pub fn names_ending(&self, ending: &str) -> Vec<String> {
        let names = self.tensors.keys().filter_map(|name| name.strip_prefix(&self.prefix));
        names.filter(|name| name.ends_with(ending)).map(str::to_string).collect()
    }

    /// Takes the matrix `<prefix>.weight` out, dequantised, to be put back in another form.
    pub fn remove_matrix(&mut self, prefix: &str, shape: &[i32]) -> Result<Option<StoredMatrix>> {
        let name = |part: &str| format!("{prefix}.{part}");
        if !self.has(&name("scales")) {
            let found = self.remove_shaped(&name("weight"), shape)?;
            return Ok(found.map(|(matrix, file)| StoredMatrix { matrix, quantization: None, file }));
        }
        let quantization = self.quantization_of(prefix, shape)?;
        let [packed_shape, groups] = quantization.shapes(shape);
        let missing = |weights: &Self, part: &str| weights.missing(&name(part));
        let packed = self.remove_shaped(&name("weight"), &packed_shape)?;
        let (packed, file) = packed.ok_or_else(|| missing(self, "weight"))?;
        let scales = self.remove_shaped(&name("scales"), &groups)?;
        let (scales, _) = scales.ok_or_else(|| missing(self, "scales"))?;
        let biases = self.remove_shaped(&name("biases"), &groups)?.map(|(biases, _)| biases);
        let dtype = if scales.dtype().is_float() { scales.dtype() } else { self.float_dtype() };
        let matrix = ops::dequantize(&Quantized { packed, scales, biases, quantization }, dtype)?;
        Ok(Some(StoredMatrix { matrix, quantization: Some(quantization), file }))
    }

    /// Puts a matrix that was computed from `stored` into the checkpoint, quantised as that was.
    pub fn insert_matrix(&mut self, prefix: &str, matrix: &Array, stored: &StoredMatrix) -> Result<()> {
        let Some(quantization) = stored.quantization else {
            self.insert(&format!("{prefix}.weight"), ops::contiguous(matrix)?, &stored.file);
            return Ok(());
        };
        let quantization = self.fitting(quantization, &self.full(prefix), matrix.shape())?;
        let Quantized { packed, scales, biases, .. } = ops::quantize(matrix, quantization)?;
        let parts = [("weight", Some(packed)), ("scales", Some(scales)), ("biases", biases)];
        for (part, array) in parts.into_iter().filter_map(|(part, array)| Some((part, array?))) {
            self.insert(&format!("{prefix}.{part}"), array, &stored.file);
        }
        Ok(())
    }

    /// Experts that lie one by one in the checkpoint, `part(e)` for e in `0..count`, become one tensor
    /// `[count, ..]` for each of `.weight`, `.scales`, `.biases` and `.bias`. Does nothing where they
    /// are in one already.
    pub fn stack(&mut self, into: &str, count: i32, part: impl Fn(i32) -> String) -> Result<()> {
        for kind in ["weight", "scales", "biases", "bias"] {
            let name = |expert: i32| format!("{}.{kind}", part(expert));
            if !self.has(&name(0)) {
                continue;
            }
            let mut parts = vec![];
            for expert in 0..count {
                let found = self.remove(&name(expert));
                parts.push(found.ok_or_else(|| self.missing(&name(expert)))?);
            }
            let shape = parts[0].0.shape().to_vec();
            if let Some(odd) = parts.iter().position(|(array, _)| array.shape() != shape) {
                let (array, file) = &parts[odd];
                let name = self.full(&name(odd as i32));
                return Err(Error::bad_file(
                    file,
                    format!("tensor `{name}` has shape {:?}, expected {shape:?}", array.shape()),
                ));
            }
            let arrays: Vec<&Array> = parts.iter().map(|(array, _)| array).collect();
            let stacked = ops::stack(&arrays, 0)?;
            self.insert(&format!("{into}.{kind}"), stacked, &parts[0].1.clone());
        }
        Ok(())
    }

    /// Takes a floating-point tensor of the given shape.
    pub fn take(&mut self, name: &str, shape: &[i32]) -> Result<Array> {
        let tensor = self.take_float(name, shape)?;
        self.taken.parameters += tensor.size() as u64;
        Ok(tensor)
    }

    /// [`Weights::take`] without any conversion, for parameters that need their precision.
    pub fn take_as_stored(&mut self, name: &str, shape: &[i32]) -> Result<Array> {
        let dtype = self.dtype.take();
        let taken = self.take(name, shape);
        self.dtype = dtype;
        taken
    }

    /// Takes the matrix `<prefix>.weight` of shape `[.., rows, columns]`, quantised if
    /// `<prefix>.scales` is there.
    pub(super) fn take_matrix(&mut self, prefix: &str, shape: &[i32]) -> Result<Matrix> {
        self.take_matrix_as(prefix, shape, self.keep_matrices)
    }

    /// [`Weights::take_matrix`] of one that MLX computes with, always in one type with its input.
    pub(super) fn take_converted_matrix(&mut self, prefix: &str, shape: &[i32]) -> Result<Matrix> {
        self.take_matrix_as(prefix, shape, false)
    }

    fn take_matrix_as(&mut self, prefix: &str, shape: &[i32], keep: bool) -> Result<Matrix> {
        let name = |part: &str| format!("{prefix}.{part}");
        if !self.has(&name("scales")) {
            self.taken.matrices.insert(self.full(prefix));
            let weight = match keep {
                true => self.take_as_stored(&name("weight"), shape)?,
                false => self.take(&name("weight"), shape)?,
            };
            let dtype = self.dtype.unwrap_or(weight.dtype());
            return Ok(Matrix::Dense { weight, dtype });
        }
        let quantization = self.quantization_of(prefix, shape)?;
        let [packed_shape, groups] = quantization.shapes(shape);
        let packed = self.take_raw(&name("weight"), &packed_shape)?;
        if packed.dtype() != Dtype::U32 {
            return Err(self.wrong_dtype(&name("weight"), &packed, "uint32 (packed)"));
        }
        self.keep(&name("weight"), &packed);
        self.taken.parameters += shape.iter().map(|&size| size as u64).product::<u64>();
        let (scales, biases, dtype) = if quantization.mode == QuantMode::Affine {
            let convert = if keep { None } else { self.dtype };
            let scales = self.take_float_as(&name("scales"), &groups, convert)?;
            let dtype = self.dtype.unwrap_or(scales.dtype());
            (scales, Some(self.take_float_as(&name("biases"), &groups, convert)?), dtype)
        } else {
            let scales = self.take_raw(&name("scales"), &groups)?;
            self.keep(&name("scales"), &scales);
            (scales, None, self.float_dtype())
        };
        let rows = shape.iter().rev().nth(1).copied().unwrap_or(1);
        let interleaved = keep && self.interleave_matrices && kernels::interleaves(rows, quantization);
        if interleaved {
            self.taken.interleaved.extend(["weight", "scales", "biases"].map(|part| self.full(&name(part))));
        }
        let weight = Quantized { packed, scales, biases, quantization };
        Ok(Matrix::Quantized { weight, dtype, interleaved })
    }

    /// The format of a quantised matrix. Its tensors' shapes and types tell it; config.json, which may
    /// have one setting for all and exceptions by name, need not repeat it for every layer.
    fn quantization_of(&self, prefix: &str, shape: &[i32]) -> Result<Quantization> {
        let full = self.full(prefix);
        if self.has(&format!("{prefix}.global_scale")) {
            let text = format!("tensor `{full}.global_scale`: global scales are not supported");
            return Err(Error::Unsupported(text));
        }
        let Some(default) = self.quantization.default else {
            return Err(Error::BadModel(format!(
                "config.json: `quantization` is missing, but the checkpoint holds `{full}.scales`"
            )));
        };
        if let Some(named) = self.quantization.layers.get(&full) {
            return self.fitting(*named, &full, shape);
        }
        let tensor = |part: &str| self.tensors.get(&format!("{full}.{part}")).map(|(array, _)| array);
        let (Some(packed), Some(scales)) = (tensor("weight"), tensor("scales")) else {
            return Err(self.missing(&format!("{prefix}.weight")));
        };
        let last = |array: &Array| array.shape().last().copied().unwrap_or(0);
        let columns = *shape.last().expect("a matrix");
        let groups = last(scales).max(1);
        let group_size = columns / groups;
        let bits = i64::from(last(packed)) * 32 / i64::from(columns);
        let modes: &[QuantMode] = match scales.dtype() {
            Dtype::U8 => &[QuantMode::Mxfp4, QuantMode::Mxfp8, QuantMode::Nvfp4],
            _ => &[QuantMode::Affine],
        };
        let bits = bits as i32;
        let known = modes.iter().find_map(|&mode| Quantization::new(mode, group_size, bits));
        self.fitting(known.unwrap_or(default), &full, shape)
    }

    fn fitting(&self, quantization: Quantization, full: &str, shape: &[i32]) -> Result<Quantization> {
        let columns = *shape.last().expect("a matrix");
        if quantization.divides(columns) {
            return Ok(quantization);
        }
        Err(Error::BadModel(format!(
            "config.json: `quantization.group_size` is {}, which does not divide the {columns} columns of \
             `{full}.weight`",
            quantization.group_size
        )))
    }

    /// What quantised matrices without a floating-point tensor of their own stand for.
    fn float_dtype(&self) -> Dtype {
        let floats = || self.tensors.values().map(|(array, _)| array.dtype()).find(|dtype| dtype.is_float());
        self.dtype.or_else(floats).unwrap_or(Dtype::BF16)
    }

    /// Remembers an array that a layer computes from its tensors and keeps.
    pub fn derived(&mut self, array: Array) -> Array {
        self.taken.derived.push(array.clone());
        array
    }

    /// Names matrices, by the endings of their names, that keep 8 bits when a conversion quantises the
    /// others: small ones that much depends on.
    pub fn keep_precise(&mut self, endings: &'static [&'static str]) {
        self.taken.precise = endings;
    }

    /// Everything that was taken.
    pub fn into_taken(self) -> Taken {
        let used: HashSet<_> = self.taken.tensors.iter().map(|(name, _)| name).collect();
        let unused = self.tensors.keys().filter(|name| !used.contains(name)).count();
        Taken { unused, ..self.taken }
    }

    fn keep(&mut self, name: &str, tensor: &Array) {
        self.taken.tensors.push((self.full(name), tensor.clone()));
    }

    fn take_float(&mut self, name: &str, shape: &[i32]) -> Result<Array> {
        self.take_float_as(name, shape, self.dtype)
    }

    fn take_float_as(&mut self, name: &str, shape: &[i32], dtype: Option<Dtype>) -> Result<Array> {
        let tensor = self.take_raw(name, shape)?;
        if !tensor.dtype().is_float() {
            return Err(self.wrong_dtype(name, &tensor, "float32, float16 or bfloat16"));
        }
        let tensor = match dtype {
            Some(dtype) if dtype != tensor.dtype() => ops::astype(&tensor, dtype)?,
            _ => tensor,
        };
        self.keep(name, &tensor);
        Ok(tensor)
    }

    fn take_raw(&mut self, name: &str, shape: &[i32]) -> Result<Array> {
        self.find(name, shape).map(|(tensor, _)| tensor.clone())
    }

    fn find(&self, name: &str, shape: &[i32]) -> Result<&(Array, PathBuf)> {
        let full = self.full(name);
        let Some(found) = self.tensors.get(&full) else { return Err(self.missing(name)) };
        let (tensor, file) = found;
        if tensor.shape() != shape {
            return Err(Error::bad_file(
                file,
                format!("tensor `{full}` has shape {:?}, expected {shape:?}", tensor.shape()),
            ));
        }
        Ok(found)
    }

    /// The error that a tensor is not there.
    pub fn missing(&self, name: &str) -> Error {
        Error::bad_file(&self.source, format!("tensor `{}` is missing", self.full(name)))
    }

    fn wrong_dtype(&self, name: &str, tensor: &Array, expected: &str) -> Error {
        let full = self.full(name);
        let file = self.tensors.get(&full).map_or(&self.source, |(_, file)| file);
        Error::bad_file(file, format!("tensor `{full}` is {}, expected {expected}", tensor.dtype()))
    }
}
