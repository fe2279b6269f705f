//! Operations on each element. Two operands broadcast against each other.

use super::{build, sys};
use crate::error::Result;
use crate::mlx::{Array, Dtype};

macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident => $c:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(a: &Array, b: &Array) -> Result<Array> {
            // SAFETY: all handles are live.
            build(|out, s| unsafe { sys::$c(out, a.raw(), b.raw(), s) })
        }
    )*};
}

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident => $c:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(a: &Array) -> Result<Array> {
            // SAFETY: all handles are live.
            build(|out, s| unsafe { sys::$c(out, a.raw(), s) })
        }
    )*};
}

binary! {
    /// `a + b`.
    add => mlx_add;
    /// `a - b`.
    subtract => mlx_subtract;
    /// `a * b`.
    multiply => mlx_multiply;
    /// `a / b`.
    divide => mlx_divide;
    /// `a` to the power of `b`.
    power => mlx_power;
    /// The smaller of both.
    minimum => mlx_minimum;
    /// `log(exp(a) + exp(b))`.
    logaddexp => mlx_logaddexp;
    /// `a >= b`.
    greater_equal => mlx_greater_equal;
    /// `a < b`.
    less => mlx_less;
    /// `a && b`.
    logical_and => mlx_logical_and;
    /// `a / b` rounded down.
    floor_divide => mlx_floor_divide;
}

unary! {
    /// Logistic function.
    sigmoid => mlx_sigmoid;
    /// Hyperbolic tangent.
    tanh => mlx_tanh;
    /// `a * a`.
    square => mlx_square;
    /// `e` to the power of `a`.
    exp => mlx_exp;
    /// Natural logarithm.
    log => mlx_log;
    /// `-a`.
    negative => mlx_negative;
}

/// The same data with another element type.
pub fn astype(a: &Array, dtype: Dtype) -> Result<Array> {
    let dtype = dtype.raw()?;
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_astype(out, a.raw(), dtype, s) })
}

/// `value` in the type of `like`: a float32 constant would turn a 16-bit computation into float32.
pub fn constant(value: f32, like: &Array) -> Result<Array> {
    astype(&Array::scalar(value)?, like.dtype())
}

/// `a * value` in a's type.
pub fn scale(a: &Array, value: f32) -> Result<Array> {
    multiply(a, &constant(value, a)?)
}

/// `a` where the condition holds, else `b`.
pub fn select(condition: &Array, a: &Array, b: &Array) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_where(out, condition.raw(), a.raw(), b.raw(), s) })
}

/// `x` clipped to `[low, high]`.
pub fn clip(x: &Array, low: &Array, high: &Array) -> Result<Array> {
    // SAFETY: all handles are live.
    build(|out, s| unsafe { sys::mlx_clip(out, x.raw(), low.raw(), high.raw(), s) })
}
