//! The gated delta rule (Yang et al. 2024, "Gated Delta Networks"): a memory `S` `[key_dim, value_dim]`
//! a head, which decays, and in which what is written at a key replaces what was read there:
//!
//! ```text
//! S_t = g_t S_{t-1} + k_t^T delta_t    delta_t = beta_t (v_t - k_t g_t S_{t-1})    y_t = q_t S_t
//! ```
//!
//! One position is computed so. Several are computed in chunks, by matrix products (section 3.3 there):
//! with `c_t` the product of `g_1..g_t`, all the deltas of a chunk are the solution of one triangular
//! system, `delta_t + sum_{s<t} beta_t (c_t/c_s) (k_t k_s) delta_s = beta_t (v_t - c_t k_t S_0)`.

use crate::error::Result;
use crate::mlx::{Array, Dtype, ops};

/// Positions that are computed at once.
const CHUNK: i32 = 32;

/// What goes into the memory and is read from it: float32 `[batch, heads, length, ..]`.
struct Inputs {
    q: Array,
    k: Array,
    v: Array,
    /// `ln(g)`, last axis 1.
    log_decay: Array,
    /// Last axis 1.
    beta: Array,
}

impl Inputs {
    fn length(&self) -> i32 {
        self.q.dim(2)
    }

    fn chunk(&self, start: i32, stop: i32) -> Result<Inputs> {
        let part = |x: &Array| ops::slice(x, 2, start, stop);
        Ok(Inputs {
            q: part(&self.q)?,
            k: part(&self.k)?,
            v: part(&self.v)?,
            log_decay: part(&self.log_decay)?,
            beta: part(&self.beta)?,
        })
    }
}

/// Runs the rule over `q`, `k` `[batch, length, key_heads, key_dim]`, `v` `[batch, length, heads,
/// value_dim]` with `heads` a multiple of `key_heads`, and `log_decay`, `beta` `[batch, length, heads]`.
/// Gives what is read, float32 in the shape of `v`, and the state behind the last position, float32
/// `[batch, heads, key_dim, value_dim]`. `state`: that of the positions before; `None`: there were none.
pub fn gated_delta(
    [q, k, v]: [&Array; 3],
    log_decay: &Array,
    beta: &Array,
    state: Option<&Array>,
) -> Result<(Array, Array)> {
    let (heads, repeats) = (v.dim(2), v.dim(2) / k.dim(2));
    let heads_first = |x: &Array| ops::swap_axes(&ops::astype(x, Dtype::F32)?, 1, 2);
    let repeated = |x: &Array| if repeats > 1 { ops::repeat(x, repeats, 2) } else { Ok(x.clone()) };
    let inputs = Inputs {
        q: heads_first(&repeated(q)?)?,
        k: heads_first(&repeated(k)?)?,
        v: heads_first(v)?,
        log_decay: heads_first(&ops::expand_dims(log_decay, -1)?)?,
        beta: heads_first(&ops::expand_dims(beta, -1)?)?,
    };
    let mut state = match state {
        Some(state) => state.clone(),
        None => ops::zeros(&[v.dim(0), heads, k.dim(3), v.dim(3)], Dtype::F32)?,
    };
    let length = inputs.length();
    let mut read = vec![];
    for start in (0..length).step_by(CHUNK as usize) {
        let (y, next) = match (start + CHUNK).min(length) {
            stop if stop == start + 1 => step(&inputs.chunk(start, stop)?, &state)?,
            stop => chunk(&inputs.chunk(start, stop)?, &state)?,
        };
        read.push(y);
        state = next;
    }
    let read = ops::concatenate(&read.iter().collect::<Vec<_>>(), 2)?;
    Ok((ops::swap_axes(&read, 1, 2)?, state))
}

/// One position.
fn step(inputs: &Inputs, state: &Array) -> Result<(Array, Array)> {
    let Inputs { q, k, v, log_decay, beta } = inputs;
    let state = ops::multiply(&ops::exp(log_decay)?, state)?;
    let delta = ops::multiply(beta, &ops::subtract(v, &ops::matmul(k, &state)?)?)?;
    let state = ops::add(&state, &ops::multiply(&ops::swap_axes(k, 2, 3)?, &delta)?)?;
    Ok((ops::matmul(q, &state)?, state))
}

/// Several positions.
fn chunk(inputs: &Inputs, state: &Array) -> Result<(Array, Array)> {
    let Inputs { q, k, v, log_decay, beta } = inputs;
    let length = inputs.length();
    let transposed = ops::swap_axes(k, 2, 3)?;
    let before = mask(length, |t, s| s < t)?;
    // c_t / c_s for s <= t: summed up from s on, as a quotient of small numbers would be inexact.
    let sums = ops::cumsum(&ops::multiply(log_decay, &before)?, 2)?;
    let decays = ops::multiply(&ops::exp(&sums)?, &mask(length, |t, s| s <= t)?)?;
    let from_start = ops::exp(&ops::cumsum(log_decay, 2)?)?;

    let overlap = ops::multiply(&ops::multiply(&ops::matmul(k, &transposed)?, &decays)?, beta)?;
    let known = ops::multiply(&from_start, &ops::matmul(k, state)?)?;
    let wanted = ops::multiply(beta, &ops::subtract(v, &known)?)?;
    let delta = ops::matmul(&inverse(&ops::multiply(&overlap, &before)?)?, &wanted)?;

    let old = ops::multiply(&from_start, &ops::matmul(q, state)?)?;
    let scores = ops::multiply(&ops::matmul(q, &transposed)?, &decays)?;
    let y = ops::add(&old, &ops::matmul(&scores, &delta)?)?;

    let to_end = ops::slice(&decays, 2, length - 1, length)?;
    let kept = ops::multiply(&ops::slice(&from_start, 2, length - 1, length)?, state)?;
    let written = ops::matmul(&ops::multiply(&transposed, &to_end)?, &delta)?;
    Ok((y, ops::add(&kept, &written)?))
}

/// `(I + a)^-1` for `a` `[.., n, n]` that is zero on and above the diagonal, from the inverses of
/// blocks on the diagonal: those of size 1 first, then always two next to each other become one by
/// `[[x, 0], [a, y]]^-1 = [[x^-1, 0], [-y^-1 a x^-1, y^-1]]`.
fn inverse(a: &Array) -> Result<Array> {
    let n = a.dim(-1);
    let mut inverse = mask(n, |t, s| t == s)?;
    let mut block = 1;
    while block < n {
        let below = mask(n, |t, s| t / block == s / block + 1 && s / block % 2 == 0)?;
        let product = ops::matmul(&inverse, &ops::matmul(&ops::multiply(a, &below)?, &inverse)?)?;
        inverse = ops::subtract(&inverse, &product)?;
        block *= 2;
    }
    Ok(inverse)
}

/// float32 `[n, n]`: 1 where `holds(row, column)`, else 0.
fn mask(n: i32, holds: impl Fn(i32, i32) -> bool) -> Result<Array> {
    let value = |i: i32| f32::from(u8::from(holds(i / n, i % n)));
    Array::from_f32(&(0..n * n).map(value).collect::<Vec<_>>(), &[n, n])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mlx::{Device, use_device};

    /// Numbers that look random, the same in every run.
    fn noise(seed: f32, shape: &[i32]) -> Array {
        let count: i32 = shape.iter().product();
        let value = |i: i32| (i as f32 * 12.9898 + seed).sin() * 43_758.547;
        let values: Vec<f32> = (0..count).map(|i| value(i).rem_euclid(2.0) - 1.0).collect();
        Array::from_f32(&values, shape).unwrap()
    }

    fn assert_close(a: &Array, b: &Array) {
        assert_eq!(a.shape(), b.shape());
        let (a, b) = (a.to_vec_f32().unwrap(), b.to_vec_f32().unwrap());
        let largest = b.iter().fold(0f32, |max, b| max.max(b.abs()));
        let difference = a.iter().zip(&b).fold(0f32, |max, (a, b)| max.max((a - b).abs()));
        assert!(difference <= 2e-6 * largest, "{difference} of {largest}");
    }

    #[test]
    fn chunks_compute_what_single_positions_do() {
        use_device(Device::Cpu).unwrap();
        let length = 2 * CHUNK + 9;
        let [q, k] = [1.0, 2.0].map(|seed| {
            // Keys that resemble each other, of length 1: the system is far from the identity.
            let x = ops::add(&noise(seed, &[1, length, 2, 24]), &Array::scalar(0.6).unwrap()).unwrap();
            ops::scale(&ops::rms_norm(&x, None, 0.0).unwrap(), 24f32.powf(-0.5)).unwrap()
        });
        let v = noise(3.0, &[1, length, 4, 20]);
        let beta = ops::sigmoid(&ops::scale(&noise(4.0, &[1, length, 4]), 4.0).unwrap()).unwrap();
        // From hardly any decay to all of it.
        let log_decay = ops::scale(&noise(5.0, &[1, length, 4]), 6.0).unwrap();
        let log_decay = ops::negative(&ops::exp(&log_decay).unwrap()).unwrap();
        let (read, state) = gated_delta([&q, &k, &v], &log_decay, &beta, None).unwrap();

        let (mut one_by_one, mut last) = (vec![], None);
        for t in 0..length {
            let at = |x: &Array| ops::slice(x, 1, t, t + 1).unwrap();
            let inputs = [&at(&q), &at(&k), &at(&v)];
            let (y, next) = gated_delta(inputs, &at(&log_decay), &at(&beta), last.as_ref()).unwrap();
            one_by_one.push(y);
            last = Some(next);
        }
        let one_by_one = ops::concatenate(&one_by_one.iter().collect::<Vec<_>>(), 1).unwrap();
        assert_close(&read, &one_by_one);
        assert_close(&state, &last.unwrap());
    }
}
