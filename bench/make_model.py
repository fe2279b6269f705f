"""Writes a model of a known shape with random weights, as mlx-lm writes it.

make_model.py SHAPE FOLDER [BITS]: in 4 bits if nothing else is said; 16 bits are bfloat16. Does nothing if
it is there already.
"""

import sys
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx_lm.utils as mlx_lm
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.models import gemma3_text, gpt_oss, llama, qwen2

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "parity"))
import byte_bpe  # noqa: E402
from weights import tie_gemma  # noqa: E402

COMMON = {
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 32768,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "eos_token_id": 0,
}
SHAPES = {
    "qwen2.5-0.5b": {
        "model_type": "qwen2",
        "hidden_size": 896,
        "num_hidden_layers": 24,
        "intermediate_size": 4864,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
    },
    "llama-3.2-1b": {
        "model_type": "llama",
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "intermediate_size": 8192,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rope_theta": 500000.0,
        "rms_norm_eps": 1e-5,
    },
    "gemma-3-1b": {
        "model_type": "gemma3_text",
        "hidden_size": 1152,
        "num_hidden_layers": 26,
        "intermediate_size": 6912,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "vocab_size": 262144,
        "query_pre_attn_scalar": 256,
        "rope_local_base_freq": 10000.0,
        "sliding_window": 512,
        "sliding_window_pattern": 6,
    },
    # gpt-oss's kind of layers, and as many experts, of a size that fits beside the others.
    "gpt-oss-small": {
        "model_type": "gpt_oss",
        "hidden_size": 1024,
        "num_hidden_layers": 8,
        "intermediate_size": 1024,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "vocab_size": 32768,
        "num_local_experts": 32,
        "num_experts_per_tok": 4,
        "sliding_window": 128,
        "tie_word_embeddings": False,
    },
    # Small enough for many requests at once on a CPU.
    "smollm2-135m": {
        "model_type": "qwen2",
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
    },
    # So little to compute that what an engine does beside it shows.
    "tiny": {
        "model_type": "qwen2",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 512,
    },
}
MODULES = {"qwen2": qwen2, "llama": llama, "gemma3_text": gemma3_text, "gpt_oss": gpt_oss}


def random_model(config: dict) -> nn.Module:
    module = MODULES[config["model_type"]]
    model = module.Model(module.ModelArgs.from_dict(config))
    if config["model_type"] == "gemma3_text":
        tie_gemma(model)
    mx.random.seed(1)
    weights = []
    for name, old in tree_flatten(model.parameters()):
        spread = 0.02 if old.ndim > 1 else 0.1
        value = spread * mx.random.normal(old.shape, mx.bfloat16)
        # Gemma's norms add the 1 themselves.
        plus_one = "norm" in name and config["model_type"] != "gemma3_text"
        weights.append((name, value + 1 if plus_one else value))
    model.update(tree_unflatten(weights))
    return model


def main() -> None:
    shape, folder = sys.argv[1], Path(sys.argv[2])
    bits = sys.argv[3] if len(sys.argv) > 3 else "4"
    if (folder / "tokenizer_config.json").exists():
        return
    mx.set_default_device(mx.cpu)
    config = {**COMMON, **SHAPES[shape]}
    model, config = random_model(config), dict(config)
    if bits != "16":
        model, config = mlx_lm.quantize_model(model, config, group_size=64, bits=int(bits))
    mlx_lm.save_model(folder, model)
    mlx_lm.save_config(config, folder / "config.json")
    byte_bpe.save(folder, byte_bpe.make())


if __name__ == "__main__":
    main()
