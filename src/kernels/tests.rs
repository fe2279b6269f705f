//! Kernels against MLX's own results, on every instruction set of this processor.

use super::interleave::can_interleave;
use super::interleave::tests::interleaved;
use super::isa::Isa;
use super::matrix::{Dense, Floats, Matrix, Packed, Values};
use super::{
    Activation, Source, Weight, float, gated, gated_halves, integer, products, rms_norm, set_exact, threads,
};
use crate::mlx::ops::{self, QuantMode, Quantization, Quantized};
use crate::mlx::{Array, Device, Dtype, use_device};
use half::{bf16, f16};
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

/// Held by tests that set the number of threads.
pub(super) static THREADS: Mutex<()> = Mutex::new(());

type Product = fn(Isa, &Packed, &[f32], &mut [f32]);

fn float_product(isa: Isa, w: &Packed, x: &[f32], y: &mut [f32]) {
    threads::run_all(&[float::tasks(isa, Matrix::Packed(*w), x, y)]);
}

fn integer_product(isa: Isa, w: &Packed, x: &[f32], y: &mut [f32]) {
    let Values::Integers { scales, biases } = w.values else { panic!("not integers") };
    threads::run_all(&[integer::tasks(isa, *w, [scales, biases], &x.into(), y)]);
}

/// A random matrix, its scales rounded to bfloat16, and `m` rows for it.
#[derive(Clone)]
pub(super) struct Case {
    pub w: Quantized,
    x: Vec<f32>,
    rows: usize,
    columns: usize,
}

/// Rounded to bfloat16.
fn round(a: &Array) -> Array {
    ops::astype(&ops::astype(a, Dtype::BF16).unwrap(), Dtype::F32).unwrap()
}

pub(super) fn normal(rng: &mut Pcg64) -> f32 {
    (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0
}

impl Case {
    pub fn new(rng: &mut Pcg64, [m, rows, columns]: [usize; 3], quantization: Quantization) -> Self {
        let values: Vec<f32> = (0..rows * columns).map(|_| 0.02 * normal(rng)).collect();
        let values = Array::from_f32(&values, &[rows as i32, columns as i32]).unwrap();
        let mut w = ops::quantize(&values, quantization).unwrap();
        if quantization.mode == QuantMode::Affine {
            w.scales = round(&w.scales);
            w.biases = w.biases.as_ref().map(round);
        }
        let x = (0..m * columns).map(|_| normal(rng)).collect();
        Case { w, x, rows, columns }
    }

    fn m(&self) -> usize {
        self.x.len() / self.columns
    }

    /// MLX's own product.
    fn expected(&self) -> Vec<f32> {
        let x = Array::from_f32(&self.x, &[self.m() as i32, self.columns as i32]).unwrap();
        ops::quantized_matmul(&x, &self.w, true).unwrap().to_vec_f32().unwrap()
    }

    /// `compute` of the matrix and of `x`, with room for the result.
    fn ours(&self, x: &[f32], compute: impl Fn(&Packed, &[f32], &mut [f32])) -> Vec<f32> {
        self.ours_of(&self.w, false, x, compute)
    }

    /// The same with the matrix interleaved.
    fn ours_interleaved(&self, x: &[f32], compute: impl Fn(&Packed, &[f32], &mut [f32])) -> Vec<f32> {
        self.ours_of(&interleaved(&self.w), true, x, compute)
    }

    fn ours_of(
        &self,
        w: &Quantized,
        interleaved: bool,
        x: &[f32],
        compute: impl Fn(&Packed, &[f32], &mut [f32]),
    ) -> Vec<f32> {
        let to_bf16 =
            |a: &Array| -> Vec<bf16> { a.to_vec_f32().unwrap().into_iter().map(bf16::from_f32).collect() };
        let packed = w.packed.with_bytes(|bytes| {
            bytes.as_chunks().0.iter().map(|word| u32::from_ne_bytes(*word)).collect::<Vec<_>>()
        });
        let Quantization { group_size, bits, mode } = w.quantization;
        let biases = w.biases.as_ref().map(to_bf16).unwrap_or_default();
        let (mut floats, mut bytes) = (vec![], vec![]);
        if mode == QuantMode::Affine {
            floats = to_bf16(&w.scales);
        } else {
            bytes = w.scales.with_bytes(<[u8]>::to_vec).unwrap();
        }
        let scales = bytes.as_slice();
        let values = match mode {
            QuantMode::Affine => {
                Values::Integers { scales: Floats::BF16(&floats), biases: Floats::BF16(&biases) }
            }
            QuantMode::Mxfp4 => Values::Mxfp4 { scales },
            QuantMode::Mxfp8 => Values::Mxfp8 { scales },
            QuantMode::Nvfp4 => Values::Nvfp4 { scales },
        };
        let matrix = Packed {
            packed: &packed.unwrap(),
            values,
            bits: bits as usize,
            group: group_size as usize,
            rows: self.rows,
            columns: self.columns,
            interleaved,
        };
        let mut y = vec![f32::NAN; x.len() / self.columns * self.rows];
        compute(&matrix, x, &mut y);
        y
    }
}

pub(super) fn relative_error(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let difference = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    difference / b.iter().map(|b| b.abs()).fold(0.0, f32::max)
}

/// Every width and group, sizes that divide by nothing, from one row to more than a tile.
fn cases(rng: &mut Pcg64, quantizations: impl Iterator<Item = Quantization>) -> Vec<Case> {
    let mut cases = vec![];
    for quantization in quantizations {
        for m in [1, 2, 4, 5, 13, 33] {
            // Some whose rows can be interleaved.
            let rows = if rng.random() { 16 * rng.random_range(1..10) } else { rng.random_range(1..70) };
            let columns = quantization.group_size.max(32) as usize * rng.random_range(1..6);
            cases.push(Case::new(rng, [m, rows, columns], quantization));
        }
    }
    cases
}

pub(super) fn affine() -> impl Iterator<Item = Quantization> {
    let bits = [2, 3, 4, 5, 6, 8].into_iter();
    bits.flat_map(|bits| {
        [32, 64, 128].map(|group| Quantization::new(QuantMode::Affine, group, bits).unwrap())
    })
}

pub(super) fn floats() -> impl Iterator<Item = Quantization> {
    [(QuantMode::Mxfp4, 32, 4), (QuantMode::Mxfp8, 32, 8), (QuantMode::Nvfp4, 16, 4)]
        .map(|(mode, group, bits)| Quantization::new(mode, group, bits).unwrap())
        .into_iter()
}

fn affine4() -> Quantization {
    Quantization::new(QuantMode::Affine, 64, 4).unwrap()
}

#[test]
fn float_products_are_mlxs() {
    use_device(Device::Cpu).unwrap();
    for case in cases(&mut Pcg64::seed_from_u64(1), affine().chain(floats())) {
        let name = format!("{:?}, {} x {} x {}", case.w.quantization, case.m(), case.rows, case.columns);
        let expected = case.expected();
        let mut fused = None;
        for isa in Isa::available() {
            let ours = case.ours(&case.x, |w, x, y| float_product(isa, w, x, y));
            let error = relative_error(&ours, &expected);
            assert!(error < 2e-6, "{isa:?}, {name}: {error}");
            // The others have FMA and differ in nothing.
            if isa != Isa::Portable {
                assert!(*fused.get_or_insert_with(|| ours.clone()) == ours, "{isa:?}, {name}");
            }
        }
    }
}

/// `x` rounded as the integer products' input is, block by block.
fn rounded(x: &[f32], size: usize) -> Vec<f32> {
    let block = |x: &[f32]| {
        let scale = x.iter().fold(0.0, |max: f32, x| max.max(x.abs())) / 127.0;
        x.iter().map(|x| (x / scale).round_ties_even() * scale).collect::<Vec<_>>()
    };
    x.chunks(size).flat_map(block).collect()
}

#[test]
fn integer_products_are_mlxs_of_rounded_input() {
    use_device(Device::Cpu).unwrap();
    for case in cases(&mut Pcg64::seed_from_u64(5), affine()) {
        let name = format!("{:?}, {} x {} x {}", case.w.quantization, case.m(), case.rows, case.columns);
        let Quantization { bits, group_size, .. } = case.w.quantization;
        let block = group_size.min(if bits > 4 { 32 } else { 64 });
        let x = rounded(&case.x, block as usize);
        let expected = Case { x: x.clone(), ..case.clone() }.expected();
        let mut fused = None;
        for isa in Isa::available() {
            let ours = case.ours(&x, |w, x, y| integer_product(isa, w, x, y));
            let error = relative_error(&ours, &expected);
            assert!(error < 5e-6, "{isa:?}, {name}: {error}");
            // The others have FMA and differ in nothing.
            if isa != Isa::Portable {
                assert!(*fused.get_or_insert_with(|| ours.clone()) == ours, "{isa:?}, {name}");
            }
            if can_interleave(case.rows as i32, case.w.quantization) {
                let lanes = case.ours_interleaved(&x, |w, x, y| integer_product(isa, w, x, y));
                assert!(lanes == ours, "{isa:?}, {name}, interleaved");
            }
        }
    }
}

#[test]
fn a_row_depends_on_nothing_beside_it() {
    use_device(Device::Cpu).unwrap();
    for case in cases(&mut Pcg64::seed_from_u64(2), affine().chain(floats())) {
        let mut products: Vec<Product> = vec![float_product];
        if case.w.quantization.mode == QuantMode::Affine {
            products.push(integer_product);
        }
        for (isa, product) in
            Isa::available().into_iter().flat_map(|isa| products.iter().map(move |product| (isa, product)))
        {
            let compute = |w: &Packed, x: &[f32], y: &mut [f32]| product(isa, w, x, y);
            let all = case.ours(&case.x, compute);
            for m in [0, case.m() - 1] {
                let alone = case.ours(&case.x[m * case.columns..][..case.columns], compute);
                assert!(alone == all[m * case.rows..][..case.rows], "{isa:?}, {:?}", case.w.quantization);
            }
        }
    }
}

#[test]
fn dense_products_are_mlxs() {
    use_device(Device::Cpu).unwrap();
    let mut rng = Pcg64::seed_from_u64(7);
    for [m, rows, columns] in [[1, 1, 1], [1, 37, 200], [3, 16, 15], [4, 70, 64], [6, 5, 33], [29, 50, 257]] {
        let x: Vec<f32> = (0..m * columns).map(|_| normal(&mut rng)).collect();
        let w: Vec<f32> = (0..rows * columns).map(|_| normal(&mut rng)).collect();
        let halves: Vec<f16> = w.iter().copied().map(f16::from_f32).collect();
        let brains: Vec<bf16> = w.iter().copied().map(bf16::from_f32).collect();
        for (values, dtype) in [
            (Floats::F32(&w), Dtype::F32),
            (Floats::F16(&halves), Dtype::F16),
            (Floats::BF16(&brains), Dtype::BF16),
        ] {
            let stored = Array::from_f32(&w, &[rows as i32, columns as i32]).unwrap();
            let stored = ops::astype(&ops::astype(&stored, dtype).unwrap(), Dtype::F32).unwrap();
            let input = Array::from_f32(&x, &[m as i32, columns as i32]).unwrap();
            let expected = ops::matmul(&input, &ops::transpose(&stored, &[1, 0]).unwrap()).unwrap();
            let w = Dense { values, rows, columns };
            let mut fused = None;
            for isa in Isa::available() {
                let product = |x: &[f32]| {
                    let mut y = vec![f32::NAN; x.len() / columns * rows];
                    threads::run_all(&[float::tasks(isa, Matrix::Dense(w), x, &mut y)]);
                    y
                };
                let ours = product(&x);
                let error = relative_error(&ours, &expected.to_vec_f32().unwrap());
                assert!(error < 2e-6, "{isa:?}, {dtype}, {m} x {rows} x {columns}: {error}");
                assert!(product(&x[..columns]) == ours[..rows]);
                if isa != Isa::Portable {
                    assert!(*fused.get_or_insert_with(|| ours.clone()) == ours, "{isa:?}, {dtype}");
                }
            }
        }
    }
}

#[test]
fn a_broken_input_shows() {
    use_device(Device::Cpu).unwrap();
    let case = Case::new(&mut Pcg64::seed_from_u64(6), [1, 40, 128], affine4());
    for broken in [f32::NAN, f32::INFINITY] {
        let mut x = case.x.clone();
        x[77] = broken;
        for isa in Isa::available() {
            let y = case.ours(&x, |w, x, y| integer_product(isa, w, x, y));
            assert!(y.iter().all(|y| !y.is_finite()), "{isa:?}: {y:?}");
        }
    }
}

#[test]
fn a_large_product_uses_all_threads() {
    let _alone = THREADS.lock();
    use_device(Device::Cpu).unwrap();
    let case = Case::new(&mut Pcg64::seed_from_u64(3), [3, 1000, 2048], affine4());
    let compute = |w: &Packed, x: &[f32], y: &mut [f32]| float_product(Isa::best(), w, x, y);
    let all = case.ours(&case.x, compute);
    assert!(relative_error(&all, &case.expected()) < 2e-6);
    for count in [1, 3] {
        threads::set_count(count).unwrap();
        assert_eq!(threads::count(), count);
        assert!(case.ours(&case.x, compute) == all);
    }
}

#[test]
fn the_operation_takes_every_float_type() {
    use_device(Device::Cpu).unwrap();
    set_exact(true);
    let case = Case::new(&mut Pcg64::seed_from_u64(4), [6, 50, 192], affine4());
    let expected = case.expected();
    let x = Array::from_f32(&case.x, &[2, 3, 192]).unwrap();
    for (dtype, tolerance) in [(Dtype::F32, 2e-6), (Dtype::F16, 2e-3), (Dtype::BF16, 1e-2)] {
        let x = ops::astype(&x, dtype).unwrap();
        let [y] = products(Source::Plain(&x), [(Weight::Quantized(&case.w), None)], None).unwrap().unwrap();
        assert_eq!((y.shape(), y.dtype()), ([2, 3, 50].as_slice(), dtype));
        assert!(relative_error(&y.to_vec_f32().unwrap(), &expected) < tolerance);
    }
}

#[test]
fn several_products_are_what_each_is_alone() {
    use_device(Device::Cpu).unwrap();
    let rng = &mut Pcg64::seed_from_u64(6);
    let float = Quantization::new(QuantMode::Mxfp4, 32, 4).unwrap();
    let [integers, floats] = [affine4(), float].map(|form| Case::new(rng, [3, 70, 128], form));
    let bias: Vec<f32> = (0..70).map(|_| normal(rng)).collect();
    let bias = ops::astype(&Array::from_f32(&bias, &[70]).unwrap(), Dtype::BF16).unwrap();
    let dense: Vec<f32> = (0..9 * 128).map(|_| normal(rng)).collect();
    let dense = ops::astype(&Array::from_f32(&dense, &[9, 128]).unwrap(), Dtype::F16).unwrap();
    let x = Array::from_f32(&integers.x, &[1, 3, 128]).unwrap();
    let weights = [
        (Weight::Quantized(&integers.w), Some(&bias)),
        (Weight::Dense(&dense), None),
        (Weight::Quantized(&floats.w), Some(&bias)),
    ];
    let together = products(Source::Plain(&x), weights, None).unwrap().unwrap();
    for (y, (w, bias)) in together.iter().zip(weights) {
        let [mut alone] = products(Source::Plain(&x), [(w, None)], None).unwrap().unwrap();
        if let Some(bias) = bias {
            alone = ops::add(&alone, &ops::astype(bias, Dtype::F32).unwrap()).unwrap();
        }
        assert_eq!(y.shape(), alone.shape());
        assert_eq!(y.to_vec_f32().unwrap(), alone.to_vec_f32().unwrap());
    }
    // One that does not fit leaves all to MLX, and its error.
    let narrow = Array::from_f32(&[0.0; 64], &[1, 64]).unwrap();
    assert!(
        products(Source::Plain(&x), [weights[0], (Weight::Dense(&narrow), None)], None).unwrap().is_none()
    );
    assert!(products(Source::Plain(&x), [(Weight::Dense(&dense), Some(&bias))], None).unwrap().is_none());
}

#[test]
fn a_product_of_a_source_is_what_the_operations_are() {
    use_device(Device::Cpu).unwrap();
    let rng = &mut Pcg64::seed_from_u64(7);
    let case = Case::new(rng, [3, 70, 128], affine4());
    let random = |rng: &mut Pcg64, shape: &[i32]| {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_: i32| normal(rng)).collect();
        Array::from_f32(&values, shape).unwrap()
    };
    let [x, up] = [(); 2].map(|()| random(rng, &[1, 3, 128]));
    let both = random(rng, &[1, 3, 256]);
    let weight = ops::astype(&random(rng, &[128]), Dtype::BF16).unwrap();
    let bias = random(rng, &[70]);
    let onto = random(rng, &[1, 3, 70]);
    let activation = Activation::Silu;
    let w = [(Weight::Quantized(&case.w), Some(&bias))];
    for (source, made) in [
        (Source::Plain(&x), x.clone()),
        (
            Source::Normed { x: &x, weight: &weight, eps: 1e-5 },
            rms_norm(&x, Some(&weight), 1e-5).unwrap().unwrap(),
        ),
        (Source::Gated { activation, gate: &x, up: &up }, gated(activation, &x, &up).unwrap().unwrap()),
        (Source::Halves { activation, both: &both }, gated_halves(activation, &both).unwrap().unwrap()),
    ] {
        let [plain] = products(Source::Plain(&made), w, None).unwrap().unwrap();
        let [fused] = products(source, w, None).unwrap().unwrap();
        assert_eq!(fused.to_vec_f32().unwrap(), plain.to_vec_f32().unwrap(), "{source:?}");
        let [fused] = products(source, w, Some(&onto)).unwrap().unwrap();
        let added = ops::add(&onto, &plain).unwrap();
        assert_eq!(fused.to_vec_f32().unwrap(), added.to_vec_f32().unwrap(), "{source:?} onto another");
    }
    // What would be rounded in between stays several operations.
    let halves = ops::astype(&x, Dtype::BF16).unwrap();
    assert!(products(Source::Plain(&halves), w, Some(&onto)).unwrap().is_none());
    let normed = Source::Normed { x: &halves, weight: &weight, eps: 1e-5 };
    assert!(products(normed, w, None).unwrap().is_none());
    // Shapes that do not fit are MLX's to refuse.
    assert!(products(Source::Plain(&x), w, Some(&x)).unwrap().is_none());
    assert!(products(Source::Gated { activation, gate: &x, up: &both }, w, None).unwrap().is_none());
}
