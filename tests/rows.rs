//! On the CPU a row's results depend on that row alone, bit for bit, whatever rows are computed with it:
//! so a request gets the same tokens alone and in a batch.

use mlxrt::kernels;
use mlxrt::mlx::ops::{self, QuantMode, Quantization};
use mlxrt::mlx::{Array, Device, Dtype, use_device};
use mlxrt::nn::{Activation, Embedding, Experts, HeadLinear, Linear, Module, QuantizationConfig, Weights};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use std::collections::HashMap;
use std::path::PathBuf;

const FLOATS: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::BF16];
/// How many rows are computed together; every number for 4-bit matrices.
const COUNTS: [usize; 14] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 64, 65, 150];
const MOST: usize = 150;

/// How matrices are stored: dense in one of the float types, or quantised.
#[derive(Debug, Clone, Copy)]
enum Format {
    Dense(Dtype),
    Quantized(Quantization),
}

fn formats() -> Vec<Format> {
    let modes = [(QuantMode::Mxfp4, 32, 4), (QuantMode::Mxfp8, 32, 8), (QuantMode::Nvfp4, 16, 4)];
    let affine = [2, 3, 4, 5, 6, 8].map(|bits| (QuantMode::Affine, 64, bits));
    let groups = [32, 128].map(|group| (QuantMode::Affine, group, 4));
    let quantized = modes.into_iter().chain(affine).chain(groups);
    let quantized = quantized.map(|(mode, group, bits)| Quantization::new(mode, group, bits).unwrap());
    FLOATS.map(Format::Dense).into_iter().chain(quantized.map(Format::Quantized)).collect()
}

fn random(rng: &mut Pcg64, shape: &[i32]) -> Array {
    let count = shape.iter().product::<i32>();
    let values: Vec<f32> = (0..count).map(|_| rng.random::<f32>() - 0.5).collect();
    Array::from_f32(&values, shape).unwrap()
}

/// A checkpoint that holds these matrices, and biases of theirs.
fn weights(rng: &mut Pcg64, format: Format, dtype: Dtype, matrices: &[(&str, &[i32])]) -> Weights {
    let mut tensors: HashMap<String, (Array, PathBuf)> = HashMap::new();
    let mut insert = |name: String, array: Array| tensors.insert(name, (array, "file".into()));
    let mut config = QuantizationConfig::default();
    for &(name, shape) in matrices {
        let matrix = random(rng, shape);
        insert(format!("{name}.bias"), random(rng, &shape[..shape.len() - 1]));
        match format {
            Format::Dense(stored) => {
                insert(format!("{name}.weight"), ops::astype(&matrix, stored).unwrap());
            }
            Format::Quantized(quantization) => {
                config.default = Some(quantization);
                let quantized = ops::quantize(&matrix, quantization).unwrap();
                insert(format!("{name}.weight"), quantized.packed);
                insert(format!("{name}.scales"), quantized.scales);
                if let Some(biases) = quantized.biases {
                    insert(format!("{name}.biases"), biases);
                }
            }
        }
    }
    let mut weights = Weights::new(tensors, "folder".into(), config, Some(dtype));
    weights.keep_matrices();
    weights
}

fn bits(array: &Array) -> Vec<u8> {
    array.with_bytes(<[u8]>::to_vec).unwrap()
}

/// Of arrays `[MOST, ..]` the rows from `from` on, as `shape[0]` sequences of `shape[1]`.
fn rows(x: &[Array], from: usize, shape: [usize; 2]) -> Vec<Array> {
    let part = |x: &Array| {
        let part = ops::slice(x, 0, from as i32, (from + shape[0] * shape[1]) as i32).unwrap();
        ops::reshape(&part, &[&shape.map(|size| size as i32)[..], &x.shape()[1..]].concat()).unwrap()
    };
    x.iter().map(part).collect()
}

/// Computes the rows of `x` `[MOST, ..]` one by one and many together, as one sequence and as many.
fn check(what: &str, x: &[Array], counts: &[usize], run: impl Fn(&[Array]) -> Array) {
    let alone: Vec<Vec<u8>> = (0..MOST).map(|row| bits(&run(&rows(x, row, [1, 1])))).collect();
    assert!(alone[0] != alone[1], "{what}");
    for &count in counts {
        let from = (MOST - count) / 2;
        for shape in [[1, count], [count, 1]] {
            let together = bits(&run(&rows(x, from, shape)));
            assert!(together == alone[from..from + count].concat(), "{what}: {count} rows as {shape:?}");
        }
    }
}

/// Every format computed in every type, in float arithmetic and with rounding to integers.
fn for_all(mut check: impl FnMut(Format, Dtype, &str)) {
    use_device(Device::Cpu).unwrap();
    for format in formats() {
        for dtype in FLOATS {
            for exact in [false, true] {
                kernels::set_exact(exact);
                check(format, dtype, &format!("{format:?} in {dtype}, exact {exact}"));
            }
        }
    }
}

#[test]
fn linear_layers_and_embeddings() {
    let mut rng = Pcg64::seed_from_u64(1);
    for_all(|format, dtype, name| {
        let mut weights = weights(&mut rng, format, dtype, &[("layer", &[72, 256])]);
        let x = [ops::astype(&random(&mut rng, &[MOST as i32, 256]), dtype).unwrap()];
        for bias in [false, true] {
            let layer = Linear::load(&mut weights, "layer", 256, 72, bias).unwrap();
            let every = matches!(format, Format::Quantized(q) if q.bits == 4) && dtype == Dtype::F32 && !bias;
            let counts: Vec<usize> = if every { (1..=MOST).collect() } else { COUNTS.to_vec() };
            check(&format!("linear {name}"), &x, &counts, |x| layer.forward(&x[0]).unwrap());
        }
        let table = Embedding::load(&mut weights, "layer", 72, 256).unwrap();
        check(&format!("logits {name}"), &x, &COUNTS, |x| table.logits(&x[0]).unwrap());
        if matches!(format, Format::Dense(_)) {
            let router = Linear::load_dense(&mut weights, "layer", 256, 72).unwrap();
            check(&format!("router {name}"), &x, &COUNTS, |x| router.forward(&x[0]).unwrap());
        }
    });
}

#[test]
fn experts() {
    let (count, k, width, hidden) = (6, 3, 128, 256);
    let mut rng = Pcg64::seed_from_u64(2);
    for_all(|format, dtype, name| {
        let shapes: [(&str, &[i32]); 3] = [
            ("mlp.gate_proj", &[count, hidden, width]),
            ("mlp.up_proj", &[count, hidden, width]),
            ("mlp.down_proj", &[count, width, hidden]),
        ];
        let mut weights = weights(&mut rng, format, dtype, &shapes);
        let x = ops::astype(&random(&mut rng, &[MOST as i32, width]), dtype).unwrap();
        // Uneven, so that some experts have many rows and some none.
        let chosen: Vec<i32> =
            (0..MOST as i32 * k).map(|_| (rng.random::<f32>().powi(3) * count as f32) as i32).collect();
        let chosen = Array::from_i32(&chosen, &[MOST as i32, k]).unwrap();
        let x = [x, ops::astype(&chosen, Dtype::U32).unwrap()];
        for bias in [false, true] {
            let experts =
                Experts::load(&mut weights, "mlp", count, [width, hidden], bias, Activation::Silu).unwrap();
            let run = |x: &[Array]| experts.forward(&x[0], &x[1]).unwrap();
            check(&format!("experts {name}"), &x, &COUNTS, run);
        }
    });
}

/// These are part of attention: what is beside a sequence changes nothing, its own length may.
#[test]
fn layers_of_heads() {
    use_device(Device::Cpu).unwrap();
    let mut rng = Pcg64::seed_from_u64(3);
    let all = formats().into_iter().flat_map(|format| FLOATS.map(|dtype| (format, dtype)));
    for (format, dtype) in all {
        let mut weights = weights(&mut rng, format, dtype, &[("heads", &[4, 64, 128])]);
        let layer = HeadLinear::load(&mut weights, "heads", 4, 128, 64).unwrap();
        for columns in [128, 64] {
            let x = [ops::astype(&random(&mut rng, &[MOST as i32, 4, columns]), dtype).unwrap()];
            let run = |x: &[Array]| {
                let x = ops::swap_axes(&x[0], 1, 2).unwrap();
                bits(&if columns == 128 { layer.forward(&x) } else { layer.backward(&x) }.unwrap())
            };
            for [batch, length] in [[9, 1], [3, 7], [2, 40]] {
                let alone = (0..batch).flat_map(|row| run(&rows(&x, row * length, [1, length])));
                let together = run(&rows(&x, 0, [batch, length]));
                let same = together == alone.collect::<Vec<u8>>();
                assert!(same, "heads {format:?} in {dtype}: {batch} of {length}");
            }
        }
    }
}
