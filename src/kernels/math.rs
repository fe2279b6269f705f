//! Functions of floats in operations that vector units have, so that the compiler makes vectors of loops
//! over them. `FMA`: whether the processor multiplies and adds at once.

/// `a * b + c`, rounded once if the processor can.
#[inline(always)]
pub(super) fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `exp(x)` for `x` up to 0; below -87 it is 0.
#[inline(always)]
pub fn exp_negative<const FMA: bool>(x: f32) -> f32 {
    let inside = if x < -87.0 { -87.0 } else { x };
    let power = exp_inside::<FMA>(inside, 0.0);
    if x < -87.0 { 0.0 } else { power }
}

/// `exp(x + rest)` for `x` from -87 to 88 and a small `rest`. The polynomial is Cephes's (Moshier 1992); it is
/// right to 2 units in the last place.
#[inline(always)]
pub(super) fn exp_inside<const FMA: bool>(x: f32, rest: f32) -> f32 {
    // 1.5 * 2^23: adding it rounds to whole numbers, which then are the last bits.
    const ROUND: f32 = 12_582_912.0;
    let rounded = fma::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let whole = rounded - ROUND;
    // x - whole * ln 2, in two parts so that nothing is lost.
    let r = fma::<FMA>(whole, 2.121_944_4e-4, fma::<FMA>(whole, -0.693_359_4, x)) + rest;
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
        p = fma::<FMA>(p, r, coefficient);
    }
    let power = fma::<FMA>(p * r, r, r) + 1.0;
    f32::from_bits(power.to_bits().wrapping_add(rounded.to_bits() << 23))
}

/// `tanh(x)`. The polynomial for small `x` is Cephes's.
#[cfg(not(target_os = "macos"))]
#[inline(always)]
pub(super) fn tanh<const FMA: bool>(x: f32) -> f32 {
    let (size, square) = (x.abs(), x * x);
    let mut p = -5.704_988_7e-3;
    for coefficient in [2.063_908_8e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1] {
        p = fma::<FMA>(p, square, coefficient);
    }
    let small = fma::<FMA>(p * square, x, x);
    let e = exp_negative::<FMA>(-2.0 * size);
    let large = ((1.0 - e) / (1.0 + e)).copysign(x);
    if size < 0.625 { small } else { large }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(name: &str, got: f32, want: f64) {
        assert!((f64::from(got) - want).abs() <= 3e-7 * want.abs(), "{name} = {got}, not {want}");
    }

    #[test]
    fn exp_is_right_to_the_last_bits() {
        for i in 0..=87_000 {
            let x = i as f32 / -1000.0;
            compare(&format!("exp({x})"), exp_negative::<false>(x), f64::from(x).exp());
            compare(&format!("exp({x})"), exp_negative::<true>(x), f64::from(x).exp());
        }
        for x in [-87.1, -1e9, f32::NEG_INFINITY] {
            assert_eq!((exp_negative::<false>(x), exp_negative::<true>(x)), (0.0, 0.0));
        }
        assert_eq!((exp_negative::<false>(0.0), exp_negative::<true>(0.0)), (1.0, 1.0));
        assert!(exp_negative::<false>(f32::NAN).is_nan() && exp_negative::<true>(f32::NAN).is_nan());
    }

    #[cfg(not(target_os = "macos"))]
    #[test]
    fn tanh_is_right_to_the_last_bits() {
        for i in -20_000..=20_000 {
            let x = i as f32 / 1000.0;
            compare(&format!("tanh({x})"), tanh::<false>(x), f64::from(x).tanh());
            compare(&format!("tanh({x})"), tanh::<true>(x), f64::from(x).tanh());
        }
        assert!(tanh::<true>(f32::NAN).is_nan());
    }
}
