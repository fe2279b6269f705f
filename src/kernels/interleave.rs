//! Quantised matrices in the order in which vectors take them. Of every [`STRIPE`] rows first each one's first
//! word lies there, then each one's second, ..; their scales and biases likewise. A vector then holds a word
//! of 16 rows, whose products need no adding up across it, and a matrix is read from its beginning to its end.

use super::Weight;
use super::isa::Isa;
use super::matrix::{Floats, Packed, STRIPE, Values};
use super::threads::{for_each, with_scratch};
use crate::error::{Error, Result};
use crate::mlx::ops::{self, QuantMode, Quantization, Quantized};
use crate::mlx::{self, Array, LargePages};
use parking_lot::Mutex;

impl<'a> Weight<'a> {
    /// A quantised matrix that is interleaved or not.
    pub fn quantized(w: &'a Quantized, interleaved: bool) -> Self {
        if interleaved { Weight::Interleaved(w) } else { Weight::Quantized(w) }
    }
}

/// Whether matrices `[.., rows, columns]` are faster when they are interleaved: not the others, which kernels
/// take as MLX stores them.
pub fn interleaves(rows: i32, quantization: Quantization) -> bool {
    !matches!(Isa::best(), Isa::Portable | Isa::Neon) && can_interleave(rows, quantization)
}

/// Whether there are kernels for it.
pub(super) fn can_interleave(rows: i32, Quantization { bits, mode, .. }: Quantization) -> bool {
    mode == QuantMode::Affine && [4, 8].contains(&bits) && rows % STRIPE as i32 == 0
}

/// Interleaves an evaluated array `[.., rows, width]` of a matrix, for all who share the array: in memory of its own if
/// it is large and there is such, else where it lies.
///
/// # Safety
/// Nothing else uses the array's data meanwhile, or takes them to be in their old order afterwards.
pub unsafe fn interleave(array: &Array) -> Result<()> {
    let size = array.nbytes() / array.size().max(1);
    let width = array.dim(-1) as usize * size;
    // SAFETY: the caller's promise.
    let bytes = unsafe { array.bytes_mut() }?;
    let misfit = || Error::Internal(format!("{array:?} cannot be interleaved"));
    if width == 0 || !bytes.len().is_multiple_of(STRIPE * width) {
        return Err(misfit());
    }
    let stripe = STRIPE * width;
    if bytes.len() >= LARGE
        && let Some(mut memory) = LargePages::new(bytes.len())
    {
        // The old memory goes back part by part: both together may be more than there is.
        let part = PART.next_multiple_of(stripe);
        for (from, to) in bytes.chunks_mut(part).zip(memory.bytes_mut().chunks_mut(part)) {
            let stripes: Vec<_> = to.chunks_exact_mut(stripe).map(Mutex::new).collect();
            for_each(stripes.len(), |index| {
                transpose(&from[index * stripe..][..stripe], &mut stripes[index].lock(), size);
            });
            // SAFETY: the array gets other data before anybody reads these again.
            unsafe { mlx::forget(from) };
        }
        return memory.replace(array);
    }
    let stripes: Vec<_> = bytes.chunks_exact_mut(stripe).map(Mutex::new).collect();
    for_each(stripes.len(), |index| {
        let stripe = &mut **stripes[index].lock();
        with_scratch(0, stripe.len().div_ceil(4), |_, room| {
            // SAFETY: words are bytes.
            let room = unsafe { std::slice::from_raw_parts_mut(room.as_mut_ptr().cast(), stripe.len()) };
            room.copy_from_slice(stripe);
            transpose(room, stripe, size);
        });
    });
    Ok(())
}

/// Bytes that are worth memory of their own, and those that are interleaved before their old memory goes back.
const LARGE: usize = 1 << 20;
const PART: usize = 16 << 20;

/// Of [`STRIPE`] rows of elements of `size` bytes first each one's first.
fn transpose(from: &[u8], to: &mut [u8], size: usize) {
    match size {
        2 => transpose_of::<2>(from, to),
        _ => transpose_of::<4>(from, to),
    }
}

fn transpose_of<const SIZE: usize>(from: &[u8], to: &mut [u8]) {
    let (from, _) = from.as_chunks::<SIZE>();
    let (to, _) = to.as_chunks_mut::<SIZE>().0.as_chunks_mut::<STRIPE>();
    let width = to.len();
    // So many columns of all rows stay in the first-level cache.
    const BLOCK: usize = 64;
    for (block, to) in to.chunks_mut(BLOCK).enumerate() {
        for lane in 0..STRIPE {
            let from = &from[lane * width + block * BLOCK..][..to.len()];
            for (to, from) in to.iter_mut().zip(from) {
                to[lane] = *from;
            }
        }
    }
}

/// Calls `show` with an interleaved matrix's row, as a matrix of one row.
pub(super) fn with_row<T>(w: &Packed, row: usize, show: impl FnOnce(&Packed) -> T) -> Option<T> {
    let Values::Integers { scales, biases } = w.values else { return None };
    let (first, lane) = (row / STRIPE * STRIPE, row % STRIPE);
    let packed: Vec<u32> = w.stripe(first).iter().skip(lane).step_by(STRIPE).copied().collect();
    let groups = w.columns / w.group;
    let lane_of = |floats: Floats| -> Vec<f32> {
        let mut lanes = vec![0.0; STRIPE * groups];
        floats.read(first * groups, &mut lanes);
        lanes.into_iter().skip(lane).step_by(STRIPE).collect()
    };
    let (scales, biases) = (lane_of(scales), lane_of(biases));
    let values = Values::Integers { scales: Floats::F32(&scales), biases: Floats::F32(&biases) };
    Some(show(&Packed { packed: &packed, values, rows: 1, interleaved: false, ..*w }))
}

/// Calls `show` with the [`STRIPE`] rows from `first` on, as a matrix that is not interleaved.
pub(super) fn with_stripe<T>(w: &Packed, first: usize, show: impl FnOnce(&Packed) -> T) -> Option<T> {
    let Values::Integers { scales, biases } = w.values else { return None };
    let groups = w.columns / w.group;
    let rows_of = |floats: Floats| {
        let mut lanes = vec![0.0; STRIPE * groups];
        floats.read(first * groups, &mut lanes);
        in_order(&lanes)
    };
    let (packed, scales, biases) = (in_order(w.stripe(first)), rows_of(scales), rows_of(biases));
    let values = Values::Integers { scales: Floats::F32(&scales), biases: Floats::F32(&biases) };
    Some(show(&Packed { packed: &packed, values, rows: STRIPE, interleaved: false, ..*w }))
}

/// The elements of a stripe row by row.
fn in_order<T: Copy + Default>(lanes: &[T]) -> Vec<T> {
    let width = lanes.len() / STRIPE;
    let mut rows = vec![T::default(); lanes.len()];
    for (column, lanes) in lanes.as_chunks::<STRIPE>().0.iter().enumerate() {
        for (lane, value) in lanes.iter().enumerate() {
            rows[lane * width + column] = *value;
        }
    }
    rows
}

/// The matrix as MLX takes it.
pub fn in_rows(w: &Quantized) -> Result<Quantized> {
    let order = |array: &Array| {
        let shape = array.shape();
        let stripes = (array.size() / shape[shape.len() - 1] as usize / STRIPE) as i32;
        let lanes = ops::reshape(array, &[stripes, -1, STRIPE as i32])?;
        ops::reshape(&ops::transpose(&lanes, &[0, 2, 1])?, shape)
    };
    Ok(Quantized {
        packed: order(&w.packed)?,
        scales: order(&w.scales)?,
        biases: w.biases.as_ref().map(order).transpose()?,
        quantization: w.quantization,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::kernels::tests::{Case, affine};
    use crate::mlx::{Device, use_device};
    use rand::SeedableRng;
    use rand_pcg::Pcg64;

    fn bytes(w: &Quantized) -> [Vec<u8>; 3] {
        [Some(&w.packed), Some(&w.scales), w.biases.as_ref()]
            .map(|array| array.unwrap().with_bytes(<[u8]>::to_vec).unwrap())
    }

    /// An interleaved copy.
    pub fn interleaved(w: &Quantized) -> Quantized {
        let copy = |array: &Array| {
            let zeros = ops::zeros(array.shape(), array.dtype()).unwrap();
            let array = ops::add(array, &zeros).unwrap();
            array.eval().unwrap();
            // SAFETY: nobody else has it.
            unsafe { interleave(&array) }.unwrap();
            array
        };
        Quantized {
            packed: copy(&w.packed),
            scales: copy(&w.scales),
            biases: w.biases.as_ref().map(copy),
            quantization: w.quantization,
        }
    }

    #[test]
    fn what_is_interleaved_comes_back() {
        use_device(Device::Cpu).unwrap();
        let mut rng = Pcg64::seed_from_u64(21);
        let mut tried = 0;
        for quantization in affine().filter(|quantization| can_interleave(48, *quantization)) {
            let w = Case::new(&mut rng, [1, 48, 640], quantization).w;
            let lanes = interleaved(&w);
            assert!(bytes(&lanes) != bytes(&w), "{quantization:?}");
            assert!(bytes(&in_rows(&lanes).unwrap()) == bytes(&w), "{quantization:?}");
            tried += 1;
        }
        assert_eq!(tried, 6);
    }
}
