//! What the Rust tests share.
#![allow(dead_code)]

use mlxrt::mlx::{Array, Dtype, ops};
use mlxrt::models::Model;
use mlxrt::nn::{Batch, Cache, Pass};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The model that ships with the project.
pub fn demo_model() -> PathBuf {
    root().join("demo/model")
}

/// A folder for what tests make, kept between runs.
pub fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The line that `make test` collects.
pub fn skip(name: &str, why: &str) {
    println!("skipped: {name}: {why}");
}

/// Runs a script of tests/parity with the Python that has mlx-lm; `None`: it cannot be had here, and
/// that was said. One test at a time makes the environment.
pub fn python(test: &str, script: &str, args: &[&str]) -> Option<()> {
    static ENVIRONMENT: parking_lot::Mutex<()> = parking_lot::Mutex::new(());
    let folder = root().join("tests/parity");
    let venv = scratch("venv");
    let made = {
        let _one = ENVIRONMENT.lock();
        Command::new("sh").arg(folder.join("venv.sh")).arg(&venv).output().expect("sh runs")
    };
    if made.status.code() == Some(3) {
        let said = String::from_utf8_lossy(&made.stdout);
        skip(test, said.trim().strip_prefix("skipped: parity: ").unwrap_or(said.trim()));
        return None;
    }
    assert!(made.status.success(), "venv.sh: {}", String::from_utf8_lossy(&made.stderr));
    let output = Command::new(venv.join("bin/python")).arg(folder.join(script)).args(args).output().unwrap();
    assert!(
        output.status.success(),
        "{script} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Some(())
}

/// Tensors of a reference file by name.
pub type Arrays = HashMap<String, Array>;

/// Runs ids behind the caches; logits of every position, row after row.
pub fn feed(model: &dyn Model, ids: &[i32], caches: &mut [Cache]) -> Vec<f32> {
    feed_together(model, [(ids, caches)]).remove(0)
}

/// The same for several sequences in one pass.
pub fn feed_together<const N: usize>(
    model: &dyn Model,
    sequences: [(&[i32], &mut [Cache]); N],
) -> Vec<Vec<f32>> {
    let ids: Vec<i32> = sequences.iter().flat_map(|(ids, _)| *ids).copied().collect();
    let lengths = sequences.each_ref().map(|(ids, _)| ids.len());
    let mut batch = Batch::new(sequences.map(|(ids, caches)| (caches, ids.len() as i32))).unwrap();
    let input = Array::from_i32(&ids, &[1, ids.len() as i32]).unwrap();
    let hidden = model.forward(&input, &mut batch, &Pass::default()).unwrap();
    let logits = model.logits(&hidden).unwrap().to_vec_f32().unwrap();
    // Not a number is no distance from anything: the comparisons below would let it pass.
    assert!(logits.iter().all(|logit| logit.is_finite()));
    let mut rest = &logits[..];
    let mut cut = |length| rest.split_off(..length * logits.len() / ids.len()).unwrap().to_vec();
    lengths.map(&mut cut).into()
}

/// A reference's token ids.
pub fn ids(arrays: &Arrays, name: &str) -> Vec<i32> {
    let floats = ops::astype(&arrays[name], Dtype::F32).unwrap().to_vec_f32().unwrap();
    floats.into_iter().map(|id| id as i32).collect()
}

/// The most likely token; the lower id of two.
pub fn argmax(row: &[f32]) -> i32 {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a))).unwrap() as i32
}
