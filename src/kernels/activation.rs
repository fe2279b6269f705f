//! What gated blocks apply to their gates.

/// An elementwise non-linearity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// GELU by its tanh approximation (Hendrycks and Gimpel 2016).
    GeluTanh,
    /// gpt-oss's: `g * sigmoid(1.702 * g)` with `g = min(x, 7)`. What it gates is clipped too, to
    /// between -7 and 7, and increased by 1.
    ClippedSwish,
}

/// Where [`Activation::ClippedSwish`] clips.
pub(crate) const CLIP: f32 = 7.0;
/// What [`Activation::ClippedSwish`] multiplies the sigmoid's argument with.
pub(crate) const SLOPE: f32 = 1.702;
