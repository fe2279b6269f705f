//! Finding models on the disk: what is told of each, and that nothing broken stops the search.

mod common;

use mlxrt::engine::{Cancel, DiscoverOptions, LoadOptions, Model, ModelEntry, discover};
use mlxrt::error::Error;
use mlxrt::mlx::Dtype;
use mlxrt::mlx::ops::QuantMode;
use once_cell::sync::Lazy;
use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

const CONFIG: &str = r#"{"model_type": "llama", "torch_dtype": "bfloat16", "max_position_embeddings": 4096}"#;
const INDEX: &str =
    r#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;

/// A cache of the tests' own, which every test of this process has in its environment.
static CACHE: Lazy<PathBuf> = Lazy::new(|| {
    let cache = empty("discover-cache");
    // SAFETY: every test comes by here before it does anything else.
    unsafe { std::env::set_var("HF_HUB_CACHE", &cache) };
    cache
});

fn empty(name: &str) -> PathBuf {
    let folder = common::scratch(name);
    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    folder
}

fn write(folder: &Path, files: &[(&str, &str)]) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    for (name, content) in files {
        fs::write(folder.join(name), content).unwrap();
    }
    folder.to_path_buf()
}

/// What discovery takes for a sound model: its weights are many bytes that nobody wrote.
fn model(folder: &Path) -> PathBuf {
    write(folder, &[("config.json", CONFIG), ("tokenizer.json", "{}")]);
    File::create(folder.join("model.safetensors")).unwrap().set_len(1 << 30).unwrap();
    folder.to_path_buf()
}

fn list(folder: &Path, options: &DiscoverOptions) -> Vec<ModelEntry> {
    Lazy::force(&CACHE);
    let mut entries = vec![];
    let end = discover(Some(folder), options, &mut |entry| {
        entries.push(entry.clone());
        true
    });
    end.unwrap();
    entries
}

fn paths(folder: &Path, options: &DiscoverOptions) -> Vec<String> {
    let name = |entry: ModelEntry| entry.path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
    list(folder, options).into_iter().map(name).collect()
}

/// Read calls of this thread so far.
fn reads() -> Option<u64> {
    let io = fs::read_to_string("/proc/thread-self/io").ok()?;
    io.lines().find_map(|line| line.strip_prefix("syscr: "))?.parse().ok()
}

#[test]
fn thousands_of_folders_with_broken_ones_among_them() {
    // Kept: making them takes much longer than finding them.
    let folder = common::scratch("discover-thousands");
    if !folder.join("made").exists() {
        for index in 0..3000 {
            let path = model(&folder.join(format!("org{}/model{index:04}", index % 10)));
            if index % 100 == 0 {
                fs::write(path.join("config.json"), "{\"model_type\": ").unwrap();
            }
        }
        fs::write(folder.join("made"), "").unwrap();
    }
    let (before, started) = (reads(), Instant::now());
    let entries = list(&folder, &DiscoverOptions::default());
    println!("3000 model folders in {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    let after = reads();
    assert_eq!(entries.len(), 3000);
    assert!(entries.is_sorted_by(|a, b| a.path < b.path));
    assert_eq!(entries.iter().filter(|entry| entry.problem.is_some()).count(), 30);
    assert!(entries.iter().all(|entry| entry.weight_bytes == 1 << 30));
    match before.zip(after) {
        // config.json, and its end.
        Some((before, after)) => assert!(after - before < 3 * 3000, "{} reads", after - before),
        None => common::skip("reads of discovery", "no /proc to count them in"),
    }
}

#[test]
fn what_is_told() {
    let folder = empty("discover-told");
    symlink(common::demo_model(), folder.join("demo")).unwrap();
    let gemma = r#"{"model_type": "gemma3", "text_config": {"max_position_embeddings": 99, "dtype": "float16"},
        "quantization": {"mode": "affine", "bits": 3, "group_size": 32}}"#;
    let sharded = write(&folder.join("sharded"), &[("config.json", gemma), ("tokenizer.json", "{}")]);
    write(&sharded, &[("model.safetensors.index.json", INDEX), ("other.safetensors", "not in the index")]);
    write(
        &sharded,
        &[("model-00001-of-00002.safetensors", "12345"), ("model-00002-of-00002.safetensors", "678")],
    );

    let entries = list(&folder, &DiscoverOptions::default());
    let [demo, gemma] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!(demo.path, folder.join("demo"));
    assert_eq!((demo.architecture.as_str(), demo.quant_name.as_str()), ("llama", "affine"));
    assert_eq!((demo.quant_bits, demo.quant_group, demo.context_length), (4, 64, 1024));
    let weights = common::demo_model().join("model.safetensors");
    assert_eq!(demo.weight_bytes, fs::metadata(weights).unwrap().len());
    assert_eq!((&demo.id, &demo.problem), (&None, &None));
    assert_eq!((gemma.architecture.as_str(), gemma.dtype_name.as_str()), ("gemma3", "float16"));
    assert_eq!((gemma.dtype, gemma.quant_mode), (Some(Dtype::F16), Some(QuantMode::Affine)));
    assert_eq!((gemma.quant_bits, gemma.quant_group, gemma.context_length), (3, 32, 99));
    assert_eq!((gemma.weight_bytes, &gemma.problem), (8, &None));
}

#[test]
fn what_cannot_be_run_says_why() {
    let folder = empty("discover-problems");
    let with = |name: &str, files: &[(&str, &str)]| {
        write(&model(&folder.join(name)), files);
        name.to_string()
    };
    let without = |name: &str, file: &str| {
        fs::remove_file(model(&folder.join(name)).join(file)).unwrap();
        name.to_string()
    };
    let other = r#"{"model_type": "llama", "quantization_config": {"quant_method": "gptq", "bits": 4}}"#;
    let mode = r#"{"model_type": "llama", "quantization": {"mode": "odd", "bits": 4, "group_size": 64}}"#;
    let rope = r#"{"model_type": "llama", "rope_scaling": {"type": "spiral", "factor": 2}}"#;
    let layers = r#"{"model_type": "gemma3", "text_config":
        {"rope_parameters": {"full_attention": {"rope_type": "helix"}}}}"#;
    let huge = with("huge config", &[]);
    File::create(folder.join(&huge).join("config.json")).unwrap().set_len(1 << 40).unwrap();
    let pipe = without("pipe", "config.json");
    let name = CString::new(folder.join(&pipe).join("config.json").to_str().unwrap()).unwrap();
    // SAFETY: a NUL-terminated path.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let dangling = without("dangling", "model.safetensors");
    symlink("/nowhere/at/all", folder.join(&dangling).join("model.safetensors")).unwrap();

    let mut expected = vec![
        (huge, "at most, it has 1099511627776"),
        (pipe, "config.json: not a file"),
        (dangling, "model.safetensors: not there"),
        (with("not json", &[("config.json", "{")]), "config.json: EOF while parsing"),
        (with("a list", &[("config.json", "[]")]), "expected a JSON object"),
        (with("no type", &[("config.json", "{}")]), "`model_type`: expected a string"),
        (with("odd type", &[("config.json", r#"{"model_type": "mamba"}"#)]), "is \"mamba\"; known are"),
        (with("gptq", &[("config.json", other)]), "`quantization_config.quant_method` is \"gptq\""),
        (with("odd rope", &[("config.json", rope)]), "`rope_scaling.rope_type` is \"spiral\""),
        (with("odd rope of layers", &[("config.json", layers)]), "`rope_scaling.rope_type` is \"helix\""),
        (with("odd mode", &[("config.json", mode)]), "`quantization.mode` is \"odd\""),
        (
            with("no shard", &[("model.safetensors.index.json", INDEX)]),
            "model-00001-of-00002.safetensors: not there",
        ),
        (with("odd index", &[("model.safetensors.index.json", "{}")]), "`weight_map`: expected an object"),
        (without("no config", "config.json"), "config.json: not there"),
        (without("no weights", "model.safetensors"), "no .safetensors file"),
        (without("no tokenizer", "tokenizer.json"), "tokenizer.json: not there"),
    ];
    expected.sort();
    let entries = list(&folder, &DiscoverOptions::default());
    assert_eq!(entries.len(), expected.len());
    for (entry, (name, why)) in entries.iter().zip(&expected) {
        assert_eq!(entry.path, folder.join(name));
        let problem = entry.problem.as_ref().unwrap_or_else(|| panic!("{name} has no problem")).to_string();
        assert!(problem.contains(why), "{name}: {problem}");
        if !name.contains("config") && name != "pipe" {
            // Loading says the same, or something that it finds before.
            assert!(Model::load(&entry.path, LoadOptions::default(), &mut |_, _| true).is_err(), "{name}");
        }
    }
}

#[test]
fn what_is_no_model() {
    let folder = empty("discover-none");
    write(&folder.join("program"), &[("config.json", "{}"), ("main.js", "")]);
    write(&folder.join("adapter"), &[("adapter_config.json", "{}"), ("adapters.safetensors", "")]);
    model(&folder.join(".hidden/model"));
    assert_eq!(paths(&folder, &DiscoverOptions::default()), [""; 0]);
    let mut never = |entry: &ModelEntry| panic!("{entry:?}");
    let missing = discover(Some(&folder.join("nowhere")), &DiscoverOptions::default(), &mut never);
    assert!(matches!(missing, Err(Error::NotFound(what)) if what.contains("nowhere")));
}

#[test]
fn links_and_depth() {
    let folder = empty("discover-links");
    let model = model(&folder.join("a/b/model"));
    symlink("..", model.join("up")).unwrap();
    symlink(&folder, folder.join("a/all")).unwrap();
    symlink("self", folder.join("self")).unwrap();
    symlink("a/b", folder.join("z")).unwrap();
    assert_eq!(paths(&folder, &DiscoverOptions::default()), ["a/b/model"]);
    let depth = |max_depth| DiscoverOptions { max_depth: Some(max_depth), ..Default::default() };
    assert_eq!(paths(&folder, &depth(3)), ["a/b/model"]);
    assert_eq!(paths(&folder, &depth(2)), [""; 0]);
    assert_eq!(paths(&folder, &depth(1)), [""; 0]);
    assert_eq!(paths(&model, &depth(1)), [""]);
}

#[test]
fn broken_gguf_files() {
    let folder = empty("discover-gguf");
    let files = [("x.gguf", "GGUF\x03\0\0\0"), ("y.gguf", "GGML"), ("z.gguf", "GG")];
    write(&folder.join("a"), &files);
    write(&folder.join("a"), &[("split-00002-of-00003.gguf", "what the first file goes on in")]);
    let entries = list(&folder, &DiscoverOptions::default());
    assert_eq!(entries.len(), 3);
    for (entry, (name, contents)) in entries.iter().zip(files) {
        assert_eq!(
            (entry.path.clone(), entry.weight_bytes),
            (folder.join("a").join(name), contents.len() as u64)
        );
        let problem = entry.problem.clone().map(|error| error.to_string()).unwrap_or_default();
        assert!(problem.contains(name), "{entries:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let folder = empty("discover-utf8");
    model(&folder.join(std::ffi::OsStr::from_bytes(b"caf\xe9")));
    model(&folder.join("café"));
    let entries = list(&folder, &DiscoverOptions::default());
    let problems: Vec<_> = entries.iter().map(|entry| entry.problem.is_some()).collect();
    assert_eq!(problems, [false, true]);
    assert!(entries[1].problem.as_ref().unwrap().to_string().contains("not UTF-8"));
}

#[cfg(target_os = "linux")]
#[test]
fn folders_that_may_not_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let folder = empty("discover-unreadable");
    model(&folder.join("a"));
    let closed = model(&folder.join("closed"));
    model(&folder.join("z"));
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    Lazy::force(&CACHE);
    // Root may read everything: this thread, and it alone, gives that up.
    // SAFETY: no pointers.
    let entries = std::thread::spawn(move || {
        unsafe { libc::setfsuid(65534) };
        let entries = list(&folder, &DiscoverOptions::default());
        unsafe { libc::setfsuid(0) };
        entries
    });
    let entries = entries.join().unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let names: Vec<_> =
        entries.iter().map(|entry| entry.path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["a", "closed", "z"]);
    let problem = entries[1].problem.as_ref().unwrap().to_string();
    assert!(problem.contains("closed") && problem.contains("ermission denied"), "{problem}");
    assert_eq!((&entries[0].problem, &entries[2].problem), (&None, &None));
}

#[test]
fn stopping() {
    let folder = empty("discover-stop");
    (0..3).for_each(|index| drop(model(&folder.join(index.to_string()))));
    let mut told = 0;
    let end = discover(Some(&folder), &DiscoverOptions::default(), &mut |_| {
        told += 1;
        told < 2
    });
    assert_eq!((end, told), (Ok(()), 2));
    let cancel = Arc::new(Cancel::default());
    let options = DiscoverOptions { cancel: Some(cancel.clone()), ..Default::default() };
    let end = discover(Some(&folder), &options, &mut |_| {
        cancel.trigger();
        true
    });
    assert_eq!(end, Err(Error::Cancelled));
}

#[test]
fn the_cache() {
    let cache = &*CACHE;
    let repository = |name: &str, commit: &str| {
        let folder = cache.join(name);
        fs::create_dir_all(folder.join("refs")).unwrap();
        fs::create_dir_all(folder.join("blobs")).unwrap();
        fs::write(folder.join("refs/main"), commit).unwrap();
        folder
    };
    // As huggingface_hub lays it out: snapshots link to blobs.
    let demo = repository("models--org--demo", "c0ffee");
    fs::create_dir_all(demo.join("snapshots/c0ffee")).unwrap();
    for file in fs::read_dir(common::demo_model()).unwrap() {
        let (from, name) = (file.as_ref().unwrap().path(), file.unwrap().file_name());
        fs::copy(from, demo.join("blobs").join(&name)).unwrap();
        symlink(Path::new("../../blobs").join(&name), demo.join("snapshots/c0ffee").join(&name)).unwrap();
    }
    symlink("c0ffee", demo.join("snapshots/0ld")).unwrap();
    fs::remove_file(demo.join("snapshots/0ld")).unwrap();
    model(&demo.join("snapshots/0ld"));
    let begun = repository("models--org--begun", "1");
    fs::write(begun.join("blobs/abc.incomplete"), "").unwrap();
    let half = repository("models--org--half", "2");
    write(&half.join("snapshots/2"), &[("config.json", CONFIG)]);
    fs::write(half.join("blobs/abc.part"), "").unwrap();

    let mut entries = vec![];
    let found = &mut |entry: &ModelEntry| {
        entries.push(entry.clone());
        true
    };
    discover(None, &DiscoverOptions::default(), found).unwrap();
    let summary: Vec<_> =
        entries.iter().map(|entry| (entry.id.as_deref().unwrap(), entry.problem.is_none())).collect();
    let expected = [("org/begun", false), ("org/demo@0ld", true), ("org/demo", true), ("org/half", false)];
    assert_eq!(summary, expected);
    let problem = |index: usize| entries[index].problem.as_ref().unwrap().to_string();
    assert!(problem(0).contains("hardly begun"), "{}", problem(0));
    assert!(problem(3).contains("no .safetensors file; its download is not finished"), "{}", problem(3));

    let folder = empty("discover-beside");
    model(&folder.join("mine"));
    let options = DiscoverOptions { include_cache: true, ..Default::default() };
    assert_eq!(list(&folder, &options).len(), 1 + entries.len());
    assert_eq!(list(&folder, &DiscoverOptions::default()).len(), 1);

    let load = |id: &str| Model::load(Path::new(id), LoadOptions::default(), &mut |_, _| true);
    for id in ["org/demo", "org/demo@main", "org/demo@c0ffee"] {
        assert_eq!(load(id).unwrap().info().architecture, "llama");
    }
    let missing = load("org/missing").err().unwrap();
    let both = format!(
        "org/missing: no such file or folder, and not in the Hugging Face cache ({})",
        cache.display()
    );
    assert_eq!(missing, Error::NotFound(both));
    assert!(matches!(load("org/half").err(), Some(Error::NotFound(_))));
}

#[cfg(not(feature = "hub"))]
#[test]
fn without_downloads() {
    Lazy::force(&CACHE);
    let options = LoadOptions { download: true, ..Default::default() };
    match Model::load(Path::new("org/nowhere"), options, &mut |_, _| true).err() {
        Some(Error::Unsupported(what)) => assert!(what.contains("`hub`"), "{what}"),
        other => panic!("{other:?}"),
    }
}
