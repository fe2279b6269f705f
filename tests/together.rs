//! Sequences that share buffers, as they do on a GPU, tried on the CPU with the kernels off.

mod common;

use common::{feed, feed_together};
use mlxrt::engine::{LoadOptions, load_for_tests};
use mlxrt::kernels;
use mlxrt::mlx::{Device, Dtype};
use mlxrt::nn::{Cache, length_class};

/// The largest difference, as a part of the largest logit.
fn apart(ours: &[f32], alone: &[f32]) -> f32 {
    let largest = |values: &mut dyn Iterator<Item = f32>| values.map(f32::abs).fold(0.0, f32::max);
    largest(&mut ours.iter().zip(alone).map(|(a, b)| a - b)) / largest(&mut alone.iter().copied())
}

#[test]
fn sequences_of_any_lengths_decode_together_as_alone() {
    kernels::set_off(true);
    let options = LoadOptions { device: Some(Device::Cpu), dtype: Some(Dtype::F32), ..Default::default() };
    let loaded = load_for_tests(&common::demo_model(), &options).unwrap();
    let model = &*loaded.model;
    let id = |n: usize| (n * 7919 % loaded.info.vocab_size as usize) as i32;
    // The first two share buffers, and from its 256th position on the third is another's neighbour.
    let lengths = [5, 40, 254, 300, 700];
    let classes = lengths.map(length_class);
    assert!(classes[0] == classes[1] && classes[1] == classes[2] && classes[2] < classes[3]);
    assert!(length_class(256) == classes[3] && classes[3] < classes[4]);
    let begun = || -> [Vec<Cache>; 5] {
        lengths.map(|length| {
            let mut caches = model.new_caches();
            feed(model, &(0..length).map(|n| id(n + length)).collect::<Vec<_>>(), &mut caches);
            caches
        })
    };
    let (mut alone, mut shared) = (begun(), begun());
    for step in 0..6 {
        let new: [[i32; 1]; 5] = std::array::from_fn(|index| [id(step * 5 + index)]);
        let expected: Vec<Vec<f32>> =
            alone.iter_mut().zip(&new).map(|(caches, new)| feed(model, new, caches)).collect();
        let [a, b, c, d, e] = &mut shared;
        let [new_a, new_b, new_c, new_d, new_e] = &new;
        let ours = feed_together(model, [(new_a, a), (new_b, b), (new_c, c), (new_d, d), (new_e, e)]);
        for (index, (ours, expected)) in ours.iter().zip(&expected).enumerate() {
            let apart = apart(ours, expected);
            assert!(apart < 1e-5, "sequence {index} is {apart} from itself in step {step}");
        }
    }
}
