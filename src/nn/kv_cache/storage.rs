//! How keys and values lie in memory: as they come, or quantised.

use super::{CacheOptions, POSITIONS};
use crate::error::{Error, Result};
use crate::kernels;
use crate::mlx::ops::{self, QuantMode, Quantization, Quantized};
use crate::mlx::{Array, Dtype};
use std::ops::Range;

/// What an attention layer hands its cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KvShape {
    /// Heads of keys and values.
    pub heads: i32,
    /// Width of a key.
    pub key_dim: i32,
    /// Width of a value.
    pub value_dim: i32,
    /// Their type.
    pub dtype: Dtype,
}

/// New positions' keys and values, both of one type.
#[derive(Debug)]
pub enum New<'a> {
    /// `[1, heads, positions, dim]`.
    Heads(Array, Array),
    /// Some tokens of a pass: `[1, tokens, heads * dim]`.
    Rows {
        /// Of all tokens.
        keys: &'a Array,
        /// Of all tokens.
        values: &'a Array,
        /// How many.
        heads: i32,
        /// Which of them.
        rows: Range<i32>,
    },
}

impl New<'_> {
    /// How many positions.
    pub(super) fn length(&self) -> i32 {
        match self {
            New::Heads(keys, _) => keys.dim(POSITIONS as i32),
            New::Rows { rows, .. } => rows.end - rows.start,
        }
    }

    pub(super) fn shape(&self) -> Result<KvShape> {
        let (keys, values) = match self {
            New::Heads(keys, values) => (keys, values),
            New::Rows { keys, values, .. } => (*keys, *values),
        };
        let sizes = |array: &Array| match (self, array.shape()) {
            (New::Heads(..), &[1, heads, positions, dim]) => Some((heads, positions, dim)),
            (New::Rows { heads, .. }, &[1, positions, columns]) if columns % heads == 0 => {
                Some((*heads, positions, columns / heads))
            }
            _ => None,
        };
        let dtype = keys.dtype();
        match sizes(keys).zip(sizes(values)) {
            Some(((heads, positions, key_dim), (value_heads, value_positions, value_dim)))
                if (heads, positions, dtype) == (value_heads, value_positions, values.dtype()) =>
            {
                Ok(KvShape { heads, key_dim, value_dim, dtype })
            }
            _ => Err(Error::Internal(format!("a cache cannot hold {keys:?} and {values:?}"))),
        }
    }

    /// `[1, heads, positions, dim]`.
    fn heads(&self) -> Result<[Array; 2]> {
        match self {
            New::Heads(keys, values) => Ok([keys.clone(), values.clone()]),
            New::Rows { keys, values, heads, rows } => {
                let first = |array: &Array| {
                    let some = ops::slice(array, 1, rows.start, rows.end)?;
                    let some = ops::reshape(&some, &[1, rows.end - rows.start, *heads, -1])?;
                    ops::transpose(&some, &[0, 2, 1, 3])
                };
                Ok([first(keys)?, first(values)?])
            }
        }
    }
}

/// One of the arrays that positions are stored in, `[1, heads, positions, columns]`.
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) columns: i32,
    pub(super) dtype: Dtype,
}

/// What one cache stores and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) shape: KvShape,
    /// Of keys and of values.
    quantization: [Option<Quantization>; 2],
}

impl Format {
    /// What the options make of a shape: groups of 32 where theirs don't divide a row, and no quantisation
    /// where those don't either.
    pub(super) fn new(shape: KvShape, options: &CacheOptions) -> Self {
        let quantization = [shape.key_dim, shape.value_dim].map(|dim| {
            let bits = options.bits?;
            let sizes = [options.group_size, 32].into_iter();
            let mut known = sizes.filter_map(|size| Quantization::new(QuantMode::Affine, size, bits));
            known.find(|quantization| quantization.divides(dim))
        });
        Format { shape, quantization }
    }

    fn sides(&self) -> [(i32, Option<Quantization>); 2] {
        let [keys, values] = self.quantization;
        [(self.shape.key_dim, keys), (self.shape.value_dim, values)]
    }

    /// The arrays of [`Stored`], in order.
    pub(super) fn parts(&self) -> Vec<Part> {
        const NAMES: [[&str; 4]; 2] = [
            ["keys", "keys.packed", "keys.scales", "keys.biases"],
            ["values", "values.packed", "values.scales", "values.biases"],
        ];
        let dtype = self.shape.dtype;
        let mut parts = vec![];
        for ((dim, quantization), [plain, packed, scales, biases]) in self.sides().into_iter().zip(NAMES) {
            match quantization {
                None => parts.push(Part { name: plain, columns: dim, dtype }),
                Some(Quantization { bits, group_size, .. }) => parts.extend([
                    Part { name: packed, columns: dim / 32 * bits, dtype: Dtype::U32 },
                    Part { name: scales, columns: dim / group_size, dtype },
                    Part { name: biases, columns: dim / group_size, dtype },
                ]),
            }
        }
        parts
    }

    /// Bytes of one position.
    pub(super) fn bytes(&self) -> usize {
        let size = |dtype| if matches!(dtype, Dtype::F32 | Dtype::U32) { 4 } else { 2 };
        let columns = self.parts().iter().map(|part| part.columns as usize * size(part.dtype)).sum::<usize>();
        self.shape.heads as usize * columns
    }

    /// Whether keys and values are stored as they come.
    pub(super) fn is_plain(&self) -> bool {
        self.quantization == [None, None]
    }

    /// `stored` with new positions at `at`: in place, if nothing else holds its arrays.
    pub(super) fn write(&self, stored: Stored, new: &New, at: i32) -> Result<Stored> {
        if let New::Rows { keys, values, rows, .. } = new
            && let [old_keys, old_values] = &stored.0[..]
            && self.is_plain()
            && kernels::appends(old_keys, keys)?
            && kernels::appends(old_values, values)?
        {
            let both = stored.0.into_iter().zip([keys, values]);
            let written = both.map(|(old, new)| kernels::append(old, new, rows.clone(), at));
            return written.collect::<Result<_>>().map(Stored);
        }
        let new = self.encode(new)?;
        let written = |(array, new)| ops::slice_update(array, new, POSITIONS, at);
        stored.0.iter().zip(&new.0).map(written).collect::<Result<_>>().map(Stored)
    }

    pub(super) fn encode(&self, new: &New) -> Result<Stored> {
        let mut arrays = vec![];
        for (array, quantization) in new.heads()?.into_iter().zip(self.quantization) {
            match quantization {
                None => arrays.push(array),
                Some(quantization) => {
                    let Quantized { packed, scales, biases, .. } = ops::quantize(&array, quantization)?;
                    arrays.extend([Some(packed), Some(scales), biases].into_iter().flatten());
                }
            }
        }
        Ok(Stored(arrays))
    }

    /// Keys and values in the type in which they came.
    pub(super) fn decode(&self, stored: Stored) -> Result<(Array, Array)> {
        let mut arrays = stored.0.into_iter();
        let mut next = || arrays.next().ok_or_else(|| Error::Internal("a cache lacks an array".into()));
        let mut side = |quantization: Option<Quantization>| match quantization {
            None => next(),
            Some(quantization) => {
                let (packed, scales, biases) = (next()?, next()?, Some(next()?));
                ops::dequantize(&Quantized { packed, scales, biases, quantization }, self.shape.dtype)
            }
        };
        let [keys, values] = self.quantization;
        Ok((side(keys)?, side(values)?))
    }

    pub(super) fn zeros(&self, positions: i32) -> Result<Stored> {
        let zeros = |part: Part| ops::zeros(&[1, self.shape.heads, positions, part.columns], part.dtype);
        self.parts().into_iter().map(zeros).collect::<Result<_>>().map(Stored)
    }
}

/// Keys and values of some positions, as they are stored: the arrays of [`Format::parts`].
#[derive(Debug, Clone)]
pub(super) struct Stored(pub(super) Vec<Array>);

impl Stored {
    /// Positions that there is room for.
    pub(super) fn capacity(&self) -> i32 {
        self.0.first().map_or(0, |array| array.dim(POSITIONS as i32))
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(Array::nbytes).sum()
    }

    /// A view of `start..stop`.
    pub(super) fn slice(&self, start: i32, stop: i32) -> Result<Self> {
        if (start, stop) == (0, self.capacity()) {
            return Ok(self.clone());
        }
        self.0
            .iter()
            .map(|array| ops::slice(array, POSITIONS, start, stop))
            .collect::<Result<_>>()
            .map(Stored)
    }

    /// One buffer of all positions.
    pub(super) fn join(runs: &[Stored]) -> Result<Self> {
        let [run] = runs else {
            let arrays = runs.first().map_or(0, |run| run.0.len());
            let join = |i| {
                let arrays: Vec<&Array> = runs.iter().filter_map(|run: &Stored| run.0.get(i)).collect();
                ops::concatenate(&arrays, POSITIONS as i32)
            };
            return (0..arrays).map(join).collect::<Result<_>>().map(Stored);
        };
        // MLX gives a single array back as it is, and it may be a view into something larger, which a
        // cache must not hold for long.
        match run.capacity() {
            0 | 1 => Ok(run.clone()),
            length => Stored::join(&[run.slice(0, 1)?, run.slice(1, length)?]),
        }
    }
}
