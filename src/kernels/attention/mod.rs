//! Attention as an operation of MLX's graph, of all the sequences of a pass at once.
//!
//! The softmax is computed online (Milakov and Gimelshein 2018) over blocks of [`BLOCK`] keys, anew for each
//! split of [`SPLIT`] keys; the splits' results are then merged in order (Dao et al. 2023). Blocks and splits
//! are counted from a sequence's first position, and every sum has one order, so a query's result depends on
//! its own sequence alone, bit for bit, however the work is cut; instruction sets agree too, but for those without
//! FMA. What a query does not see adds exact
//! zeros (its keys may hold anything, its values must be finite), so it can as well be left out.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod job;
mod portable;
#[cfg(test)]
mod tests;
mod tile;

use super::isa::Isa;
use super::{AttentionOptions, Sequence};
use crate::error::{Error, Result};
use crate::mlx::ops::{self, Mask};
use crate::mlx::primitive::{Bool, Input, Kernel, primitive};
use crate::mlx::{Array, Dtype};
use job::{Job, Rows, Seen, SequenceJob};

/// Floats that are computed together.
const LANES: usize = 16;
/// Keys between two corrections of the softmax.
const BLOCK: usize = 64;
/// Keys whose result is computed on its own.
const SPLIT: usize = 512;

struct Attention {
    isa: Isa,
    options: AttentionOptions,
    sequences: Vec<Layout>,
    sinks: bool,
    /// Widths of a key and of a value.
    dims: [usize; 2],
}

/// A sequence's inputs: keys and values of each run, then the mask if it is an array.
struct Layout {
    /// How many keys of each run count.
    used: Vec<usize>,
    queries: usize,
    mask: MaskKind,
}

enum MaskKind {
    None,
    Causal,
    Array,
}

impl Kernel for Attention {
    const AS_THEY_LIE: bool = true;

    fn run(&self, inputs: &[Input], output: &mut [f32]) -> Result<()> {
        let mut inputs = inputs.iter();
        let mut next = || inputs.next().ok_or_else(misfit);
        let q = next()?;
        let &[_, row, column] = q.strides() else { return Err(misfit()) };
        let queries = Rows::new(q.values()?, [0, row as usize, column as usize], q.shape())?;
        let sinks = if self.sinks {
            let sinks = next()?;
            let &[stride] = sinks.strides() else { return Err(misfit()) };
            Some(sinks.values::<f32>()?.iter().step_by(stride.max(1) as usize).copied().collect())
        } else {
            None
        };
        let mut sequences = vec![];
        let mut first = 0;
        for layout in &self.sequences {
            let mut runs = vec![];
            for &used in &layout.used {
                let mut rows = || {
                    let input = next()?;
                    let &[_, head, row, column] = input.strides() else { return Err(misfit()) };
                    let strides = [head, row, column].map(|stride| stride as usize);
                    Rows::new(input.values()?, strides, &input.shape()[1..])
                };
                runs.push((rows()?, rows()?, used));
            }
            let seen = match layout.mask {
                MaskKind::None => Seen::All,
                MaskKind::Causal => Seen::Before,
                MaskKind::Array => {
                    let mask = next()?;
                    let axes = mask.shape().len().checked_sub(2).ok_or_else(misfit)?;
                    // An axis of length 1 is for all.
                    let stride = |axis: usize| if mask.shape()[axis] == 1 { 0 } else { mask.strides()[axis] };
                    Seen::Where(mask.values::<Bool>()?, [axes, axes + 1].map(|axis| stride(axis) as usize))
                }
            };
            sequences.push(SequenceJob::new(runs, first, layout.queries, seen));
            first += layout.queries;
        }
        let AttentionOptions { heads, kv_heads, scale, softcap } = self.options;
        if output.len() != first * heads as usize * self.dims[1] {
            return Err(misfit());
        }
        let job = Job {
            isa: self.isa,
            queries,
            sequences,
            sinks,
            heads: heads as usize,
            group: (heads / kv_heads) as usize,
            dims: self.dims,
            scale,
            softcap,
        };
        job.run(output);
        Ok(())
    }
}

fn misfit() -> Error {
    Error::Internal("attention's arrays do not fit together".into())
}

/// See [`super::attention()`].
pub(super) fn attention(
    isa: Isa,
    q: &Array,
    sequences: &[Sequence],
    options: &AttentionOptions,
    sinks: Option<&Array>,
) -> Result<Option<Array>> {
    let Some(dims) = dims(q, sequences, options, sinks) else { return Ok(None) };
    let mut inputs = vec![q];
    let sinks = sinks.map(|sinks| ops::astype(sinks, Dtype::F32)).transpose()?;
    inputs.extend(&sinks);
    let mut layouts = vec![];
    for Sequence { runs, queries, mask } in sequences {
        inputs.extend(runs.iter().flat_map(|run| [&run.keys, &run.values]));
        let kind = match mask {
            Mask::None => MaskKind::None,
            Mask::Causal => MaskKind::Causal,
            Mask::Array(array) => {
                inputs.push(array);
                MaskKind::Array
            }
        };
        let used = runs.iter().map(|run| run.used as usize).collect();
        layouts.push(Layout { used, queries: *queries as usize, mask: kind });
    }
    let shape = [1, q.dim(1), options.heads * dims[1] as i32];
    let kernel = Attention { isa, options: *options, sequences: layouts, sinks: sinks.is_some(), dims };
    primitive(kernel, &inputs, &shape).map(Some)
}

/// The widths of a key and of a value; `None` if the arrays are not for this kernel.
fn dims(
    q: &Array,
    sequences: &[Sequence],
    options: &AttentionOptions,
    sinks: Option<&Array>,
) -> Option<[usize; 2]> {
    let &AttentionOptions { heads, kv_heads, .. } = options;
    let first = sequences.iter().flat_map(|sequence| &sequence.runs).next()?;
    let [dim, value_dim] = [&first.keys, &first.values].map(|array| array.shape().last().copied());
    let (dim, value_dim) = (dim?, value_dim?);
    let is = |array: &Array, dim: i32, used: i32| {
        let &[1, heads, capacity, width] = array.shape() else { return false };
        array.dtype() == Dtype::F32 && heads == kv_heads && width == dim && (0..=capacity).contains(&used)
    };
    let fits = |Sequence { runs, queries, mask }: &Sequence| {
        let keys: i32 = runs.iter().map(|run| run.used).sum();
        *queries >= 0
            && runs.iter().all(|run| is(&run.keys, dim, run.used) && is(&run.values, value_dim, run.used))
            && match mask {
                Mask::None => true,
                Mask::Causal => *queries <= keys,
                Mask::Array(mask) => match mask.shape() {
                    [outer @ .., rows, columns] => {
                        mask.dtype() == Dtype::Bool
                            && outer.iter().all(|&length| length == 1)
                            && (*rows == 1 || rows == queries)
                            && (*columns == 1 || *columns == keys)
                    }
                    _ => false,
                },
            }
    };
    let supported = kv_heads > 0
        && heads > 0
        && heads % kv_heads == 0
        && dim > 0
        && value_dim > 0
        && q.dtype() == Dtype::F32
        && q.shape() == [1, sequences.iter().map(|sequence| sequence.queries).sum(), heads * dim]
        && sequences.iter().all(fits)
        && sinks.is_none_or(|sinks| sinks.shape() == [heads] && sinks.dtype().is_float());
    supported.then_some([dim as usize, value_dim as usize])
}
