//! The rounding of a product's input.

use super::BLOCK;
use crate::kernels::threads;
use parking_lot::Mutex;

/// Rows that are interleaved in a [`Rounded::tiles`].
pub(super) const TILE: usize = 8;

/// An input's rows as integers of at most 127 in magnitude, four columns in a word.
pub(super) struct Rounded {
    pub words: Vec<u32>,
    /// Of each block, what its integers are multiplied by, and that times their sum.
    pub scales: Vec<[f32; 2]>,
    /// Columns, with zeros up to a multiple of what was asked for.
    pub columns: usize,
}

/// Rounds a block of columns.
pub(super) type RoundBlock = fn(&[f32; BLOCK]) -> ([i8; BLOCK], [f32; 2]);

impl Rounded {
    /// Row by row, each filled up with zeros to a multiple of `multiple` columns.
    pub fn rows(x: &[f32], columns: usize, multiple: usize, round: RoundBlock) -> Self {
        let rows = x.len() / columns;
        let padded = columns.next_multiple_of(multiple);
        let mut words = vec![0; rows * padded / 4];
        let mut scales = vec![[0.0; 2]; rows * padded / BLOCK];
        let parts = words.chunks_exact_mut(padded / 4).zip(scales.chunks_exact_mut(padded / BLOCK));
        for (x, (words, scales)) in x.chunks_exact(columns).zip(parts) {
            let blocks = words.as_chunks_mut::<{ BLOCK / 4 }>().0.iter_mut().zip(scales);
            for (x, (words, scales)) in x.as_chunks::<BLOCK>().0.iter().zip(blocks) {
                let (values, found) = round(x);
                *words = to_words(&values);
                *scales = found;
            }
        }
        Rounded { words, scales, columns: padded }
    }

    /// [`TILE`] rows after each other, filled up with zeros: of each word and of each scale first that of
    /// the tile's first row, then the second's. `paired`: see [`pair`].
    pub fn tiles(x: &[f32], columns: usize, paired: bool, round: RoundBlock) -> Self {
        let rows = (x.len() / columns).next_multiple_of(TILE);
        let mut words = vec![0; rows * columns / 4];
        let mut scales = vec![[0.0; 2]; rows * columns / BLOCK];
        let parts = words.chunks_exact_mut(TILE * columns / 4);
        let parts = parts.zip(scales.chunks_exact_mut(TILE * columns / BLOCK));
        let parts: Vec<_> = x.chunks(TILE * columns).zip(parts).map(Mutex::new).collect();
        threads::for_each(parts.len(), |tile| {
            let (x, (words, scales)) = &mut *parts[tile].lock();
            for (m, x) in x.chunks_exact(columns).enumerate() {
                for (block, x) in x.as_chunks::<BLOCK>().0.iter().enumerate() {
                    let (values, found) = round(x);
                    let mut four = to_words(&values);
                    if paired {
                        pair(&mut four);
                    }
                    for (i, word) in four.into_iter().enumerate() {
                        words[(block * BLOCK / 4 + i) * TILE + m] = word;
                    }
                    scales[block * TILE + m] = found;
                }
            }
        });
        Rounded { words, scales, columns }
    }
}

/// Of every eight columns the even ones and then the odd ones: as they lie in the words of a 4-bit matrix
/// once every second nibble is masked.
pub(super) fn pair(words: &mut [u32; BLOCK / 4]) {
    for two in words.as_chunks_mut::<2>().0 {
        let [a, b] = two.map(u32::to_le_bytes);
        *two = [[a[0], a[2], b[0], b[2]], [a[1], a[3], b[1], b[3]]].map(u32::from_le_bytes);
    }
}

fn to_words(values: &[i8; BLOCK]) -> [u32; BLOCK / 4] {
    let mut words = [0; BLOCK / 4];
    for (word, four) in words.iter_mut().zip(values.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(four.map(|value| value as u8));
    }
    words
}

/// Rounds a block with whatever the compiler makes of it.
pub(super) fn round(x: &[f32; BLOCK]) -> ([i8; BLOCK], [f32; 2]) {
    round_block(x)
}

/// The same compiled for AVX2.
#[cfg(target_arch = "x86_64")]
pub(super) fn round_avx2(x: &[f32; BLOCK]) -> ([i8; BLOCK], [f32; 2]) {
    #[target_feature(enable = "avx2")]
    fn compiled(x: &[f32; BLOCK]) -> ([i8; BLOCK], [f32; 2]) {
        round_block(x)
    }
    // SAFETY: those that pass this function on have seen that the processor has it.
    unsafe { compiled(x) }
}

#[inline(always)]
fn round_block(x: &[f32; BLOCK]) -> ([i8; BLOCK], [f32; 2]) {
    // Eight lanes, because a sum or maximum of floats is not reordered by the compiler.
    let (mut largest, mut zero) = ([0.0f32; 8], [0.0f32; 8]);
    for x in x.as_chunks::<8>().0 {
        for lane in 0..8 {
            let size = x[lane].abs();
            largest[lane] = if size > largest[lane] { size } else { largest[lane] };
            zero[lane] += x[lane] * 0.0;
        }
    }
    let largest = largest.into_iter().fold(0.0, f32::max);
    // 0 unless there is an infinity or NaN, which the result must become then.
    let zero: f32 = zero.into_iter().sum();
    let scale = largest / 127.0 + zero;
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    // The lowest bits of 1.5 * 2^23 plus a small number are that number, rounded to the nearest.
    const MAGIC: f32 = 12_582_912.0;
    let mut values = [0i8; BLOCK];
    let mut sum = 0;
    for i in 0..BLOCK {
        values[i] = (x[i] * inverse + MAGIC).to_bits() as i8;
        sum += i32::from(values[i]);
    }
    (values, [scale, scale * sum as f32])
}
