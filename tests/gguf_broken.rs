//! Broken GGUF files: each is an error that names file and key, whatever stands in it, and none makes the
//! parser allocate more than the file is long, about.

#[path = "common/allocations.rs"]
mod allocations;
mod common;

use allocations::LARGEST;
use mlxrt::engine::gguf::{Gguf, config, tokenizer};
use mlxrt::engine::{
    Conversation, DiscoverOptions, Encoding, GenerateOptions, LoadOptions, Model, ModelEntry, discover,
};
use mlxrt::error::{Error, Result};
use std::path::{Path, PathBuf};

/// What stands in a file.
#[derive(Clone)]
struct Contents {
    version: u32,
    /// Keys, kinds and values.
    metadata: Vec<(String, u32, Vec<u8>)>,
    /// Names, sizes (columns first), formats and offsets.
    tensors: Vec<(String, Vec<u64>, u32, u64)>,
    data: usize,
}

const U32: u32 = 4;
const F32: u32 = 6;
const TEXT: u32 = 8;
const LIST: u32 = 9;

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn list(kind: u32, values: &[Vec<u8>]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &(values.len() as u64).to_le_bytes(), &values.concat()].concat()
}

fn texts(values: &[&str]) -> Vec<u8> {
    list(TEXT, &values.iter().map(|value| text(value)).collect::<Vec<_>>())
}

impl Contents {
    /// A sound model of one layer.
    fn sound() -> Self {
        let mut contents = Contents { version: 3, metadata: vec![], tensors: vec![], data: 0 };
        contents.set("general.architecture", TEXT, text("llama"));
        for (key, value) in [
            ("block_count", 1),
            ("context_length", 64),
            ("embedding_length", 32),
            ("feed_forward_length", 32),
            ("attention.head_count", 2),
        ] {
            contents.set_int(&format!("llama.{key}"), value);
        }
        contents.set("llama.attention.layer_norm_rms_epsilon", F32, 1e-5f32.to_le_bytes().to_vec());
        contents.set("tokenizer.ggml.model", TEXT, text("gpt2"));
        contents.set("tokenizer.ggml.pre", TEXT, text("gpt-2"));
        contents.set("tokenizer.ggml.tokens", LIST, texts(&["a", "b", "ab", "<end>"]));
        let kinds = [1, 1, 1, 3].map(|kind: i32| kind.to_le_bytes().to_vec());
        contents.set("tokenizer.ggml.token_type", LIST, list(5, &kinds));
        contents.set("tokenizer.ggml.merges", LIST, texts(&["a b"]));
        contents.set_int("tokenizer.ggml.eos_token_id", 3);
        contents.set("tokenizer.chat_template", TEXT, text("{{ messages[0].content }}{{ eos_token }}"));
        contents.add("token_embd.weight", &[32, 4], 8, 4 * 34);
        for name in ["output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"] {
            contents.add(&format!("{name}.weight"), &[32], 0, 128);
        }
        for name in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"] {
            contents.add(&format!("blk.0.{name}.weight"), &[32, 32], 2, 32 * 18);
        }
        contents
    }

    fn set(&mut self, key: &str, kind: u32, value: Vec<u8>) {
        self.metadata.retain(|(known, ..)| known != key);
        self.metadata.push((key.into(), kind, value));
    }

    fn set_int(&mut self, key: &str, value: u32) {
        self.set(key, U32, value.to_le_bytes().to_vec());
    }

    fn add(&mut self, name: &str, sizes: &[u64], format: u32, bytes: usize) {
        self.tensors.push((name.into(), sizes.to_vec(), format, self.data as u64));
        self.data += bytes.next_multiple_of(32);
    }

    fn tensor(&mut self, name: &str) -> &mut (String, Vec<u64>, u32, u64) {
        self.tensors.iter_mut().find(|(known, ..)| known == name).unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, kind, value) in &self.metadata {
            out.extend([text(key), kind.to_le_bytes().to_vec(), value.clone()].concat());
        }
        for (name, sizes, format, offset) in &self.tensors {
            out.extend(text(name));
            out.extend((sizes.len() as u32).to_le_bytes());
            sizes.iter().for_each(|size| out.extend(size.to_le_bytes()));
            out.extend(format.to_le_bytes());
            out.extend(offset.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(32) + self.data, 0x11);
        out
    }
}

const NAME: &str = "broken.gguf";

/// Everything that reads metadata.
fn read(bytes: &[u8]) -> Result<()> {
    let gguf = Gguf::parse(Path::new(NAME), bytes)?;
    config(&gguf, &gguf.tensors().iter().collect::<Vec<_>>(), None)?;
    tokenizer(&gguf)?;
    Ok(())
}

fn write(name: &str, bytes: &[u8]) -> PathBuf {
    // Tests run beside each other.
    let thread = std::thread::current();
    let path = common::scratch("gguf_broken").join(thread.name().unwrap_or("main")).join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

fn load(path: &Path) -> Result<Model> {
    Model::load(path, LoadOptions::default(), &mut |_, _| true)
}

#[test]
fn the_sound_file_loads_and_answers() {
    // By its first bytes too.
    for name in ["sound.gguf", "sound"] {
        let model = load(&write(name, &Contents::sound().bytes())).unwrap();
        assert_eq!(model.info().architecture, "llama");
        assert_eq!(model.info().quantization.map(|quantization| quantization.bits), Some(4));
        let conversation = Conversation::new([("user", "ab")]);
        assert_eq!(model.render_chat(&conversation).unwrap(), "ab<end>");
        let prompt = model
            .tokenizer()
            .encode("ab<end>a", Encoding { add_special: true, ..Default::default() })
            .unwrap();
        assert_eq!(prompt, [2, 3, 0]);
        let options = GenerateOptions { max_tokens: 2, ignore_end: true, ..Default::default() };
        model.generate(prompt, options, &mut |_| true).end.unwrap();
    }
}

/// What discovery says of the only file in its folder.
fn discovered(path: &Path) -> ModelEntry {
    let mut entries = vec![];
    discover(path.parent(), &DiscoverOptions::default(), &mut |entry| {
        entries.push(entry.clone());
        true
    })
    .unwrap();
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries.remove(0)
}

#[test]
fn discovery_says_what_loading_says() {
    let spoilt: [fn(&mut Contents); 5] = [
        |contents| contents.set("tokenizer.ggml.pre", TEXT, text("odd")),
        |contents| contents.set("tokenizer.ggml.model", TEXT, text("odd")),
        |contents| contents.metadata.retain(|(key, ..)| key != "tokenizer.ggml.tokens"),
        |contents| contents.tensor("blk.0.attn_q.weight").0 = "blk.0.odd.weight".into(),
        |contents| contents.set("llama.rope.scaling.type", TEXT, text("odd")),
    ];
    for spoil in spoilt {
        let mut contents = Contents::sound();
        spoil(&mut contents);
        let path = write(NAME, &contents.bytes());
        let problem = discovered(&path).problem.map(|error| error.to_string());
        assert_eq!(problem, load(&path).err().map(|error| error.to_string()));
        assert!(problem.is_some());
    }
}

#[test]
fn the_sound_file_is_discovered() {
    let path = write("sound.gguf", &Contents::sound().bytes());
    let entry = discovered(&path);
    assert_eq!((&entry.path, entry.architecture.as_str(), &entry.problem), (&path, "llama", &None));
    assert_eq!(entry.weight_bytes, std::fs::metadata(&path).unwrap().len());
    assert_eq!((entry.quant_name.as_str(), entry.quant_bits, entry.quant_group), ("affine", 4, 32));
    assert!(entry.context_length > 0);
}

#[test]
fn loading_tells_its_progress_and_can_be_stopped() {
    let path = write("sound.gguf", &Contents::sound().bytes());
    let mut told = vec![];
    let model = Model::load(&path, LoadOptions::default(), &mut |done, total| {
        told.push((done, total));
        true
    });
    let bytes = model.unwrap().info().weight_bytes;
    assert_eq!((told[0], told[told.len() - 1]), ((0, bytes), (bytes, bytes)));
    let stopped = Model::load(&path, LoadOptions::default(), &mut |_, _| false).map(drop);
    assert_eq!(stopped, Err(Error::Cancelled));
}

#[test]
fn a_file_cut_short_anywhere_is_an_error() {
    let bytes = Contents::sound().bytes();
    read(&bytes).unwrap();
    for length in 0..bytes.len() {
        // The padding behind the last tensor may be missing, nothing else.
        let error = read(&bytes[..length]).err();
        let error =
            error.unwrap_or_else(|| panic!("{length} of {} bytes are enough", bytes.len())).to_string();
        assert!(
            error.contains(NAME) && error.contains(if length < 4 { "GGUF" } else { "truncated" }),
            "{error}"
        );
    }
    for length in (0..bytes.len()).step_by(509) {
        let error = load(&write("short.gguf", &bytes[..length])).map(drop).unwrap_err();
        assert!(matches!(&error, Error::BadModel(text) if text.contains("short.gguf")), "{error:?}");
    }
}

#[test]
fn any_byte_may_be_wrong() {
    let sound = Contents::sound().bytes();
    let header = sound.len() - Contents::sound().data;
    LARGEST.set(0);
    for position in 0..header {
        for byte in [0, 1, 0x7f, 0x80, 0xff, sound[position] ^ 1, sound[position] ^ 0x20] {
            let mut bytes = sound.clone();
            bytes[position] = byte;
            if let Err(error) = read(&bytes) {
                assert!(matches!(error, Error::BadModel(_) | Error::Unsupported(_)), "{position}: {error:?}");
                assert!(error.to_string().contains(NAME), "{position}: {error}");
            }
        }
    }
    // The expressions of the pre-tokenizer are compiled in here too.
    let largest = LARGEST.get();
    assert!(largest < 1 << 20, "{largest} bytes at once");
}

/// Makes one thing wrong and checks what the error names.
fn expect(names: &[&str], spoil: impl FnOnce(&mut Contents)) {
    let mut contents = Contents::sound();
    spoil(&mut contents);
    expect_of(names, &contents.bytes());
}

fn expect_of(names: &[&str], bytes: &[u8]) {
    let error = load(&write(NAME, bytes)).map(drop).unwrap_err();
    assert!(matches!(error, Error::BadModel(_) | Error::Unsupported(_)), "{error:?}");
    for name in names.iter().chain(&[NAME]) {
        assert!(error.to_string().contains(name), "{name}: {error}");
    }
}

#[test]
fn headers() {
    let sound = Contents::sound().bytes();
    let with = |at: usize, part: &[u8]| {
        let mut bytes = sound.clone();
        bytes[at..at + part.len()].copy_from_slice(part);
        bytes
    };
    let huge = (1u64 << 60).to_le_bytes();
    expect_of(&["GGUF"], b"");
    expect_of(&["GGUF"], &with(0, b"GGML"));
    expect_of(&["version 1", "2 and 3"], &with(4, &1u32.to_le_bytes()));
    expect_of(&["big-endian"], &with(4, &3u32.to_be_bytes()));
    // Counts, and the length of the first key.
    expect_of(&["tensor"], &with(8, &huge));
    expect_of(&["metadata key"], &with(16, &huge));
    expect_of(&["metadata key 0", "truncated"], &with(24, &huge));
    expect_of(&["metadata key 0", "UTF-8"], &with(32, &[0xff]));
}

#[test]
fn metadata() {
    expect(&["`odd`", "kind 13"], |file| file.set("odd", 13, vec![0; 8]));
    expect(&["`odd`", "lists of lists"], |file| file.set("odd", LIST, list(LIST, &[list(0, &[])])));
    expect(&["`odd`", "kind 77"], |file| file.set("odd", LIST, list(77, &[])));
    let endless = |kind: u32| [&kind.to_le_bytes()[..], &(1u64 << 60).to_le_bytes()].concat();
    expect(&["`odd`", "9223372036854775808"], |file| file.set("odd", LIST, endless(12)));
    expect(&["`odd`", "truncated"], |file| file.set("odd", LIST, endless(TEXT)));
    expect(&["`odd`", "truncated"], |file| file.set("odd", TEXT, huge_text()));
    expect(&["`general.alignment`", "power of two"], |file| file.set_int("general.alignment", 48));
    expect(&["`general.alignment`", "power of two"], |file| file.set_int("general.alignment", 0));
    expect(&["`twice`"], |file| {
        file.metadata.extend([("twice".to_string(), 0, vec![1]), ("twice".to_string(), 0, vec![1])]);
    });
    for key in [
        "general.architecture",
        "llama.block_count",
        "llama.context_length",
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon",
        "tokenizer.ggml.model",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.merges",
    ] {
        expect(&[key], |file| file.metadata.retain(|(known, ..)| known != key));
        expect(&[key], |file| file.set(key, 7, vec![1]));
    }
    expect(&["general.architecture", "mamba", "llama, qwen2"], |file| {
        file.set("general.architecture", TEXT, text("mamba"));
    });
    expect(&["llama.expert_count"], |file| file.set_int("llama.expert_count", 8));
    expect(&["llama.rope.dimension_count"], |file| file.set_int("llama.rope.dimension_count", 8));
    expect(&["llama.attention.head_count_kv", "differ"], |file| {
        let heads = [1, 2].map(|heads: i32| heads.to_le_bytes().to_vec());
        file.set("llama.attention.head_count_kv", LIST, list(5, &heads));
    });
    for size in [0, (1 << 24) + 1, u32::MAX] {
        expect(&["llama.attention.head_count`"], |file| file.set_int("llama.attention.head_count", size));
        expect(&["llama.attention.head_count_kv"], |file| {
            file.set_int("llama.attention.head_count_kv", size)
        });
        expect(&["llama.block_count"], |file| file.set_int("llama.block_count", size));
    }
    expect(&["num_hidden_layers"], |file| file.set_int("llama.block_count", 1 << 24));
    expect(&["`split.count`", "-00001-of-00003.gguf"], |file| file.set_int("split.count", 3));
}

fn huge_text() -> Vec<u8> {
    [&(1u64 << 60).to_le_bytes()[..], b"short"].concat()
}

#[test]
fn tokenizers() {
    let key = |key: &str| format!("tokenizer.ggml.{key}");
    expect(&["tokenizer.ggml.model", "\"rwkv\"", "gpt2"], |file| file.set(&key("model"), TEXT, text("rwkv")));
    expect(&["tokenizer.ggml.pre", "\"new\"", "qwen2"], |file| file.set(&key("pre"), TEXT, text("new")));
    expect(&["tokenizer.ggml.eos_token_id", "below 4"], |file| file.set_int(&key("eos_token_id"), 4));
    expect(&["tokenizer.ggml.token_type", "4"], |file| file.set(&key("token_type"), LIST, list(5, &[])));
    expect(&["tokenizer.ggml.merges"], |file| file.set(&key("merges"), LIST, texts(&["ab"])));
    expect(&["tokenizer.ggml.merges", "zz"], |file| file.set(&key("merges"), LIST, texts(&["a zz"])));
    expect(&["tokenizer.ggml.scores"], |file| {
        file.set(&key("model"), TEXT, text("llama"));
        file.metadata.retain(|(known, ..)| *known != key("merges"));
    });
    expect(&["chat_template"], |file| file.set("tokenizer.chat_template", TEXT, text("{% if %}")));
}

#[test]
fn tensors() {
    const Q: &str = "blk.0.attn_q.weight";
    expect(&[Q, "truncated"], |file| file.tensor(Q).3 = 1 << 20);
    expect(&[Q, "offset"], |file| file.tensor(Q).3 = u64::MAX - 31);
    expect(&[Q, "alignment 32"], |file| file.tensor(Q).3 += 1);
    expect(&[Q, "overlap"], |file| file.tensor(Q).3 -= 32);
    expect(&["blk.0.attn_k.weight", "twice"], |file| file.tensor(Q).0 = "blk.0.attn_k.weight".into());
    expect(&[Q, "size 0"], |file| file.tensor(Q).1 = vec![32, 0]);
    expect(&[Q, "size 1152921504606846976"], |file| file.tensor(Q).1 = vec![32, 1 << 60]);
    expect(&[Q, "shape"], |file| file.tensor(Q).1 = vec![1 << 30; 4]);
    expect(&[Q, "0 axes"], |file| file.tensor(Q).1 = vec![]);
    expect(&[Q, "5 axes"], |file| file.tensor(Q).1 = vec![1; 5]);
    expect(&[Q, "blocks of 32"], |file| file.tensor(Q).1 = vec![16, 32]);
    expect(&[Q, "IQ2_XXS", "Q4_K"], |file| file.tensor(Q).2 = 16);
    expect(&[Q, "number 99"], |file| file.tensor(Q).2 = 99);
    // Sound, but not this model's.
    expect(&["self_attn.q_proj", "expected [32, 4]"], |file| file.tensor(Q).1 = vec![32, 16]);
    expect(&["self_attn.q_proj.weight", "missing"], |file| file.tensors.retain(|(name, ..)| name != Q));
    expect(&["token_embd.weight", "missing"], |file| {
        file.tensors.retain(|(name, ..)| name != "token_embd.weight")
    });
    expect(&["blk.0.attn_sinks.weight", "llama"], |file| file.add("blk.0.attn_sinks.weight", &[2], 0, 8));
}

#[test]
fn files_that_are_not_there() {
    let error = load(Path::new("nowhere/model.gguf")).map(drop).unwrap_err();
    assert!(matches!(&error, Error::NotFound(text) if text.contains("nowhere/model.gguf")), "{error:?}");
    let mut contents = Contents::sound();
    contents.set_int("split.count", 2);
    let error = load(&write("part-00001-of-00002.gguf", &contents.bytes())).map(drop).unwrap_err();
    assert!(
        matches!(&error, Error::NotFound(text) if text.contains("part-00002-of-00002.gguf")),
        "{error:?}"
    );
}
