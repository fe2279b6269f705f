//! `activation(gate) * up`.

use super::isa::{Isa, for_every_isa};
use super::lines::Words;
use super::math::exp_inside;
use super::threads::for_each_part;
use super::{Activation, CLIP, SLOPE};
use crate::error::{Error, Result};
use crate::mlx::primitive::{Input, Kernel, primitive, update};
use crate::mlx::{Array, Dtype};

/// Of two arrays of one shape, the first of which becomes the result.
struct Gated(Activation);

impl Kernel for Gated {
    fn run(&self, inputs: &[Input], output: &mut [f32]) -> Result<()> {
        let [up] = inputs else { return Err(misfit()) };
        let (up, isa) = (up.values()?, Isa::best());
        if output.len() != up.len() {
            return Err(misfit());
        }
        for_each_part(output, 1, |first, gate| apply(isa, self.0, gate, &up[first..][..gate.len()]));
        Ok(())
    }
}

/// Of rows that hold gate and up beside each other.
struct Halves {
    activation: Activation,
    hidden: usize,
}

impl Kernel for Halves {
    fn run(&self, inputs: &[Input], output: &mut [f32]) -> Result<()> {
        let [both] = inputs else { return Err(misfit()) };
        apply_halves(self.activation, both.values()?, self.hidden, output)
    }
}

fn apply_halves(activation: Activation, both: &[f32], hidden: usize, output: &mut [f32]) -> Result<()> {
    if both.len() != 2 * output.len() {
        return Err(misfit());
    }
    let isa = Isa::best();
    for_each_part(output, hidden, |first, part| {
        let rows = both[2 * hidden * first..].chunks_exact(2 * hidden);
        for (out, row) in part.chunks_exact_mut(hidden).zip(rows) {
            let (gate, up) = row.split_at(hidden);
            out.copy_from_slice(gate);
            apply(isa, activation, out, up);
        }
    });
    Ok(())
}

/// [`gated_halves`] of rows behind each other.
pub(super) fn halves(activation: Activation, both: &[f32], hidden: usize) -> Result<Words> {
    let mut out = Words::room(both.len() / 2);
    apply_halves(activation, both, hidden, out.floats_mut())?;
    Ok(out)
}

/// [`gated`] of values.
pub(super) fn gated_values(activation: Activation, gate: &[f32], up: &[f32]) -> Result<Words> {
    if gate.len() != up.len() {
        return Err(misfit());
    }
    let (mut out, isa) = (Words::room(gate.len()), Isa::best());
    for_each_part(out.floats_mut(), 1, |first, part| {
        part.copy_from_slice(&gate[first..][..part.len()]);
        apply(isa, activation, part, &up[first..][..part.len()]);
    });
    Ok(out)
}

fn misfit() -> Error {
    Error::Internal("gate and up do not fit together".into())
}

for_every_isa! {
    /// `gate = activation(gate) * up`.
    fn apply = apply_with(activation: Activation, gate: &mut [f32], up: &[f32])
}

#[inline(always)]
fn apply_with<const FMA: bool>(activation: Activation, gate: &mut [f32], up: &[f32]) {
    match activation {
        Activation::Silu => each(gate, up, silu::<FMA>),
        Activation::GeluTanh => each(gate, up, gelu_tanh::<FMA>),
        Activation::ClippedSwish => each(gate, up, clipped_swish::<FMA>),
    }
}

#[inline(always)]
fn each(gate: &mut [f32], up: &[f32], function: impl Fn(f32, f32) -> f32) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = function(*gate, *up);
    }
}

#[inline(always)]
fn silu<const FMA: bool>(gate: f32, up: f32) -> f32 {
    gate / (1.0 + exp::<FMA>(-gate, 0.0)) * up
}

/// `x / 2 * (1 + tanh(z))` is `x / (1 + exp(-2 * z))`, here with `z = sqrt(2 / pi) * (x + 0.044715 * x^3)`.
#[inline(always)]
fn gelu_tanh<const FMA: bool>(gate: f32, up: f32) -> f32 {
    const ROOT: f64 = 0.797_884_560_802_865_4;
    let x = f64::from(gate);
    gate / (1.0 + exp_of_double::<FMA>(-2.0 * ROOT * (x + 0.044_715 * (x * x * x)))) * up
}

#[inline(always)]
fn clipped_swish<const FMA: bool>(gate: f32, up: f32) -> f32 {
    // NaN stays.
    let gate = if gate > CLIP { CLIP } else { gate };
    let up = if up > CLIP { CLIP } else { up };
    let up = if up < -CLIP { -CLIP } else { up };
    let slope = f64::from(SLOPE);
    gate / (1.0 + exp_of_double::<FMA>(-slope * f64::from(gate))) * (up + 1.0)
}

/// `exp(x)`: a large argument's rounding would be the result's relative error.
#[inline(always)]
fn exp_of_double<const FMA: bool>(x: f64) -> f32 {
    let x = if x > 100.0 { 100.0 } else { x };
    let x = if x < -100.0 { -100.0 } else { x };
    exp::<FMA>(x as f32, (x - f64::from(x as f32)) as f32)
}

/// `exp(x + rest)` with a small `rest`: infinity for `x` beyond 88, next to nothing below -87.
#[inline(always)]
fn exp<const FMA: bool>(x: f32, rest: f32) -> f32 {
    let within = if x > -87.0 { x } else { -87.0 };
    let within = if within < 88.0 { within } else { 88.0 };
    let value = exp_inside::<FMA>(within, rest);
    if x > 88.0 { f32::INFINITY } else { value }
}

/// `activation(gate) * up` of two float32 arrays of one shape.
pub fn gated(activation: Activation, gate: &Array, up: &Array) -> Result<Option<Array>> {
    let fits = gate.shape() == up.shape() && gate.dtype() == Dtype::F32 && up.dtype() == Dtype::F32;
    if !fits || !super::compute()? {
        return Ok(None);
    }
    update(Gated(activation), gate.clone(), &[up]).map(Some)
}

/// The same of a float32 array `[.., 2 * hidden]`, each row gate and then up: `[.., hidden]`.
pub fn gated_halves(activation: Activation, both: &Array) -> Result<Option<Array>> {
    let Some((columns, outer)) = both.shape().split_last() else { return Ok(None) };
    if both.dtype() != Dtype::F32 || columns % 2 != 0 || !super::compute()? {
        return Ok(None);
    }
    let kernel = Halves { activation, hidden: (columns / 2) as usize };
    primitive(kernel, &[both], &[outer, &[columns / 2]].concat()).map(Some)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{normal, relative_error};
    use super::*;
    use crate::mlx::{Device, ops, use_device};
    use rand::SeedableRng;
    use rand_pcg::Pcg64;

    const ALL: [Activation; 3] = [Activation::Silu, Activation::GeluTanh, Activation::ClippedSwish];

    /// In float64.
    fn exact(activation: Activation, gate: f32, up: f32) -> f64 {
        let (x, up) = (f64::from(gate), f64::from(up));
        match activation {
            Activation::Silu => x / (1.0 + (-x).exp()) * up,
            Activation::GeluTanh => {
                let z = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                x / (1.0 + (-2.0 * z).exp()) * up
            }
            Activation::ClippedSwish => {
                let x = x.min(7.0);
                x / (1.0 + (-f64::from(SLOPE) * x).exp()) * (up.clamp(-7.0, 7.0) + 1.0)
            }
        }
    }

    #[test]
    fn gates_are_exact_to_a_few_units_in_the_last_place() {
        for activation in ALL {
            // GELU's tail is below float32's normal numbers soon.
            let reach = if activation == Activation::GeluTanh { 9.0 } else { 45.0 };
            let gate: Vec<f32> = (-40_000..40_000).map(|i| i as f32 * (reach / 40_000.0)).collect();
            let up: Vec<f32> = (0..gate.len()).map(|i| (i % 37) as f32 - 18.3).collect();
            let mut fused = None;
            for isa in Isa::available() {
                let mut out = gate.clone();
                apply(isa, activation, &mut out, &up);
                for ((&gate, &up), &got) in gate.iter().zip(&up).zip(&out) {
                    let want = exact(activation, gate, up);
                    let error = (f64::from(got) - want).abs();
                    assert!(
                        error <= 3e-7 * want.abs(),
                        "{isa:?}, {activation:?}({gate}) * {up} = {got}, not {want}"
                    );
                }
                if isa != Isa::Portable {
                    assert!(*fused.get_or_insert_with(|| out.clone()) == out, "{isa:?}");
                }
            }
        }
    }

    #[test]
    fn extreme_gates_become_what_they_should() {
        for isa in Isa::available() {
            for activation in ALL {
                let mut gate = [-f32::MAX, -1e5, -200.0, 0.0, -0.0, 1e5, f32::MAX, f32::NAN, f32::INFINITY];
                apply(isa, activation, &mut gate, &[1.0; 9]);
                assert_eq!(gate[..5], [0.0; 5], "{isa:?}, {activation:?}");
                let highest = exact(activation, CLIP, 1.0) as f32;
                if activation == Activation::ClippedSwish {
                    assert!((gate[5] - highest).abs() < 1e-5 && gate[6] == gate[5] && gate[8] == gate[5]);
                } else {
                    assert_eq!([gate[5], gate[6], gate[8]], [1e5, f32::MAX, f32::INFINITY]);
                }
                assert!(gate[7].is_nan());
                let mut gate = [1.0];
                apply(isa, activation, &mut gate, &[f32::NAN]);
                assert!(gate[0].is_nan());
            }
        }
    }

    #[test]
    fn gates_are_mlxs_of_any_size() {
        use_device(Device::Cpu).unwrap();
        let mut rng = Pcg64::seed_from_u64(11);
        for shape in [[1, 1, 1], [1, 1, 4864], [1, 3, 17], [2, 40, 1001]] {
            let mut random = |shape: &[i32]| {
                let values: Vec<f32> =
                    (0..shape.iter().product()).map(|_: i32| 4.0 * normal(&mut rng)).collect();
                Array::from_f32(&values, shape).unwrap()
            };
            let hidden = shape[2];
            let both = random(&[shape[0], shape[1], 2 * hidden]);
            let part = |start| ops::slice(&both, 2, start, start + hidden).unwrap();
            let (gate, up) = (part(0), part(hidden));
            for activation in ALL {
                let ours = gated(activation, &gate, &up).unwrap().unwrap();
                assert_eq!(ours.shape(), shape);
                let ours = ours.to_vec_f32().unwrap();
                let halves = gated_halves(activation, &both).unwrap().unwrap();
                assert_eq!(halves.shape(), shape);
                assert!(halves.to_vec_f32().unwrap() == ours);
                // In 16 bits MLX computes.
                let bf16 = |x: &Array| ops::astype(x, Dtype::BF16).unwrap();
                assert!(gated(activation, &bf16(&gate), &bf16(&up)).unwrap().is_none());
                let theirs = activation.gated(&bf16(&gate), &bf16(&up)).unwrap();
                assert!(relative_error(&ours, &theirs.to_vec_f32().unwrap()) < 0.03);
                // Still the caller's.
                assert_eq!(gated(activation, &gate, &up).unwrap().unwrap().to_vec_f32().unwrap(), ours);
            }
        }
    }
}
