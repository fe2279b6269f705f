//! Attention against MLX's, against float64, and against itself in other pieces.

use crate::kernels::isa::Isa;
use crate::kernels::tests::THREADS;
use crate::kernels::{AttentionOptions, Run, Sequence, threads};
use crate::mlx::ops::{self, Mask};
use crate::mlx::{Array, Device, Dtype, use_device};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use std::ops::Range;

#[derive(Clone, Copy)]
struct Shape {
    heads: usize,
    kv_heads: usize,
    dim: usize,
    value_dim: usize,
    scale: f32,
    softcap: Option<f32>,
}

impl Shape {
    fn new([heads, kv_heads]: [usize; 2], [dim, value_dim]: [usize; 2]) -> Self {
        Shape { heads, kv_heads, dim, value_dim, scale: (dim as f32).powf(-0.5), softcap: None }
    }

    fn options(&self) -> AttentionOptions {
        let (heads, kv_heads) = (self.heads as i32, self.kv_heads as i32);
        AttentionOptions { heads, kv_heads, scale: self.scale, softcap: self.softcap }
    }
}

#[derive(Clone, Debug)]
enum Seen {
    All,
    Causal,
    /// `[queries, keys]`.
    Where(Vec<bool>),
}

/// A sequence: queries `[queries, heads, dim]`, keys `[kv_heads, keys, dim]`, values.
#[derive(Clone)]
struct Case {
    shape: Shape,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    queries: usize,
    keys: usize,
    seen: Seen,
}

fn normal(rng: &mut Pcg64, count: usize) -> Vec<f32> {
    (0..count).map(|_| (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0).collect()
}

fn array(values: &[f32], shape: &[usize]) -> Array {
    let shape: Vec<i32> = shape.iter().map(|&length| length as i32).collect();
    Array::from_f32(values, &shape).unwrap()
}

fn booleans(values: &[bool], shape: &[usize]) -> Array {
    let floats: Vec<f32> = values.iter().map(|&value| f32::from(u8::from(value))).collect();
    ops::astype(&array(&floats, shape), Dtype::Bool).unwrap()
}

impl Case {
    fn new(rng: &mut Pcg64, shape: Shape, queries: usize, keys: usize, seen: Seen) -> Self {
        let Shape { heads, kv_heads, dim, value_dim, .. } = shape;
        let q = normal(rng, queries * heads * dim);
        let k = normal(rng, kv_heads * keys * dim);
        let v = normal(rng, kv_heads * keys * value_dim);
        Case { shape, q, k, v, queries, keys, seen }
    }

    fn sees(&self, query: usize, key: usize) -> bool {
        match &self.seen {
            Seen::All => true,
            Seen::Causal => key + self.queries <= self.keys + query,
            Seen::Where(mask) => mask[query * self.keys + key],
        }
    }

    /// In float64.
    fn expected(&self, sinks: Option<&[f32]>) -> Vec<f32> {
        let Shape { heads, kv_heads, dim, value_dim, scale, softcap } = self.shape;
        let mut y = vec![];
        for query in 0..self.queries {
            for head in 0..heads {
                let kv_head = head / (heads / kv_heads);
                let q = &self.q[(query * heads + head) * dim..][..dim];
                let keys: Vec<usize> = (0..self.keys).filter(|&key| self.sees(query, key)).collect();
                let score = |key: &usize| {
                    let k = &self.k[(kv_head * self.keys + key) * dim..][..dim];
                    let score: f64 = q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
                    let score = score * f64::from(scale);
                    softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
                };
                let scores: Vec<f64> = keys.iter().map(score).collect();
                let sink = sinks.map_or(0.0, |sinks| f64::from(sinks[head]).exp());
                let sum: f64 = scores.iter().map(|score| score.exp()).sum::<f64>() + sink;
                let mut out = vec![0.0; value_dim];
                for (key, score) in keys.iter().zip(&scores) {
                    let v = &self.v[(kv_head * self.keys + key) * value_dim..][..value_dim];
                    out.iter_mut().zip(v).for_each(|(out, v)| *out += score.exp() / sum * f64::from(*v));
                }
                y.extend(out.iter().map(|out| *out as f32));
            }
        }
        y
    }

    /// MLX's.
    fn mlxs(&self, sinks: Option<&Array>) -> Vec<f32> {
        let Shape { heads, kv_heads, dim, value_dim, scale, .. } = self.shape;
        let q = ops::transpose(&array(&self.q, &[1, self.queries, heads, dim]), &[0, 2, 1, 3]).unwrap();
        let k = array(&self.k, &[1, kv_heads, self.keys, dim]);
        let v = array(&self.v, &[1, kv_heads, self.keys, value_dim]);
        let mask = match &self.seen {
            Seen::All => Mask::None,
            Seen::Causal => Mask::Causal,
            Seen::Where(mask) => Mask::Array(booleans(mask, &[self.queries, self.keys])),
        };
        let y = ops::attention(&q, &k, &v, scale, &mask, sinks).unwrap();
        ops::transpose(&y, &[0, 2, 1, 3]).unwrap().to_vec_f32().unwrap()
    }

    /// Some queries, with the keys up to the last that they may see.
    fn part(&self, queries: Range<usize>) -> Self {
        let Shape { heads, kv_heads, dim, value_dim, .. } = self.shape;
        let keys = match self.seen {
            Seen::Causal => self.keys + queries.end - self.queries,
            _ => self.keys,
        };
        let cut = |all: &[f32], width: usize| {
            let heads = (0..kv_heads).flat_map(|head| &all[head * self.keys * width..][..keys * width]);
            heads.copied().collect()
        };
        let seen = match &self.seen {
            Seen::Where(mask) => Seen::Where(mask[queries.start * keys..queries.end * keys].to_vec()),
            seen => seen.clone(),
        };
        let q = self.q[queries.start * heads * dim..queries.end * heads * dim].to_vec();
        let (k, v) = (cut(&self.k, dim), cut(&self.v, value_dim));
        Case { shape: self.shape, q, k, v, queries: queries.len(), keys, seen }
    }

    /// Cut into runs at `cuts`, each run a view into something larger, with NaN behind what is used.
    fn sequence(&self, cuts: &[usize]) -> Sequence {
        let ends: Vec<usize> = cuts.iter().copied().chain([self.keys]).collect();
        let mut start = 0;
        let mut runs = vec![];
        for end in ends {
            let view = |all: &[f32], width: usize| {
                let mut larger = vec![f32::NAN; self.shape.kv_heads * (end - start + 7) * width];
                for (head, larger) in larger.chunks_exact_mut((end - start + 7) * width).enumerate() {
                    let from = &all[(head * self.keys + start) * width..][..(end - start) * width];
                    larger[3 * width..][..from.len()].copy_from_slice(from);
                }
                let larger = array(&larger, &[1, self.shape.kv_heads, end - start + 7, width]);
                ops::slice(&larger, 2, 3, (end - start + 5) as i32).unwrap()
            };
            let (keys, values) = (view(&self.k, self.shape.dim), view(&self.v, self.shape.value_dim));
            runs.push(Run { keys, values, used: (end - start) as i32 });
            start = end;
        }
        let mask = match &self.seen {
            Seen::All => Mask::None,
            Seen::Causal => Mask::Causal,
            Seen::Where(mask) => Mask::Array(booleans(mask, &[self.queries, self.keys])),
        };
        Sequence { runs, queries: self.queries as i32, mask }
    }
}

/// All the cases' queries in one pass, each case cut into runs at its cuts.
fn attend(isa: Isa, cases: &[(&Case, &[usize])], sinks: Option<&Array>) -> Vec<f32> {
    let shape = cases[0].0.shape;
    let q: Vec<f32> = cases.iter().flat_map(|(case, _)| &case.q).copied().collect();
    let width = shape.heads * shape.dim;
    let q = array(&q, &[1, q.len() / width, width]);
    let sequences: Vec<Sequence> = cases.iter().map(|(case, cuts)| case.sequence(cuts)).collect();
    let y = super::attention(isa, &q, &sequences, &shape.options(), sinks).unwrap().expect("for this kernel");
    assert_eq!(y.shape(), [1, q.dim(1), (shape.heads * shape.value_dim) as i32]);
    y.to_vec_f32().unwrap()
}

fn relative_error(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let difference = a.iter().zip(b).map(|(a, b)| if a == b { 0.0 } else { (a - b).abs() }).fold(
        0.0,
        |max, difference| {
            if difference <= max { max } else { difference }
        },
    );
    difference / b.iter().map(|b| b.abs()).fold(0.0, f32::max)
}

/// A window, and a few keys that nobody sees.
fn window(queries: usize, keys: usize, length: usize) -> Seen {
    let sees = |query: usize, key: usize| {
        let position = keys - queries + query;
        key <= position && key + length > position && key % 17 != 5
    };
    Seen::Where((0..queries * keys).map(|i| sees(i / keys, i % keys)).collect())
}

const SHAPES: [([usize; 2], [usize; 2]); 8] = [
    ([14, 2], [64, 64]),
    ([8, 8], [16, 16]),
    ([4, 2], [80, 80]),
    ([8, 1], [128, 128]),
    ([3, 3], [1, 1]),
    ([6, 3], [37, 21]),
    ([16, 1], [192, 128]),
    ([50, 1], [36, 20]),
];

#[test]
fn it_is_mlxs() {
    use_device(Device::Cpu).unwrap();
    let mut rng = Pcg64::seed_from_u64(1);
    for (heads, dims) in SHAPES {
        let shape = Shape::new(heads, dims);
        for (queries, keys) in [(1, 1), (1, 70), (5, 64), (23, 130), (9, 1100), (67, 67)] {
            for seen in [Seen::All, Seen::Causal, window(queries, keys, 40)] {
                let case = Case::new(&mut rng, shape, queries, keys, seen);
                let sinks = array(&normal(&mut rng, shape.heads), &[shape.heads]);
                for sinks in [None, Some(&sinks)] {
                    let exact = case.expected(sinks.map(|sinks| sinks.to_vec_f32().unwrap()).as_deref());
                    let mlxs = case.mlxs(sinks);
                    let mut fused = None;
                    for isa in Isa::available() {
                        let name = format!("{isa:?}, {heads:?} heads {dims:?}, {queries} of {keys}");
                        let ours = attend(isa, &[(&case, &[])], sinks);
                        let error = relative_error(&ours, &exact);
                        assert!(error < 2e-6, "{name}: {error}");
                        let error = relative_error(&ours, &mlxs);
                        assert!(error < 4e-6, "{name}, MLX's: {error}");
                        // The others have FMA and differ in nothing.
                        if isa != Isa::Portable {
                            assert!(*fused.get_or_insert_with(|| ours.clone()) == ours, "{name}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn scores_are_capped() {
    use_device(Device::Cpu).unwrap();
    let mut rng = Pcg64::seed_from_u64(2);
    for (cap, scale) in [(50.0, 1.0), (5.0, 0.3), (0.5, 3.0)] {
        let shape = Shape { softcap: Some(cap), scale, ..Shape::new([4, 2], [24, 40]) };
        let case = Case::new(&mut rng, shape, 20, 150, Seen::Causal);
        let exact = case.expected(None);
        for isa in Isa::available() {
            let error = relative_error(&attend(isa, &[(&case, &[33, 33, 100])], None), &exact);
            assert!(error < 5e-6, "{isa:?}, cap {cap}: {error}");
        }
    }
}

#[test]
fn a_query_depends_on_its_own_sequence_alone() {
    use_device(Device::Cpu).unwrap();
    let mut rng = Pcg64::seed_from_u64(3);
    for (heads, dims) in SHAPES {
        let shape = Shape { softcap: (dims[0] == 80).then_some(20.0), ..Shape::new(heads, dims) };
        let (queries, keys) = (70, 1300);
        let mut random: Vec<bool> = (0..queries * keys).map(|_| rng.random_bool(0.02)).collect();
        random[5 * keys..6 * keys].fill(false);
        for seen in [Seen::All, Seen::Causal, window(queries, keys, 100), Seen::Where(random)] {
            let case = Case::new(&mut rng, shape, queries, keys, seen);
            let other = Case::new(&mut rng, shape, 3, 600, Seen::Causal);
            let width = shape.heads * shape.value_dim;
            for isa in Isa::available() {
                let all = attend(isa, &[(&case, &[])], None);
                assert!(all.iter().all(|y| y.is_finite()));
                let check = |ours: &[f32], queries: Range<usize>, what: &str| {
                    let name = format!("{isa:?}, {heads:?} heads {dims:?}: {what} of {queries:?}");
                    assert!(ours == &all[queries.start * width..queries.end * width], "{name}");
                };
                check(&attend(isa, &[(&case, &[1, 63, 64, 500, 1290])], None), 0..queries, "runs");
                for queries in [0..1, 5..6, 69..70, 0..7, 11..60] {
                    let part = case.part(queries.clone());
                    check(&attend(isa, &[(&part, &[])], None), queries.clone(), "part");
                    let pass = attend(isa, &[(&other, &[10]), (&part, &[100]), (&other, &[])], None);
                    check(&pass[3 * width..][..queries.len() * width], queries, "beside others");
                }
            }
        }
    }
}

#[test]
fn threads_change_nothing() {
    let _alone = THREADS.lock();
    use_device(Device::Cpu).unwrap();
    let mut rng = Pcg64::seed_from_u64(4);
    let shape = Shape::new([14, 2], [64, 64]);
    let many = Case::new(&mut rng, shape, 100, 1700, Seen::Causal);
    let one = many.part(99..100);
    for isa in Isa::available() {
        let pass = || attend(isa, &[(&many, &[]), (&one, &[])], None);
        let all = pass();
        for count in [1, 2, 5] {
            threads::set_count(count).unwrap();
            assert!(pass() == all, "{isa:?}");
        }
    }
}

#[test]
fn what_nobody_sees_gives_zeros_and_what_is_broken_shows() {
    use_device(Device::Cpu).unwrap();
    let mut rng = Pcg64::seed_from_u64(5);
    let shape = Shape::new([2, 1], [16, 16]);
    let mut case = Case::new(&mut rng, shape, 2, 700, Seen::Where([[false; 700], [true; 700]].concat()));
    let sinks = array(&[1.0, -1.0], &[2]);
    for isa in Isa::available() {
        for sinks in [None, Some(&sinks)] {
            assert!(attend(isa, &[(&case, &[])], sinks)[..32] == [0.0; 32]);
        }
    }
    for broken in [f32::NAN, f32::INFINITY] {
        case.q[32] = broken;
        for isa in Isa::available() {
            let y = attend(isa, &[(&case, &[])], None);
            assert!(y[..32] == [0.0; 32] && y[32..48].iter().all(|y| y.is_nan()), "{isa:?}: {y:?}");
        }
    }
}

#[test]
fn any_order_in_memory_and_any_shape_of_mask() {
    use_device(Device::Cpu).unwrap();
    let mut rng = Pcg64::seed_from_u64(6);
    let shape = Shape::new([4, 2], [6, 10]);
    let row: Vec<bool> = (0..90).map(|key| key % 3 > 0).collect();
    let case = Case::new(&mut rng, shape, 5, 90, Seen::Where(row.repeat(5)));
    let expected = attend(Isa::best(), &[(&case, &[])], None);
    let turn = |array: &Array| {
        let turned = ops::contiguous(&ops::swap_axes(array, -1, -2).unwrap()).unwrap();
        ops::swap_axes(&turned, -1, -2).unwrap()
    };
    let mut sequence = case.sequence(&[]);
    let run = &sequence.runs[0];
    sequence.runs = vec![Run { keys: turn(&run.keys), values: turn(&run.values), used: run.used }];
    let q = turn(&array(&case.q, &[1, 5, 24]));
    for mask in [booleans(&row, &[1, 1, 1, 90]), turn(&booleans(&row.repeat(5), &[5, 90]))] {
        sequence.mask = Mask::Array(mask);
        let sequences = std::slice::from_ref(&sequence);
        let y = crate::kernels::attention(&q, sequences, &shape.options(), None).unwrap().unwrap();
        assert!(y.to_vec_f32().unwrap() == expected);
    }
    for mask in [array(&[0.0; 450], &[5, 90]), booleans(&[true; 455], &[5, 91])] {
        sequence.mask = Mask::Array(mask);
        let sequences = std::slice::from_ref(&sequence);
        assert!(crate::kernels::attention(&q, sequences, &shape.options(), None).unwrap().is_none());
    }
    let half = ops::astype(&q, Dtype::F16).unwrap();
    let sequences = [case.sequence(&[])];
    assert!(crate::kernels::attention(&half, &sequences, &shape.options(), None).unwrap().is_none());
}
