//! MLX's fused operations: norms, rotary positions, attention.

use super::{arange, build, greater_equal, null, or_null, reshape, sys};
use crate::error::Result;
use crate::mlx::Array;

/// `x / rms(x) * weight` over the last axis, with `eps` added to the mean square.
/// Without `weight` there is no last factor.
pub fn rms_norm(x: &Array, weight: Option<&Array>, eps: f32) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_fast_rms_norm(out, x.raw(), or_null(weight), eps, s) })
}

/// `(x - mean(x)) / sqrt(var(x) + eps) * weight + bias` over the last axis.
pub fn layer_norm(x: &Array, weight: &Array, bias: Option<&Array>, eps: f32) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_fast_layer_norm(out, x.raw(), weight.raw(), or_null(bias), eps, s) })
}

/// Where rotary angles come from.
#[derive(Debug, Clone)]
pub enum RopeFrequencies {
    /// `base^(-2i/dims)`.
    Base(f32),
    /// One period per pair of dimensions, float32 of length `dims / 2`.
    Table(Array),
}

/// Rotary position embedding of `x` (`[.., length, head_dim]`) on its first `dims` dimensions, for
/// positions `offset..`, each multiplied by `scale`.
pub fn rope(
    x: &Array,
    dims: i32,
    traditional: bool,
    frequencies: &RopeFrequencies,
    scale: f32,
    offset: i32,
) -> Result<Array> {
    let (base, table) = base_and_table(frequencies);
    // SAFETY: all handles are live.
    build(|out, s| unsafe {
        sys::mlx_fast_rope(out, x.raw(), dims, traditional, base, scale, offset, table, s)
    })
}

/// The same with an offset for every `x[i]`: int32 `[x.dim(0)]`.
pub fn rope_each(
    x: &Array,
    dims: i32,
    traditional: bool,
    frequencies: &RopeFrequencies,
    scale: f32,
    offsets: &Array,
) -> Result<Array> {
    let (base, table) = base_and_table(frequencies);
    // SAFETY: all handles are live.
    build(|out, s| unsafe {
        sys::mlx_fast_rope_dynamic(out, x.raw(), dims, traditional, base, scale, offsets.raw(), table, s)
    })
}

fn base_and_table(frequencies: &RopeFrequencies) -> (sys::mlx_optional_float, sys::mlx_array) {
    match frequencies {
        RopeFrequencies::Base(base) => (sys::mlx_optional_float { value: *base, has_value: true }, null()),
        RopeFrequencies::Table(table) => {
            (sys::mlx_optional_float { value: 0.0, has_value: false }, table.raw())
        }
    }
}

/// Which keys each query sees.
#[derive(Debug, Clone)]
pub enum Mask {
    /// All of them.
    None,
    /// Those up to its own position, queries being the last positions.
    Causal,
    /// Where the boolean array, broadcast to `[.., queries, keys]`, is true.
    Array(Array),
}

impl Mask {
    /// The boolean array `[queries, keys]`; `None` where all keys are seen.
    pub fn to_array(&self, queries: i32, keys: i32) -> Result<Option<Array>> {
        match self {
            Mask::None => Ok(None),
            Mask::Causal => {
                let positions = reshape(&arange(keys - queries, keys)?, &[queries, 1])?;
                greater_equal(&positions, &arange(0, keys)?).map(Some)
            }
            Mask::Array(array) => Ok(Some(array.clone())),
        }
    }
}

/// `softmax(scale * q @ k.T + mask) @ v`: q is `[batch, heads, queries, head_dim]`, k and v
/// `[batch, kv_heads, keys, head_dim]` with `heads` a multiple of `kv_heads`. `sinks` `[heads]` are
/// scores of keys without a value, which take a share of the softmax (Xiao et al. 2023).
pub fn attention(
    q: &Array,
    k: &Array,
    v: &Array,
    scale: f32,
    mask: &Mask,
    sinks: Option<&Array>,
) -> Result<Array> {
    let (mode, array) = match mask {
        Mask::None => (c"", null()),
        Mask::Causal => (c"causal", null()),
        Mask::Array(array) => (c"array", array.raw()),
    };
    // SAFETY: all handles are live.
    build(|out, s| unsafe {
        sys::mlx_fast_scaled_dot_product_attention(
            out,
            q.raw(),
            k.raw(),
            v.raw(),
            scale,
            mode.as_ptr(),
            array,
            or_null(sinks),
            false,
            s,
        )
    })
}
