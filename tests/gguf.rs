//! GGUF files: logits, greedy tokens and decoded blocks against mlx-lm and the gguf package
//! (tests/parity/gguf_files.py), and tokenizers against what they were made from.

mod common;

use common::{Arrays, argmax, feed, ids};
use mlxrt::engine::gguf::{Gguf, tokenizer};
use mlxrt::engine::{Encoding, LoadOptions, load_for_tests};
use mlxrt::mlx::{Device, Dtype, io};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The largest difference, as a part of the largest logit.
const TOLERANCE: f32 = 1e-4;
const GREEDY: usize = 32;

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    file: String,
}

/// Runs a script once for all tests that need what it writes.
fn files(test: &str, script: &str) -> Option<PathBuf> {
    static MADE: Mutex<BTreeMap<String, Option<PathBuf>>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock();
    let folder = made.entry(script.to_string()).or_insert_with(|| {
        let out = common::scratch(script.trim_end_matches(".py"));
        common::python(test, script, &[out.to_str()?]).map(|()| out)
    });
    if folder.is_none() {
        common::skip(test, "its script did not run");
    }
    folder.clone()
}

fn largest(values: impl Iterator<Item = f32>) -> f32 {
    values.map(f32::abs).fold(0.0, f32::max)
}

/// Relative error of the prompt's logits, and how many greedy tokens are the same.
fn compare(file: &Path, reference: &Arrays, dtype: Option<Dtype>, exact: bool) -> (f32, usize) {
    let options = LoadOptions { device: Some(Device::Cpu), dtype, exact, ..Default::default() };
    let loaded = load_for_tests(file, &options).unwrap();
    let model = &*loaded.model;
    let vocabulary = loaded.info.vocab_size as usize;
    let mut caches = model.new_caches();
    let prefill = feed(model, &ids(reference, "prompt"), &mut caches);
    let theirs = reference["prefill"].to_vec_f32().unwrap();
    assert_eq!(prefill.len(), theirs.len());
    let difference = largest(prefill.iter().zip(&theirs).map(|(a, b)| a - b));

    let mut greedy = vec![argmax(&prefill[prefill.len() - vocabulary..])];
    while greedy.len() < GREEDY {
        greedy.push(argmax(&feed(model, &greedy[greedy.len() - 1..], &mut caches)));
    }
    let equal = greedy.iter().zip(ids(reference, "greedy")).take_while(|(a, b)| *a == b).count();
    (difference / largest(theirs.into_iter()), equal)
}

#[test]
fn every_format_and_architecture_computes_what_mlx_lm_computes() {
    let Some(out) = files("GGUF parity with mlx-lm", "gguf_files.py") else { return };
    let text = std::fs::read_to_string(out.join("cases.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
    let mut failures = vec![];
    for case in &cases {
        let folder = out.join(&case.name);
        let reference = io::load_safetensors(&folder.join("reference.safetensors")).unwrap();
        let (error, equal) = compare(&folder.join(&case.file), &reference, None, true);
        println!("{:24} {error:9.1e} {equal:3}/{GREEDY}", case.name);
        if error > TOLERANCE || equal < GREEDY {
            failures.push(format!("{}: relative error {error:.2e}, {equal} tokens equal", case.name));
        }
        // With the inputs of products rounded: random weights carry errors far, but wrong numbers make it 1.
        let (error, _) = compare(&folder.join(&case.file), &reference, None, false);
        if error > 0.3 {
            failures.push(format!("{}: relative error {error:.2e} when rounded", case.name));
        }
    }
    assert!(cases.len() > 60 && failures.is_empty(), "{} cases\n{}", cases.len(), failures.join("\n"));
}

/// What a GPU computes in: scales and dense matrices are converted, packed ones stay as they are. A wrong
/// scale or bias would differ by as much as the logits themselves.
#[test]
fn sixteen_bits_differ_by_their_precision() {
    let Some(out) = files("GGUF in 16 bits", "gguf_files.py") else { return };
    for (dtype, limit) in [(Dtype::F16, 0.04), (Dtype::BF16, 0.3)] {
        for name in ["llama-mixed", "qwen2-q4_0", "qwen3-q8_0", "gemma3-q4_k"] {
            let folder = out.join(name);
            let reference = io::load_safetensors(&folder.join("reference.safetensors")).unwrap();
            let (error, _) = compare(&folder.join("model.gguf"), &reference, Some(dtype), true);
            println!("{name:24} {dtype:9} {error:9.1e}");
            assert!(error > 1e-5 && error < limit, "{name}: {dtype}: relative error {error:.2e}");
        }
    }
}

#[test]
fn blocks_decode_to_the_same_bits_as_in_the_gguf_package() {
    let Some(out) = files("GGUF blocks", "gguf_files.py") else { return };
    let path = out.join("formats.gguf");
    let bytes = std::fs::read(&path).unwrap();
    let gguf = Gguf::parse(&path, &bytes).unwrap();
    let expected = io::load_safetensors(&out.join("formats.safetensors")).unwrap();
    assert_eq!(gguf.tensors().len(), expected.len());
    for tensor in gguf.tensors() {
        let mut values = vec![];
        let begin = tensor.offset as usize;
        tensor.format.decode(&bytes[begin..begin + tensor.bytes as usize], &mut values);
        let theirs = expected[tensor.name].to_vec_f32().unwrap();
        assert_eq!(values.len(), theirs.len(), "{}", tensor.name);
        assert_eq!(values, theirs, "{}", tensor.name);
    }
}

#[derive(serde::Deserialize)]
struct Expected {
    name: String,
    end_ids: Vec<i32>,
    texts: Vec<Text>,
}

#[derive(serde::Deserialize)]
struct Text {
    text: String,
    ids: Vec<i32>,
    ids_with_special: Vec<i32>,
    decoded: Option<String>,
}

#[test]
fn tokenizers_are_those_that_the_files_were_made_from() {
    let Some(out) = files("GGUF tokenizers", "gguf_tokenizers.py") else { return };
    let text = std::fs::read_to_string(out.join("tokenizers.json")).unwrap();
    let expected: Vec<Expected> = serde_json::from_str(&text).unwrap();
    let mut failures = vec![];
    for Expected { name, end_ids, texts } in &expected {
        let path = out.join(format!("{name}.gguf"));
        let bytes = std::fs::read(&path).unwrap();
        let tokenizer = tokenizer(&Gguf::parse(&path, &bytes).unwrap()).unwrap();
        assert_eq!(tokenizer.end_ids(), end_ids, "{name}");
        for Text { text, ids, ids_with_special, decoded } in texts {
            let found = tokenizer.encode(text, Encoding::default()).unwrap();
            if found != *ids {
                failures.push(format!("{name}: {text:?}\n  expected {ids:?}\n  found    {found:?}"));
            }
            assert_eq!(
                tokenizer.encode(text, Encoding { add_special: true, ..Default::default() }).unwrap(),
                *ids_with_special,
                "{name}: {text:?}"
            );
            if let Some(decoded) = decoded {
                assert_eq!(tokenizer.decode(ids, false).unwrap(), *decoded, "{name}: {text:?}");
            }
        }
    }
    assert!(expected.len() > 10 && failures.is_empty(), "{}", failures.join("\n"));
}
