//! What a process keeps after models come and go.

mod common;

use mlxrt::engine::{Encoding, GenerateOptions, LoadOptions, Model, load_for_tests};
use mlxrt::mlx::{Device, memory};
use parking_lot::Mutex;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::path::Path;

/// MLX counts memory by process: one test at a time.
static MEMORY: Mutex<()> = Mutex::new(());

fn load_use_and_free() {
    let model = Model::load(&common::demo_model(), LoadOptions::default(), &mut |_, _| true).unwrap();
    let prompt = model.tokenizer().encode("The capital of", Encoding::default()).unwrap();
    let options = GenerateOptions { max_tokens: 3, ..Default::default() };
    assert!(model.generate(prompt, options, &mut |_| true).end.is_ok());
    model.close();
}

/// MLX never ends the thread behind a stream, so engine threads must be used again.
#[test]
fn models_that_are_freed_leave_neither_memory_nor_threads() {
    let _one = MEMORY.lock();
    let threads = || std::fs::read_dir("/proc/self/task").map_or(0, |tasks| tasks.count());
    load_use_and_free();
    let (before, bytes) = (threads(), memory::active().unwrap());
    for _ in 0..5 {
        load_use_and_free();
    }
    assert_eq!(threads(), before);
    assert_eq!(memory::active().unwrap(), bytes);
    if before == 0 {
        common::skip("threads of freed models", "no /proc to count threads in");
    }
}

/// A Llama of zeros in bfloat16, whose matrices are of 4 MB.
fn write_zeros(folder: &Path, layers: usize) {
    let (width, hidden) = (1024usize, 2048usize);
    let config = serde_json::json!({
        "model_type": "llama", "hidden_size": width, "intermediate_size": hidden,
        "num_hidden_layers": layers, "num_attention_heads": 8, "vocab_size": 2048, "rms_norm_eps": 1e-5,
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let zeros = vec![0; 2 * width * hidden];
    let view = |shape: &[usize]| {
        let bytes = 2 * shape.iter().product::<usize>();
        TensorView::new(Dtype::BF16, shape.to_vec(), &zeros[..bytes]).unwrap()
    };
    let mut tensors = vec![("model.embed_tokens.weight".to_string(), view(&[2048, width]))];
    tensors.push(("model.norm.weight".into(), view(&[width])));
    for layer in 0..layers {
        let mut add = |name: &str, shape: &[usize]| {
            tensors.push((format!("model.layers.{layer}.{name}.weight"), view(shape)));
        };
        for name in ["q", "k", "v", "o"] {
            add(&format!("self_attn.{name}_proj"), &[width, width]);
        }
        add("mlp.gate_proj", &[hidden, width]);
        add("mlp.up_proj", &[hidden, width]);
        add("mlp.down_proj", &[width, hidden]);
        add("input_layernorm", &[width]);
        add("post_attention_layernorm", &[width]);
    }
    safetensors::serialize_to_file(tensors, None, &folder.join("model.safetensors")).unwrap();
}

/// The checkpoint is in bfloat16, and its matrices stay so: nothing is there twice.
#[test]
fn loading_needs_little_more_than_the_weights() {
    let _one = MEMORY.lock();
    let folder = common::scratch("loading-memory");
    write_zeros(&folder, 10);
    memory::reset_peak().unwrap();
    let before = memory::active().unwrap();
    let options = LoadOptions { device: Some(Device::Cpu), ..Default::default() };
    let loaded = load_for_tests(&folder, &options).unwrap();
    let (weights, peak) = (loaded.info.weight_bytes as usize, memory::peak().unwrap() - before);
    println!("weights {} MB, at most {} MB while loading", weights >> 20, peak >> 20);
    assert!((200 << 20..250 << 20).contains(&weights));
    assert!(peak <= weights + weights / 10, "{peak} bytes for {weights} of weights");
    std::fs::remove_dir_all(&folder).unwrap();
}
