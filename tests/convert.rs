//! Converted checkpoints against mlx-lm's own conversion of the same weights, bit by bit, and its logits
//! of ours.

mod common;

use mlxrt::engine::{Cancel, ConvertOptions, LoadOptions, convert, load_for_tests};
use mlxrt::error::Error;
use mlxrt::mlx::ops::{QuantMode, Quantization};
use mlxrt::mlx::{Array, Device, Dtype, io};
use mlxrt::nn::{Batch, Pass};
use std::path::Path;
use std::sync::Arc;

#[derive(serde::Deserialize)]
struct Row {
    name: String,
    mode: String,
    group: i32,
    bits: i32,
    to: Option<String>,
    prompt: Vec<i32>,
}

fn options(row: &Row) -> ConvertOptions {
    let quantization =
        QuantMode::from_name(&row.mode).map(|mode| Quantization::new(mode, row.group, row.bits).unwrap());
    let dtype = row.to.as_ref().map(|name| match name.as_str() {
        "bfloat16" => Dtype::BF16,
        other => panic!("{other}"),
    });
    ConvertOptions { quantization, dtype, ..Default::default() }
}

/// Logits of every position, computed in float32.
fn logits(folder: &Path, prompt: &[i32]) -> Vec<f32> {
    let (device, dtype) = (Some(Device::Cpu), Some(Dtype::F32));
    let options = LoadOptions { device, dtype, exact: true, ..LoadOptions::default() };
    let model = load_for_tests(folder, &options).unwrap().model;
    let ids = Array::from_i32(prompt, &[1, prompt.len() as i32]).unwrap();
    let mut caches = model.new_caches();
    let mut batch = Batch::one(&mut caches, ids.dim(1)).unwrap();
    let hidden = model.forward(&ids, &mut batch, &Pass::default()).unwrap();
    model.logits(&hidden).unwrap().to_vec_f32().unwrap()
}

#[test]
fn mlx_lm_makes_the_same_and_says_the_same() {
    let out = common::scratch("convert");
    let name = "conversion beside mlx-lm's";
    let Some(()) = common::python(name, "convert.py", &["make", out.to_str().unwrap()]) else { return };
    let text = std::fs::read_to_string(out.join("rows.json")).unwrap();
    let rows: Vec<Row> = serde_json::from_str(&text).unwrap();
    for row in &rows {
        let folder = out.join(&row.name);
        let mut told = vec![];
        convert(&folder.join("model"), &folder.join("converted"), options(row), &mut |done, all| {
            told.push((done, all));
            true
        })
        .unwrap();
        let total = told[0].1;
        assert!(told.len() > 2 && told.is_sorted() && told.iter().all(|(_, all)| *all == total), "{told:?}");
        assert_eq!((told[0].0, told[told.len() - 1].0), (0, total), "{}", row.name);
        assert!(folder.join("converted/tokenizer.json").exists());
    }
    common::python(name, "convert.py", &["check", out.to_str().unwrap()]).unwrap();
    for row in &rows {
        let folder = out.join(&row.name);
        let theirs = io::load_safetensors(&folder.join("logits.safetensors")).unwrap();
        let theirs = theirs["logits"].to_vec_f32().unwrap();
        let ours = logits(&folder.join("converted"), &row.prompt);
        assert_eq!(ours.len(), theirs.len());
        let largest = theirs.iter().fold(0.0, |most: f32, b| most.max(b.abs()));
        let difference = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{:20} {:.1e}", row.name, difference / largest);
        assert!(difference <= 1e-4 * largest, "{}: logits differ by {difference}", row.name);
    }
}

/// What lies in a folder.
fn names(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn nothing_is_left_of_what_was_not_finished() {
    let out = common::scratch("convert-cancel");
    std::fs::remove_dir_all(&out).unwrap();
    std::fs::create_dir_all(&out).unwrap();
    let (source, copy) = (common::demo_model(), out.join("copy"));

    // Who asked to stop is told no more, though the engine may be ahead.
    let mut calls = 0;
    let stopped = convert(&source, &copy, ConvertOptions::default(), &mut |_, _| {
        calls += 1;
        std::thread::sleep(std::time::Duration::from_millis(100));
        calls < 2
    });
    assert_eq!((stopped, calls), (Err(Error::Cancelled), 2));
    let cancel = Arc::new(Cancel::default());
    cancel.trigger();
    let options = ConvertOptions { cancel: Some(cancel), ..Default::default() };
    assert_eq!(convert(&source, &copy, options, &mut |_, _| true), Err(Error::Cancelled));
    let quantize =
        ConvertOptions { quantization: Quantization::new(QuantMode::Affine, 64, 4), ..Default::default() };
    let again = convert(&source, &copy, quantize, &mut |_, _| true);
    assert!(matches!(again, Err(Error::BadArgument(why)) if why.contains("quantised already")));
    assert!(names(&out).is_empty(), "{:?}", names(&out));

    // Without quantisation it is a copy in mlx-lm's form, and a second one does not overwrite it.
    convert(&source, &copy, ConvertOptions::default(), &mut |_, _| true).unwrap();
    assert_eq!(logits(&copy, &[1, 2, 3]), logits(&source, &[1, 2, 3]));
    let twice = convert(&source, &copy, ConvertOptions::default(), &mut |_, _| true);
    assert!(matches!(twice, Err(Error::BadArgument(_))));
    assert_eq!(names(&out), ["copy"]);
}

#[test]
fn what_describes_the_source_stays_behind() {
    let out = common::scratch("convert-copies");
    std::fs::remove_dir_all(&out).unwrap();
    let source = out.join("source");
    std::fs::create_dir_all(source.join("additional_chat_templates")).unwrap();
    for entry in std::fs::read_dir(common::demo_model()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, source.join(path.file_name().unwrap())).unwrap();
    }
    let copied = [
        "merges.txt",
        "tiktoken.model",
        "b.tiktoken",
        "code.py",
        "c.jsonl",
        "additional_chat_templates/tools.jinja",
    ];
    let left =
        ["README.md", "hf_quant_config.json", "notes", "other.bin", "additional_chat_templates/notes.txt"];
    for name in copied.iter().chain(&left) {
        std::fs::write(source.join(name), "{}").unwrap();
    }
    let file = source.join("config.json");
    let mut json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    json["dtype"] = "float32".into();
    std::fs::write(&file, json.to_string()).unwrap();

    let options = ConvertOptions { dtype: Some(Dtype::F16), ..Default::default() };
    convert(&source, &out.join("copy"), options, &mut |_, _| true).unwrap();
    for name in copied {
        assert!(out.join("copy").join(name).exists(), "{name}");
    }
    for name in left {
        assert!(!out.join("copy").join(name).exists(), "{name}");
    }
    let text = std::fs::read_to_string(out.join("copy/config.json")).unwrap();
    let said: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&said["dtype"], said["torch_dtype"].as_str().unwrap_or("float16")),
        (&"float16".into(), "float16")
    );
}

#[test]
fn a_place_that_cannot_be_written_is_no_fault_of_the_model() {
    let out = common::scratch("convert-unwritable");
    let file = out.join("file");
    std::fs::write(&file, "").unwrap();
    let refused =
        convert(&common::demo_model(), &file.join("copy"), ConvertOptions::default(), &mut |_, _| true);
    assert!(matches!(&refused, Err(Error::Io(why)) if why.contains("copy.partial-")), "{refused:?}");
}
