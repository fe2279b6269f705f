//! How GGUF stores values: in blocks that share scales. The layouts and formulas are those of ggml's
//! ggml-common.h and ggml-quants.c.

use crate::mlx::Dtype;
use half::{bf16, f16};

/// One way to store values.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// Its number in files.
    id: u32,
    /// ggml's name of it.
    pub name: &'static str,
    /// Values in a block.
    pub block: usize,
    /// Bytes of a block.
    pub bytes: usize,
    /// Fills `block` values from `bytes` bytes; of plain numbers any count.
    decode: fn(&[u8], &mut [f32]) -> Option<()>,
    /// What the values are where they are plain numbers.
    pub dtype: Option<Dtype>,
    /// MLX's affine quantisation that holds the very same values, in groups of a block.
    pub affine: Option<Affine>,
}

/// A block as MLX has it: value = scale * q + bias with unsigned q, the first in the lowest bits.
#[derive(Debug, Clone, Copy)]
pub struct Affine {
    /// Of each q.
    pub bits: usize,
    /// Scale and bias of a block.
    pub scale_and_bias: fn(&[u8]) -> Option<(f32, f32)>,
    /// Appends the packed values.
    pub pack: fn(&[u8], &mut Vec<u8>) -> Option<()>,
}

const fn format(
    id: u32,
    name: &'static str,
    block: usize,
    bytes: usize,
    decode: fn(&[u8], &mut [f32]) -> Option<()>,
) -> Format {
    Format { id, name, block, bytes, decode, dtype: None, affine: None }
}

const fn plain(
    id: u32,
    name: &'static str,
    dtype: Dtype,
    bytes: usize,
    decode: fn(&[u8], &mut [f32]) -> Option<()>,
) -> Format {
    Format { dtype: Some(dtype), ..format(id, name, 1, bytes, decode) }
}

impl Format {
    /// All that can be read.
    pub const ALL: &[Format] = &[
        plain(0, "F32", Dtype::F32, 4, decode_f32),
        plain(1, "F16", Dtype::F16, 2, decode_f16),
        plain(30, "BF16", Dtype::BF16, 2, decode_bf16),
        Format {
            affine: Some(Affine {
                bits: 4,
                scale_and_bias: |block| scale(block, 0).map(|d| (d, -8.0 * d)),
                pack: |block, out| pack_nibbles(block.get(2..18)?, out),
            }),
            ..format(2, "Q4_0", 32, 18, decode_q4_0)
        },
        Format {
            affine: Some(Affine {
                bits: 4,
                scale_and_bias: |block| Some((scale(block, 0)?, scale(block, 2)?)),
                pack: |block, out| pack_nibbles(block.get(4..20)?, out),
            }),
            ..format(3, "Q4_1", 32, 20, decode_q4_1)
        },
        format(6, "Q5_0", 32, 22, decode_q5_0),
        format(7, "Q5_1", 32, 24, decode_q5_1),
        Format {
            affine: Some(Affine {
                bits: 8,
                scale_and_bias: |block| scale(block, 0).map(|d| (d, -128.0 * d)),
                pack: |block, out| {
                    // q + 128 as an unsigned byte.
                    out.extend(block.get(2..34)?.iter().map(|q| q ^ 0x80));
                    Some(())
                },
            }),
            ..format(8, "Q8_0", 32, 34, decode_q8_0)
        },
        format(10, "Q2_K", 256, 84, decode_q2_k),
        format(11, "Q3_K", 256, 110, decode_q3_k),
        format(12, "Q4_K", 256, 144, decode_q4_k),
        format(13, "Q5_K", 256, 176, decode_q5_k),
        format(14, "Q6_K", 256, 210, decode_q6_k),
        format(20, "IQ4_NL", 32, 18, decode_iq4_nl),
        format(23, "IQ4_XS", 256, 136, decode_iq4_xs),
    ];

    /// The format with a number.
    pub fn find(id: u32) -> Option<Format> {
        Self::ALL.iter().find(|format| format.id == id).copied()
    }

    /// The name that ggml gives to a number, known here or not.
    pub fn name_of(id: u32) -> String {
        let name = match id {
            9 => "Q8_1",
            15 => "Q8_K",
            16 => "IQ2_XXS",
            17 => "IQ2_XS",
            18 => "IQ3_XXS",
            19 => "IQ1_S",
            21 => "IQ3_S",
            22 => "IQ2_S",
            24 => "I8",
            25 => "I16",
            26 => "I32",
            27 => "I64",
            28 => "F64",
            29 => "IQ1_M",
            34 => "TQ1_0",
            35 => "TQ2_0",
            39 => "MXFP4",
            _ => return format!("number {id}"),
        };
        name.to_string()
    }

    /// The values of whole blocks, appended to `out`.
    pub fn decode(&self, bytes: &[u8], out: &mut Vec<f32>) {
        let begin = out.len();
        let blocks = bytes.len() / self.bytes;
        out.resize(begin + blocks * self.block, 0.0);
        let out = out.get_mut(begin..).unwrap_or_default();
        // Plain numbers go all at once.
        let together = if self.block == 1 { blocks.max(1) } else { 1 };
        let bytes = bytes.chunks_exact(together * self.bytes);
        for (block, values) in bytes.zip(out.chunks_exact_mut(together * self.block)) {
            let done = (self.decode)(block, values);
            debug_assert!(done.is_some(), "{}: a block is {} bytes", self.name, self.bytes);
        }
    }
}

/// A float16 at a byte.
fn scale(block: &[u8], at: usize) -> Option<f32> {
    Some(f16::from_le_bytes([*block.get(at)?, *block.get(at + 1)?]).to_f32())
}

fn decode_f32(bytes: &[u8], out: &mut [f32]) -> Option<()> {
    fill(out, bytes.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)))
}

fn decode_f16(bytes: &[u8], out: &mut [f32]) -> Option<()> {
    fill(out, bytes.as_chunks().0.iter().map(|&value| f16::from_le_bytes(value).to_f32()))
}

fn decode_bf16(bytes: &[u8], out: &mut [f32]) -> Option<()> {
    fill(out, bytes.as_chunks().0.iter().map(|&value| bf16::from_le_bytes(value).to_f32()))
}

/// 16 bytes whose low halves are values 0 to 15 and whose high halves are 16 to 31.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.iter().map(|byte| byte & 15).chain(bytes.iter().map(|byte| byte >> 4))
}

/// The same values two to a byte, in order.
fn pack_nibbles(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    for shift in [0, 4] {
        for pair in bytes.chunks_exact(2) {
            let [a, b] = pair else { return None };
            out.push((a >> shift & 15) | (b >> shift & 15) << 4);
        }
    }
    Some(())
}

/// Writes what `values` gives.
fn fill(out: &mut [f32], values: impl Iterator<Item = f32>) -> Option<()> {
    out.iter_mut().zip(values).for_each(|(out, value)| *out = value);
    Some(())
}

fn decode_q4_0(block: &[u8], out: &mut [f32]) -> Option<()> {
    let d = scale(block, 0)?;
    fill(out, nibbles(block.get(2..18)?).map(|q| d * (f32::from(q) - 8.0)))
}

fn decode_q4_1(block: &[u8], out: &mut [f32]) -> Option<()> {
    let (d, m) = (scale(block, 0)?, scale(block, 2)?);
    fill(out, nibbles(block.get(4..20)?).map(|q| d * f32::from(q) + m))
}

/// The fifth bits of 32 values.
fn fifth_bits(block: &[u8], at: usize) -> Option<impl Iterator<Item = u8>> {
    let bits = u32::from_le_bytes(block.get(at..at + 4)?.try_into().ok()?);
    Some((0..32).map(move |i| ((bits >> i & 1) as u8) << 4))
}

fn decode_q5_0(block: &[u8], out: &mut [f32]) -> Option<()> {
    let d = scale(block, 0)?;
    let q = nibbles(block.get(6..22)?).zip(fifth_bits(block, 2)?).map(|(low, high)| low | high);
    fill(out, q.map(|q| d * (f32::from(q) - 16.0)))
}

fn decode_q5_1(block: &[u8], out: &mut [f32]) -> Option<()> {
    let (d, m) = (scale(block, 0)?, scale(block, 2)?);
    let q = nibbles(block.get(8..24)?).zip(fifth_bits(block, 4)?).map(|(low, high)| low | high);
    fill(out, q.map(|q| d * f32::from(q) + m))
}

fn decode_q8_0(block: &[u8], out: &mut [f32]) -> Option<()> {
    let d = scale(block, 0)?;
    fill(out, block.get(2..34)?.iter().map(|&q| d * f32::from(q as i8)))
}

/// 16 groups of 16 values in 2 bits, each with a scale and a minimum of 4 bits.
fn decode_q2_k(block: &[u8], out: &mut [f32]) -> Option<()> {
    let (scales, qs) = (block.get(..16)?, block.get(16..80)?);
    let (d, m) = (scale(block, 80)?, scale(block, 82)?);
    let mut scales = scales.iter();
    let mut groups = out.chunks_exact_mut(16);
    for half in qs.chunks_exact(32) {
        for shift in [0, 2, 4, 6] {
            for qs in half.chunks_exact(16) {
                let both = *scales.next()?;
                let (scale, min) = (d * f32::from(both & 15), m * f32::from(both >> 4));
                fill(groups.next()?, qs.iter().map(|q| scale * f32::from(q >> shift & 3) - min))?;
            }
        }
    }
    Some(())
}

/// 16 groups of 16 values in 3 bits, the third apart and inverted, each with a signed scale of 6 bits.
fn decode_q3_k(block: &[u8], out: &mut [f32]) -> Option<()> {
    let (high, qs, packed) = (block.get(..32)?, block.get(32..96)?, block.get(96..108)?);
    let d = scale(block, 108)?;
    let scale = |i: usize| {
        let low = packed.get(i % 8)? >> (4 * (i / 8)) & 15;
        let high = packed.get(8 + i % 4)? >> (2 * (i / 4)) & 3;
        Some(d * (f32::from(low | high << 4) - 32.0))
    };
    for (i, out) in out.chunks_exact_mut(16).enumerate() {
        // Groups go in pairs over the same 32 bytes: four pairs a half of qs, eight over `high`.
        let (pair, offset) = (i / 2, i % 2 * 16);
        let qs = qs.get(pair / 4 * 32 + offset..)?.iter().map(|q| q >> (pair % 4 * 2) & 3);
        let high = high.get(offset..)?.iter().map(|bits| bits >> pair & 1);
        let scale = scale(i)?;
        fill(out, qs.zip(high).map(|(q, high)| scale * (f32::from(q) - if high == 1 { 0.0 } else { 4.0 })))?;
    }
    Some(())
}

/// Scale `i` and minimum `i` of eight each in 6 bits, packed into 12 bytes.
fn scale_and_min(packed: &[u8], i: usize) -> Option<(f32, f32)> {
    let (scale, min) = if i < 4 {
        (packed.get(i)? & 63, packed.get(i + 4)? & 63)
    } else {
        let both = packed.get(i + 4)?;
        (both & 15 | packed.get(i - 4)? >> 6 << 4, both >> 4 | packed.get(i)? >> 6 << 4)
    };
    Some((scale.into(), min.into()))
}

/// Eight groups of 32 values in 4 bits.
fn decode_q4_k(block: &[u8], out: &mut [f32]) -> Option<()> {
    let (d, m) = (scale(block, 0)?, scale(block, 2)?);
    let (packed, qs) = (block.get(4..16)?, block.get(16..144)?);
    for (i, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_and_min(packed, i)?;
        let (scale, min) = (d * scale, m * min);
        let qs = qs.get(i / 2 * 32..)?.iter().map(|q| q >> (i % 2 * 4) & 15);
        fill(out, qs.map(|q| scale * f32::from(q) - min))?;
    }
    Some(())
}

/// Eight groups of 32 values in 5 bits, the fifth apart.
fn decode_q5_k(block: &[u8], out: &mut [f32]) -> Option<()> {
    let (d, m) = (scale(block, 0)?, scale(block, 2)?);
    let (packed, high, qs) = (block.get(4..16)?, block.get(16..48)?, block.get(48..176)?);
    for (i, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_and_min(packed, i)?;
        let (scale, min) = (d * scale, m * min);
        let qs = qs.get(i / 2 * 32..)?.iter().map(|q| q >> (i % 2 * 4) & 15);
        let q = qs.zip(high).map(|(q, bits)| q | (bits >> i & 1) << 4);
        fill(out, q.map(|q| scale * f32::from(q) - min))?;
    }
    Some(())
}

/// 16 groups of 16 values in 6 bits, the upper two apart, each with a signed scale of 8 bits.
fn decode_q6_k(block: &[u8], out: &mut [f32]) -> Option<()> {
    let (low, high, scales) = (block.get(..128)?, block.get(128..192)?, block.get(192..208)?);
    let d = scale(block, 208)?;
    for (i, (out, &scale)) in out.chunks_exact_mut(16).zip(scales).enumerate() {
        // In each half of 128 values: 64 low bytes give values 0..64 and 64..128, 32 high ones four times 32.
        let (half, within) = (i / 8, i % 8);
        let low = low.get(half * 64 + within % 4 * 16..)?.iter().map(|q| q >> (within / 4 * 4) & 15);
        let high = high.get(half * 32 + within % 2 * 16..)?.iter().map(|q| q >> (within / 2 * 2) & 3);
        let scale = d * f32::from(scale as i8);
        fill(out, low.zip(high).map(|(low, high)| scale * (f32::from(low | high << 4) - 32.0)))?;
    }
    Some(())
}

/// The 16 values of IQ4_NL and IQ4_XS.
const IQ4: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0,
];

fn decode_iq4_nl(block: &[u8], out: &mut [f32]) -> Option<()> {
    let d = scale(block, 0)?;
    fill(out, nibbles(block.get(2..18)?).map(|q| d * IQ4[usize::from(q & 15)]))
}

/// Eight groups of 32 values, each with a signed scale of 6 bits.
fn decode_iq4_xs(block: &[u8], out: &mut [f32]) -> Option<()> {
    let d = scale(block, 0)?;
    let high = u16::from_le_bytes(block.get(2..4)?.try_into().ok()?);
    let (low, qs) = (block.get(4..8)?, block.get(8..136)?);
    for (i, (out, qs)) in out.chunks_exact_mut(32).zip(qs.chunks_exact(16)).enumerate() {
        let low = low.get(i / 2)? >> (i % 2 * 4) & 15;
        let high = (high >> (2 * i) & 3) as u8;
        let scale = d * (f32::from(low | high << 4) - 32.0);
        fill(out, nibbles(qs).map(|q| scale * IQ4[usize::from(q & 15)]))?;
    }
    Some(())
}
