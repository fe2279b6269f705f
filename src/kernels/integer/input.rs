//! The rounding of a product's input.

use crate::kernels::lines::Words;
use crate::kernels::threads;
use parking_lot::Mutex;

/// The smallest block, and what every block is a multiple of.
pub(super) const UNIT: usize = 32;
/// The largest.
const LARGEST: usize = 64;
/// Numbers that are enough to be worth handing to a thread.
const PART: usize = 16 << 10;

/// An input's rows as integers of at most 127 in magnitude, four columns in a word.
pub(in crate::kernels) struct Rounded {
    pub words: Words,
    /// Of each block, what its integers are multiplied by, and that times their sum.
    pub scales: Vec<[f32; 2]>,
    /// Columns that share a scale.
    pub block: usize,
    /// Columns, with zeros up to a multiple of what was asked for.
    pub columns: usize,
}

/// How a matrix is multiplied.
#[derive(Clone, Copy, PartialEq)]
pub(in crate::kernels) struct Form {
    pub columns: usize,
    pub block: usize,
    /// Whether words are in the order of [`pair`].
    pub paired: bool,
}

/// Rounds a block of columns to words.
pub(super) type RoundBlock = fn(&[f32], &mut [u32]) -> [f32; 2];

impl Rounded {
    /// Row by row, each filled up with zeros to a multiple of `multiple` columns.
    pub fn rows(x: &[f32], form: Form, multiple: usize, round: RoundBlock) -> Self {
        let Form { columns, block, .. } = form;
        let rows = x.len() / columns;
        let padded = columns.next_multiple_of(multiple);
        let mut words = Words::zeros(rows * padded / 4);
        let mut scales = vec![[0.0; 2]; rows * padded / block];
        let parts = words.chunks_exact_mut(padded / 4).zip(scales.chunks_exact_mut(padded / block));
        for (x, (words, scales)) in x.chunks_exact(columns).zip(parts) {
            let blocks = words.chunks_exact_mut(block / 4).zip(scales);
            for (x, (words, scales)) in x.chunks_exact(block).zip(blocks) {
                *scales = round(x, words);
                if form.paired {
                    pair(words);
                }
            }
        }
        Rounded { words, scales, block, columns: padded }
    }

    /// `tile` rows after each other, filled up with zeros: of each `run` words and of each scale first those
    /// of the tile's first row, then the second's.
    pub fn tiles(x: &[f32], form: Form, [tile, run]: [usize; 2], round: RoundBlock) -> Self {
        let Form { columns, block, .. } = form;
        let rows = (x.len() / columns).next_multiple_of(tile);
        let mut words = Words::room(rows * columns / 4);
        if rows * columns > x.len() {
            words[(rows - tile) * columns / 4..].fill(0);
        }
        let mut scales = vec![[0.0; 2]; rows * columns / block];
        // A thread takes so many blocks of a tile.
        let blocks = (PART / (tile * block)).clamp(1, columns / block);
        let each = columns / block;
        let parts = words.chunks_exact_mut(tile * columns / 4);
        let parts = parts.zip(scales.chunks_exact_mut(tile * each)).zip(x.chunks(tile * columns));
        let parts: Vec<_> = parts
            .flat_map(|((words, scales), x)| {
                let parts = words.chunks_mut(blocks * tile * block / 4).zip(scales.chunks_mut(blocks * tile));
                parts.enumerate().map(move |(part, of)| Mutex::new((part * blocks, x, of)))
            })
            .collect();
        let round_part = |part: usize| {
            let (first, x, (words, scales)) = &mut *parts[part].lock();
            for (m, x) in x.chunks_exact(columns).enumerate() {
                let x = x[*first * block..].chunks_exact(block);
                let words = words.chunks_exact_mut(tile * block / 4);
                for ((x, words), scales) in x.zip(words).zip(scales.chunks_exact_mut(tile)) {
                    let mut rounded = [0; LARGEST / 4];
                    let rounded = &mut rounded[..block / 4];
                    scales[m] = round(x, rounded);
                    if form.paired {
                        pair(rounded);
                    }
                    for (i, own) in rounded.chunks_exact(run).enumerate() {
                        words[(i * tile + m) * run..][..run].copy_from_slice(own);
                    }
                }
            }
        };
        // Waking threads takes longer than rounding a few rows.
        match x.len() < 2 * PART {
            true => (0..parts.len()).for_each(round_part),
            false => threads::for_each(parts.len(), round_part),
        }
        Rounded { words, scales, block, columns }
    }
}

/// Of every eight columns the even ones and then the odd ones: as they lie in the words of a 4-bit matrix
/// once every second nibble is masked.
pub(super) fn pair(words: &mut [u32]) {
    for two in words.as_chunks_mut::<2>().0 {
        let [a, b] = two.map(u32::to_le_bytes);
        *two = [[a[0], a[2], b[0], b[2]], [a[1], a[3], b[1], b[3]]].map(u32::from_le_bytes);
    }
}

/// Rounds a block with whatever the compiler makes of it.
pub(super) fn round(x: &[f32], out: &mut [u32]) -> [f32; 2] {
    round_block(x, out)
}

/// The same compiled for AVX2.
#[cfg(target_arch = "x86_64")]
pub(super) fn round_avx2(x: &[f32], out: &mut [u32]) -> [f32; 2] {
    #[target_feature(enable = "avx2")]
    fn compiled(x: &[f32], out: &mut [u32]) -> [f32; 2] {
        round_block(x, out)
    }
    // SAFETY: those that pass this function on have seen that the processor has it.
    unsafe { compiled(x, out) }
}

/// The same written for AVX-512.
#[cfg(target_arch = "x86_64")]
pub(super) fn round_avx512(x: &[f32], out: &mut [u32]) -> [f32; 2] {
    use std::arch::x86_64::*;
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn compiled(x: &[f32], out: &mut [u32]) -> [f32; 2] {
        let (x, out) = (x.as_chunks::<16>().0, out.as_chunks_mut::<4>().0);
        let (mut largest, mut zero) = (_mm512_setzero_ps(), _mm512_setzero_ps());
        for x in x {
            // SAFETY: 16 floats.
            let x = unsafe { _mm512_loadu_ps(x.as_ptr()) };
            largest = _mm512_max_ps(largest, _mm512_abs_ps(x));
            zero = _mm512_fmadd_ps(x, _mm512_setzero_ps(), zero);
        }
        let largest = _mm512_reduce_max_ps(largest);
        let scale = largest / 127.0 + _mm512_reduce_add_ps(zero);
        let inverse = _mm512_set1_ps(if largest > 0.0 { 127.0 / largest } else { 0.0 });
        let mut sum = _mm_setzero_si128();
        for (x, out) in x.iter().zip(out) {
            // SAFETY: 16 floats.
            let x = unsafe { _mm512_loadu_ps(x.as_ptr()) };
            let rounded = _mm512_add_ps(_mm512_mul_ps(x, inverse), _mm512_set1_ps(MAGIC));
            let bytes = _mm512_cvtepi32_epi8(_mm512_castps_si512(rounded));
            sum = _mm_dpbusd_epi32(sum, _mm_set1_epi8(1), bytes);
            // SAFETY: 16 bytes.
            unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), bytes) };
        }
        let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b0100_1110>(sum));
        let sum = _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32::<0b1011_0001>(sum)));
        [scale, scale * sum as f32]
    }
    // SAFETY: those that pass this function on have seen that the processor has it.
    unsafe { compiled(x, out) }
}

/// The lowest bits of 1.5 * 2^23 plus a small number are that number, rounded to the nearest.
const MAGIC: f32 = 12_582_912.0;

#[inline(always)]
fn round_block(x: &[f32], out: &mut [u32]) -> [f32; 2] {
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
    let mut sum = 0;
    for (x, words) in x.as_chunks::<UNIT>().0.iter().zip(out.as_chunks_mut::<{ UNIT / 4 }>().0) {
        let mut values = [0i8; UNIT];
        for i in 0..UNIT {
            values[i] = (x[i] * inverse + MAGIC).to_bits() as i8;
            sum += i32::from(values[i]);
        }
        for (word, four) in words.iter_mut().zip(values.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(four.map(|value| value as u8));
        }
    }
    [scale, scale * sum as f32]
}
