"""Writes GGUF files with random weights and what mlx-lm computes from the values in them.

    gguf_files.py OUT_DIR

OUT_DIR/cases.json lists the cases; each has a folder OUT_DIR/NAME with

    *.gguf                  written by the gguf package, names and orders as llama.cpp's converter has them
    reference.safetensors   prompt [L], prefill [L, V] (logits of every position) and greedy [32] (the
                            tokens after the prompt), computed in float32 from the values as the gguf
                            package decodes them

OUT_DIR/formats.gguf holds one tensor of random blocks in every format, and formats.safetensors its values.
"""

import argparse
import copy
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import mlx.core as mx
import mlx_lm.utils as mlx_lm
import numpy as np
from gguf import GGMLQuantizationType as Format
from gguf import quants
from mlx.utils import tree_flatten
from mlx_lm.models.cache import make_prompt_cache

import byte_bpe
import reference
from case import Case as Plain
from weights import random_weights, tie_gemma

# Wide enough for blocks of 256.
COMMON = {
    "hidden_size": 256,
    "num_hidden_layers": 2,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-3,
    "vocab_size": 352,
    "max_position_embeddings": 256,
}
LLAMA = COMMON | {"model_type": "llama", "rope_theta": 10000.0, "tie_word_embeddings": False}
QWEN2 = COMMON | {"model_type": "qwen2", "rope_theta": 1000000.0, "tie_word_embeddings": True}
QWEN3 = COMMON | {
    "model_type": "qwen3",
    "head_dim": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "rope_theta": 50000.0,
    "tie_word_embeddings": True,
}
GEMMA3 = COMMON | {
    "model_type": "gemma3_text",
    "num_hidden_layers": 3,
    "head_dim": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0,
    "query_pre_attn_scalar": 128,
    "sliding_window": 12,
    "sliding_window_pattern": 2,
}
# What files that do not say it mean.
GEMMA3_DEFAULT_PATTERN = 6
GREEDY_STEPS = 32
MIN_DISTINCT = 10
# The name of each in GGUF.
ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma3_text": "gemma3"}

FLOATS = [Format.F32, Format.F16, Format.BF16]
# The gguf package can write these and only read the others.
WRITABLE = [Format.Q4_0, Format.Q4_1, Format.Q5_0, Format.Q5_1, Format.Q8_0]
# Where float16 scales lie in blocks of the others, and how much of the first the second is, so that
# random blocks have values about zero.
SCALES = {
    Format.Q2_K: {80: 1.0, 82: 1.5},
    Format.Q3_K: {108: 1.0},
    Format.Q4_K: {0: 1.0, 2: 7.5},
    Format.Q5_K: {0: 1.0, 2: 15.5},
    Format.Q6_K: {208: 1.0},
    Format.IQ4_NL: {0: 1.0},
    Format.IQ4_XS: {0: 1.0},
}
FORMATS = FLOATS + WRITABLE + list(SCALES)


@dataclass(frozen=True)
class Case:
    """A model, and the format of its matrices, or several that take turns."""

    name: str
    config: dict[str, Any]
    formats: list[Format]
    files: int = 1


LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LINEAR_ROPE = {"rope_type": "linear", "factor": 4.0}

CASES = [
    Case(f"{ARCHITECTURES[config['model_type']]}-{format.name.lower()}", config, [format])
    for config in [LLAMA, QWEN2, QWEN3, GEMMA3]
    for format in FORMATS
] + [
    # As llama.cpp's recipes mix them: exact, decoded and dense matrices side by side.
    Case("llama-mixed", LLAMA, [Format.Q4_0, Format.Q6_K, Format.Q8_0, Format.F16]),
    Case("llama-tied", LLAMA | {"tie_word_embeddings": True}, [Format.Q8_0]),
    Case("llama-llama3-rope", LLAMA | {"rope_scaling": LLAMA3_ROPE}, [Format.Q4_1]),
    Case("llama-linear-rope", LLAMA | {"rope_scaling": LINEAR_ROPE}, [Format.F32]),
    Case("llama-wide-heads", LLAMA | {"head_dim": 128}, [Format.Q4_0]),
    Case("llama-bias", LLAMA | {"attention_bias": True, "mlp_bias": True}, [Format.F32]),
    Case("llama-split", LLAMA, [Format.Q4_0], files=3),
    Case("qwen2-untied", QWEN2 | {"tie_word_embeddings": False}, [Format.Q8_0]),
    Case(
        "gemma3-default-pattern",
        GEMMA3 | {"num_hidden_layers": 7, "sliding_window_pattern": GEMMA3_DEFAULT_PATTERN},
        [Format.Q4_1],
    ),
    Case("gemma3-linear-rope", GEMMA3 | {"rope_scaling": LINEAR_ROPE}, [Format.Q8_0]),
]


def random_blocks(shape: tuple[int, ...], format: Format, spread: float, rng) -> np.ndarray:
    """Bytes of random blocks whose values have about the standard deviation `spread`."""
    block, size = gguf.GGML_QUANT_SIZES[format]
    blocks = rng.integers(0, 256, [int(np.prod(shape)) // block, size], np.uint8)

    def set_scales(scale: np.ndarray) -> None:
        for offset, part in SCALES[format].items():
            blocks[:, offset : offset + 2] = (scale * part).astype(np.float16)[:, None].view(np.uint8)

    set_scales(np.ones(len(blocks)))
    unit = quants.dequantize(blocks, format).std()
    signs = rng.choice([-1, 1], len(blocks))
    set_scales(spread / unit * signs * rng.uniform(0.7, 1.3, len(blocks)))
    return blocks.reshape(*shape[:-1], shape[-1] // block * size)


def stored(values: np.ndarray, format: Format, rng) -> np.ndarray:
    """The bytes that stand for a matrix; other values of the same spread where none can write them."""
    if format in SCALES:
        return random_blocks(values.shape, format, values.std(), rng)
    return quants.quantize(values, format)


def permute(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rotary halves to neighbours, as llama.cpp's converter does with Llama's queries and keys."""
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def unpermute(rows: np.ndarray, heads: int) -> np.ndarray:
    return rows.reshape(heads, -1, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def rope_factors(config: dict) -> np.ndarray:
    """What llama.cpp's converter writes for Llama 3's scaling."""
    scaling = config["rope_scaling"]
    dim = config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])
    wavelength = 2 * np.pi * config["rope_theta"] ** (np.arange(0, dim, 2) / dim)
    context, factor = scaling["original_max_position_embeddings"], scaling["factor"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    smooth = np.clip((context / wavelength - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def write_metadata(writer: gguf.GGUFWriter, case: Case) -> None:
    config = case.config
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    if head_dim := config.get("head_dim"):
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    if config["model_type"] == "llama":
        dim = head_dim or config["hidden_size"] // config["num_attention_heads"]
        writer.add_rope_dimension_count(dim)
    if config["model_type"] == "gemma3_text":
        writer.add_sliding_window(config["sliding_window"])
        if config["sliding_window_pattern"] != GEMMA3_DEFAULT_PATTERN:
            writer.add_sliding_window_pattern(config["sliding_window_pattern"])
    if config.get("rope_scaling") == LINEAR_ROPE:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(LINEAR_ROPE["factor"])
    if config.get("rope_scaling") == LLAMA3_ROPE:
        writer.add_tensor("rope_freqs.weight", rope_factors(config))


def write_tokenizer(writer: gguf.GGUFWriter, vocab_size: int) -> None:
    tokenizer = byte_bpe.make()
    vocab = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    tokens = [token for token, _ in vocab]
    padding = [f"[PAD{index}]" for index in range(len(tokens), vocab_size)]
    end = tokenizer.token_to_id(byte_bpe.END)
    types = [gguf.TokenType.NORMAL] * len(tokens) + [gguf.TokenType.UNUSED] * len(padding)
    types[end] = gguf.TokenType.CONTROL
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens + padding)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_eos_token_id(end)


def write_model(case: Case, seed: int, path: Path) -> Any:
    """Writes the file and returns mlx-lm's model of the values in it."""
    config = copy.deepcopy(case.config)
    model_class, args_class = mlx_lm._get_classes(config)
    model = model_class(args_class.from_dict(copy.deepcopy(config)))
    gemma = config["model_type"].startswith("gemma3")
    if gemma:
        tie_gemma(model)
    rng = np.random.default_rng(seed)
    architecture = ARCHITECTURES[config["model_type"]]
    names = gguf.get_tensor_name_map(
        next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture),
        config["num_hidden_layers"],
    )
    per_file = -(-len(tree_flatten(model.parameters())) // case.files) if case.files > 1 else 0
    writer = gguf.GGUFWriter(path, architecture, split_max_tensors=per_file)
    write_metadata(writer, case)
    write_tokenizer(writer, config["vocab_size"])

    truth = []
    matrices = 0
    for name, weight in random_weights(model, Plain(case.name, config), seed):
        values = np.array(weight, dtype=np.float32)
        # Wide and tied, Gemma would repeat one token: the blocks are to outweigh the embedding.
        if gemma and name.endswith("embed_tokens.weight"):
            values = values / 8
        if gemma and name.endswith("model.norm.weight"):
            values = 8 * values + 7
        heads = 0
        if config["model_type"] == "llama" and ".q_proj." in name:
            heads = config["num_attention_heads"]
        if config["model_type"] == "llama" and ".k_proj." in name:
            heads = config["num_key_value_heads"]
        values = permute(values, heads) if heads else values
        plus_one = gemma and name.endswith("norm.weight")
        values = values + 1 if plus_one else values
        format = Format.F32
        if values.ndim == 2:
            format = case.formats[matrices % len(case.formats)]
            matrices += 1
        data = stored(values, format, rng)
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), data, raw_dtype=format)
        values = quants.dequantize(data, format)
        values = unpermute(values, heads) if heads else values
        truth.append((name, mx.array(values - 1 if plus_one else values)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model.load_weights(truth)
    return model


def make_case(case: Case, folder: Path) -> dict:
    folder.mkdir()
    for seed in reference.SEEDS:
        for old in folder.iterdir():
            old.unlink()
        model = write_model(case, seed, folder / "model.gguf")
        key = mx.random.key(1000 + seed)
        size = [reference.PROMPT_LENGTH]
        prompt = mx.random.randint(0, case.config["vocab_size"], size, key=key).tolist()
        cache = make_prompt_cache(model)
        prefill = reference.feed(model, prompt, cache)
        greedy, _, margin = reference.decode_greedily(model, prefill[-1], cache, GREEDY_STEPS)
        if margin >= reference.MIN_MARGIN and len(set(greedy)) >= MIN_DISTINCT:
            break
    else:
        raise SystemExit(f"{case.name}: no seed gives clear logits")
    ids = {"prompt": mx.array(prompt, mx.int32), "greedy": mx.array(greedy, mx.int32)}
    mx.save_safetensors(str(folder / "reference.safetensors"), ids | {"prefill": prefill})
    return {"name": case.name, "file": sorted(folder.glob("*.gguf"))[0].name}


def write_formats(out: Path) -> None:
    """Random bytes in every format, all of them valid; scales that are numbers."""
    rng = np.random.default_rng(1)
    writer = gguf.GGUFWriter(out / "formats.gguf", "formats")
    values = {}
    for format in FORMATS:
        if format in SCALES:
            data = random_blocks((6, 512), format, 1.0, rng)
        else:
            data = quants.quantize(rng.normal(size=(6, 512)).astype(np.float32), format)
        writer.add_tensor(format.name, data, raw_dtype=format)
        values[format.name] = mx.array(quants.dequantize(data, format))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    mx.save_safetensors(str(out / "formats.safetensors"), values)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    mx.set_default_device(mx.cpu)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    write_formats(out)
    cases = [make_case(case, out / case.name) for case in CASES]
    (out / "cases.json").write_text(json.dumps(cases, indent=1))


if __name__ == "__main__":
    main()
