//! Rotary positions.

use super::Rotation;
use super::isa::{Isa, for_every_isa};
use super::strided::{Rows, vector};
use super::threads::for_each_part;
use crate::error::{Error, Result};
use crate::mlx::ops::RopeFrequencies;
use crate::mlx::primitive::{Input, Kernel, primitives};
use crate::mlx::{Array, Dtype};

struct Rope {
    head_dim: usize,
    turn: Turn,
    /// `None`: the periods are an input.
    base: Option<f32>,
    scale: f32,
}

impl Kernel for Rope {
    const AS_THEY_LIE: bool = true;

    fn run_many(&self, inputs: &[Input], outputs: &mut [&mut [f32]]) -> Result<()> {
        let (all, others) = inputs.split_at_checked(outputs.len()).ok_or_else(misfit)?;
        let [positions, periods @ ..] = others else { return Err(misfit()) };
        let pairs = self.turn.dims / 2;
        let scale = f64::from(self.scale);
        let speeds: Vec<f64> = match (self.base, periods) {
            (Some(base), _) => {
                let step = -f64::from(base).ln() / pairs as f64;
                (0..pairs).map(|pair| scale * (step * pair as f64).exp()).collect()
            }
            (None, [periods]) => vector(periods)?.iter().map(|&period| scale / f64::from(period)).collect(),
            _ => return Err(misfit()),
        };
        let (&[count], &[stride]) = (positions.shape(), positions.strides()) else { return Err(misfit()) };
        let (positions, stride): (&[i32], _) = (positions.values()?, stride as usize);
        if speeds.len() != pairs {
            return Err(misfit());
        }
        for (input, output) in all.iter().zip(outputs) {
            let columns = input.shape().last().map_or(0, |&columns| columns as usize);
            if output.len() != count as usize * columns {
                return Err(misfit());
            }
            let (rows, isa) = (Rows::new(input)?, Isa::best());
            for_each_part(output, columns, |first, part| {
                let mut room = vec![0.0; 2 * pairs];
                let (cos, sin) = room.split_at_mut(pairs);
                for (token, out) in part.chunks_exact_mut(columns).enumerate() {
                    let position = f64::from(positions[(first + token) * stride]);
                    cos_sin(isa, position, &speeds, self.turn.gain, cos, sin);
                    let x = rows.row(first + token);
                    turn(isa, self.turn, self.head_dim, &x, cos, sin, out);
                }
            });
        }
        Ok(())
    }
}

fn misfit() -> Error {
    Error::Internal("heads and positions do not fit together".into())
}

for_every_isa! {
    /// `gain * cos(position * speed)` and the same of the sine, for every speed.
    fn cos_sin = cos_sin_with(position: f64, speeds: &[f64], gain: f32, cos: &mut [f32], sin: &mut [f32])
}

/// In float64, so that a far position's angle is exact too. The polynomials are Cephes's (Moshier 1992), which
/// are right to float32's last place.
#[inline(always)]
fn cos_sin_with<const FMA: bool>(position: f64, speeds: &[f64], gain: f32, cos: &mut [f32], sin: &mut [f32]) {
    // 1.5 * 2^52: adding it rounds to whole numbers, which then are the last bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let gain = f64::from(gain);
    for ((cos, sin), speed) in cos.iter_mut().zip(sin).zip(speeds) {
        let angle = position * speed;
        let quarters = angle * std::f64::consts::FRAC_2_PI + ROUND;
        let r = angle - (quarters - ROUND) * std::f64::consts::FRAC_PI_2;
        let square = r * r;
        let s = (-1.951_529_589_1e-4 * square + 8.332_160_873_6e-3) * square - 1.666_665_461_1e-1;
        let s = s * square * r + r;
        let c = (2.443_315_711_809_948e-5 * square - 1.388_731_625_493_765e-3) * square;
        let c = (c + 4.166_664_568_298_827e-2) * square * square - 0.5 * square + 1.0;
        let turns = quarters.to_bits();
        let (c, s) = if turns & 1 == 0 { (c, s) } else { (s, c) };
        *cos = ((if (turns + 1) & 2 == 0 { c } else { -c }) * gain) as f32;
        *sin = ((if turns & 2 == 0 { s } else { -s }) * gain) as f32;
    }
}

/// How each head turns.
#[derive(Clone, Copy)]
struct Turn {
    dims: usize,
    traditional: bool,
    gain: f32,
}

for_every_isa! {
    /// Every head of `x`, by one token's angles.
    fn turn = turn_with(turn: Turn, head_dim: usize, x: &[f32], cos: &[f32], sin: &[f32], out: &mut [f32])
}

#[inline(always)]
fn turn_with<const FMA: bool>(
    turn: Turn,
    head_dim: usize,
    x: &[f32],
    cos: &[f32],
    sin: &[f32],
    out: &mut [f32],
) {
    let Turn { dims, traditional, .. } = turn;
    for (x, out) in x.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim)) {
        let (x, kept) = x.split_at(dims);
        let (out, rest) = out.split_at_mut(dims);
        rest.copy_from_slice(kept);
        let angles = cos.iter().zip(sin);
        if traditional {
            let pairs = x.as_chunks::<2>().0.iter().zip(out.as_chunks_mut::<2>().0);
            for (([x, y], out), (cos, sin)) in pairs.zip(angles) {
                *out = [x * cos - y * sin, x * sin + y * cos];
            }
        } else {
            let (x, y) = x.split_at(dims / 2);
            let (out_x, out_y) = out.split_at_mut(dims / 2);
            let pairs = x.iter().zip(y).zip(out_x.iter_mut().zip(out_y));
            for (((x, y), (out_x, out_y)), (cos, sin)) in pairs.zip(angles) {
                *out_x = x * cos - y * sin;
                *out_y = x * sin + y * cos;
            }
        }
    }
}

/// Turns heads by their tokens' positions: each `x` float32 `[.., heads * head_dim]`, a row a token, `positions`
/// int32, one for each of the rows.
pub fn rope<const N: usize>(
    all: [&Array; N],
    positions: &Array,
    rotation: &Rotation,
) -> Result<Option<[Array; N]>> {
    let &Rotation { head_dim, dims, traditional, frequencies, scale, gain } = rotation;
    let (base, periods) = match frequencies {
        RopeFrequencies::Base(base) => (Some(*base), None),
        RopeFrequencies::Table(periods) => (None, Some(periods)),
    };
    let fits = |x: &Array| {
        let columns = x.shape().last().copied().unwrap_or(0);
        x.dtype() == Dtype::F32
            && (1..=columns).contains(&head_dim)
            && columns % head_dim == 0
            && positions.size() == x.size() / columns as usize
    };
    let fit = all.into_iter().all(fits)
        && (0..=head_dim).contains(&dims)
        && dims % 2 == 0
        && positions.dtype() == Dtype::I32
        && positions.shape().len() == 1
        && periods.is_none_or(|periods| periods.dtype().is_float() && periods.shape() == [dims / 2]);
    if !fit || !super::compute()? {
        return Ok(None);
    }
    let turn = Turn { dims: dims as usize, traditional, gain };
    let kernel = Rope { head_dim: head_dim as usize, turn, base, scale };
    let inputs: Vec<&Array> = all.into_iter().chain([positions]).chain(periods).collect();
    primitives(kernel, &inputs, all.map(Array::shape)).map(Some)
}

#[cfg(test)]
mod tests {
    use super::super::tests::normal;
    use super::*;
    use crate::mlx::{Device, ops, use_device};
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64;

    const BASE: f32 = 1e6;

    /// One head turned in float64.
    fn turned(x: &[f32], position: i32, rotation: &Rotation, periods: &[f64]) -> Vec<f64> {
        let mut out: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let pairs = rotation.dims as usize / 2;
        for (pair, period) in periods.iter().enumerate() {
            let (i, j) = if rotation.traditional { (2 * pair, 2 * pair + 1) } else { (pair, pair + pairs) };
            let angle = f64::from(position) * f64::from(rotation.scale) / period;
            let (x, y) = (f64::from(x[i]), f64::from(x[j]));
            let gain = f64::from(rotation.gain);
            out[i] = gain * (x * angle.cos() - y * angle.sin());
            out[j] = gain * (x * angle.sin() + y * angle.cos());
        }
        out
    }

    fn one(x: &Array, positions: &Array, rotation: &Rotation) -> Array {
        let [turned] = rope([x], positions, rotation).unwrap().unwrap();
        turned
    }

    fn random(rng: &mut Pcg64, shape: &[i32]) -> Array {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_: i32| normal(rng)).collect();
        Array::from_f32(&values, shape).unwrap()
    }

    fn largest_error(a: &[f32], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn heads_turn_as_in_mlx_but_exactly() {
        use_device(Device::Cpu).unwrap();
        let mut rng = Pcg64::seed_from_u64(12);
        for (heads, head_dim, dims, tokens) in [
            (14, 64, 64, 1),
            (2, 64, 64, 9),
            (3, 80, 32, 5),
            (1, 6, 2, 4),
            (1, 10, 10, 70),
            (4, 128, 128, 200),
        ] {
            let x = random(&mut rng, &[1, tokens, heads * head_dim]);
            let values = x.to_vec_f32().unwrap();
            let periods: Vec<f32> = (0..dims / 2).map(|pair| 1.0 + 7.3 * pair as f32).collect();
            let periods = Array::from_f32(&periods, &[dims / 2]).unwrap();
            let tables = [RopeFrequencies::Base(BASE), RopeFrequencies::Table(periods)];
            for (frequencies, traditional) in tables.iter().flat_map(|table| [(table, false), (table, true)])
            {
                let scale = if traditional { 0.25 } else { 1.0 };
                let mut rotation = Rotation { head_dim, dims, traditional, frequencies, scale, gain: 1.0 };
                let exact_periods: Vec<f64> = match frequencies {
                    RopeFrequencies::Base(base) => (0..dims / 2)
                        .map(|pair| f64::from(*base).powf(2.0 * f64::from(pair) / f64::from(dims)))
                        .collect(),
                    RopeFrequencies::Table(table) => {
                        table.to_vec_f32().unwrap().into_iter().map(f64::from).collect()
                    }
                };
                let name = format!("{tokens} x {heads} x {head_dim}, {rotation:?}");
                // MLX's angles are float32's, and so is its error at a far position.
                for (start, tolerance) in [(0, 1e-4), (100_000 - tokens, 0.1)] {
                    let positions: Vec<i32> = (start..start + tokens).collect();
                    let positions = Array::from_i32(&positions, &[tokens]).unwrap();
                    let ours = one(&x, &positions, &rotation);
                    assert_eq!(ours.shape(), x.shape());
                    let ours = ours.to_vec_f32().unwrap();
                    let apart = ops::reshape(&x, &[1, tokens, heads, head_dim]).unwrap();
                    let apart = ops::transpose(&apart, &[0, 2, 1, 3]).unwrap();
                    let theirs = ops::rope(&apart, dims, traditional, frequencies, scale, start).unwrap();
                    let theirs = ops::contiguous(&ops::transpose(&theirs, &[0, 2, 1, 3]).unwrap()).unwrap();
                    let theirs = theirs.to_vec_f32().unwrap();
                    let mut exact: Vec<f64> = vec![];
                    for (row, position) in values.chunks((heads * head_dim) as usize).zip(start..) {
                        for x in row.chunks(head_dim as usize) {
                            exact.extend(turned(x, position, &rotation, &exact_periods));
                        }
                    }
                    let (error, their_error) = (largest_error(&ours, &exact), largest_error(&theirs, &exact));
                    assert!(error < 1e-6, "{name} from {start}: {error}");
                    assert!(error <= their_error.max(5e-7), "{name}: {error}, MLX {their_error}");
                    assert!(their_error < tolerance, "{name} from {start}: MLX's {their_error}");
                    // With a gain.
                    rotation.gain = 1.5;
                    let ours = one(&x, &positions, &rotation).to_vec_f32().unwrap();
                    let gained = |i: usize, x: f64| {
                        if i as i32 % head_dim < dims { 1.5 * x } else { x }
                    };
                    let exact: Vec<f64> = exact.iter().enumerate().map(|(i, &x)| gained(i, x)).collect();
                    assert!(largest_error(&ours, &exact) < 1.5e-6, "{name}");
                    rotation.gain = 1.0;
                }
            }
        }
    }

    #[test]
    fn a_token_depends_on_its_position_alone() {
        use_device(Device::Cpu).unwrap();
        let mut rng = Pcg64::seed_from_u64(13);
        // Queries and keys of one product.
        let all = random(&mut rng, &[1, 200, 600]);
        let x = ops::slice(&all, 2, 100, 100 + 400).unwrap();
        let positions: Vec<i32> = (0..200).map(|_| rng.random_range(0..131_072)).collect();
        let array = Array::from_i32(&positions, &[200]).unwrap();
        let frequencies = RopeFrequencies::Base(BASE);
        let rotation = Rotation {
            head_dim: 40,
            dims: 40,
            traditional: false,
            frequencies: &frequencies,
            scale: 1.0,
            gain: 1.0,
        };
        let turned = one(&x, &array, &rotation).to_vec_f32().unwrap();
        for token in [0, 77, 199] {
            let alone = ops::contiguous(&ops::slice(&x, 1, token, token + 1).unwrap()).unwrap();
            let position = ops::slice(&array, 0, token, token + 1).unwrap();
            let alone = one(&alone, &position, &rotation).to_vec_f32().unwrap();
            assert_eq!(alone, turned[token as usize * 400..][..400]);
        }
        let position = Array::from_i32(&[1], &[1]).unwrap();
        assert!(rope([&x], &position, &rotation).unwrap().is_none(), "a position for each token");
        assert!(rope([&x], &array, &Rotation { head_dim: 37, ..rotation }).unwrap().is_none());
        assert!(rope([&x], &array, &Rotation { dims: 41, ..rotation }).unwrap().is_none());
    }

    #[test]
    fn a_pair_without_a_period_stays() {
        use_device(Device::Cpu).unwrap();
        let x = Array::from_f32(&[0.1, 0.2, 0.3, 0.4], &[1, 1, 4]).unwrap();
        let periods = Array::from_f32(&[1.0, f32::INFINITY], &[2]).unwrap();
        let rotation = Rotation {
            head_dim: 4,
            dims: 4,
            traditional: true,
            frequencies: &RopeFrequencies::Table(periods),
            scale: 1.0,
            gain: 1.0,
        };
        let position = Array::from_i32(&[99_999], &[1]).unwrap();
        let turned = one(&x, &position, &rotation).to_vec_f32().unwrap();
        assert_eq!(turned[2..], [0.3, 0.4]);
    }

    #[test]
    fn every_isa_turns_alike() {
        let speeds: Vec<f64> = (0..33).map(|pair| 1.0 / (1.0 + f64::from(pair))).collect();
        for position in [0.0, 1.0, 12_345.0, 1e6] {
            let angles = Isa::available().into_iter().map(|isa| {
                let (mut cos, mut sin) = ([f32::NAN; 33], [f32::NAN; 33]);
                cos_sin(isa, position, &speeds, 1.0, &mut cos, &mut sin);
                for ((cos, sin), speed) in cos.iter().zip(sin).zip(&speeds) {
                    let angle = position * speed;
                    assert!((f64::from(*cos) - angle.cos()).abs() < 1e-7, "cos({angle}) = {cos}");
                    assert!((f64::from(sin) - angle.sin()).abs() < 1e-7, "sin({angle}) = {sin}");
                }
                (cos, sin)
            });
            let angles: Vec<_> = angles.collect();
            assert!(angles.iter().all(|angle| *angle == angles[0]));
        }
    }
}
