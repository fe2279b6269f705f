"""The table of models that mlxrt is compared with mlx-lm on: small, with awkward shapes.

rms_norm_eps is larger than in real models, so that a wrong one shows in the logits.
"""

from dataclasses import dataclass, field
from typing import Any

Config = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One model: its config.json, how its weights are stored, and how they are cut into files."""

    name: str
    config: Config
    dtype: str = "float32"
    bits: int = 0  # 0: not quantised
    group: int = 0
    overrides: dict[str, int] = field(default_factory=dict)  # path ending -> bits of that layer
    shards: int = 1
    index: bool = True  # keep model.safetensors.index.json


LLAMA: Config = {
    "model_type": "llama",
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "intermediate_size": 160,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 3e-3,
    "vocab_size": 520,
    "max_position_embeddings": 256,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}
# Sizes that divide by 64, for quantised weights; heads wider than hidden_size / heads.
LLAMA_WIDE: Config = LLAMA | {
    "hidden_size": 128,
    "head_dim": 64,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "intermediate_size": 192,
}
# original_max_position_embeddings is small so that all three bands of the scaling are in use.
LLAMA3_ROPE: Config = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

QWEN2: Config = {
    "model_type": "qwen2",
    "hidden_size": 112,
    "num_hidden_layers": 3,
    "intermediate_size": 144,
    "num_attention_heads": 7,
    "num_key_value_heads": 1,
    "rms_norm_eps": 1e-3,
    "vocab_size": 612,
    "max_position_embeddings": 256,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
}
QWEN2_WIDE: Config = QWEN2 | {
    "hidden_size": 192,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
}

QWEN3: Config = {
    "model_type": "qwen3",
    "hidden_size": 80,
    "num_hidden_layers": 5,
    "intermediate_size": 136,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "head_dim": 32,
    "rms_norm_eps": 1e-2,
    "vocab_size": 560,
    "max_position_embeddings": 256,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
}
QWEN3_WIDE: Config = QWEN3 | {"hidden_size": 64, "num_key_value_heads": 6, "intermediate_size": 192}
# transformers 5 writes the rotary settings so.
QWEN3_ROPE_PARAMETERS: Config = {k: v for k, v in QWEN3.items() if k != "rope_theta"} | {
    "rope_parameters": {"rope_type": "default", "rope_theta": 50000.0},
    "tie_word_embeddings": False,
}

# The window is shorter than the prompt; layers 2 and 5 of 7 see everything.
GEMMA3_TEXT: Config = {
    "model_type": "gemma3_text",
    "hidden_size": 72,
    "num_hidden_layers": 7,
    "intermediate_size": 120,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "rms_norm_eps": 2e-3,
    "vocab_size": 576,
    "max_position_embeddings": 256,
    "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0,
    "query_pre_attn_scalar": 24,
    "sliding_window": 12,
    "sliding_window_pattern": 3,
}
GEMMA3_TEXT_WIDE: Config = GEMMA3_TEXT | {
    "hidden_size": 64,
    "num_key_value_heads": 4,
    "intermediate_size": 128,
}
# Like the real ones, the nested config leaves out what mlx-lm has a default for: 8 heads and 4
# key-value heads here. vocab_size stands outside.
GEMMA3: Config = {
    "model_type": "gemma3",
    "vocab_size": 576,
    "text_config": {
        "model_type": "gemma3_text",
        "hidden_size": 64,
        "num_hidden_layers": 7,
        "intermediate_size": 128,
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "max_position_embeddings": 256,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 10,
        "sliding_window_pattern": 3,
    },
}

UNTIED: Config = {"tie_word_embeddings": False}

CASES: list[Case] = [
    Case("llama-f32", LLAMA, index=False),
    Case("llama-llama3-rope-f32", LLAMA_WIDE | {"rope_scaling": LLAMA3_ROPE}),
    Case(
        "llama-linear-rope-f32",
        LLAMA | {"num_key_value_heads": 4, "rope_scaling": {"type": "linear", "factor": 4.0}},
    ),
    Case("llama-untied-bf16", LLAMA | UNTIED, "bfloat16"),
    Case("llama-bias-f32", LLAMA | UNTIED | {"attention_bias": True, "mlp_bias": True}),
    Case("llama-f16", LLAMA_WIDE, "float16"),
    Case("llama-4bit-bf16", LLAMA_WIDE, "bfloat16", bits=4, group=64, shards=3),
    Case("llama-4bit-f16", LLAMA_WIDE | UNTIED, "float16", bits=4, group=64),
    Case("llama-8bit-f32", LLAMA | UNTIED, bits=8, group=32),
    # Some layers have their own bits, as mlx-lm's mixed recipes write them.
    Case("llama-mixed-f32", LLAMA_WIDE, bits=4, group=64, overrides={"v_proj": 8, "down_proj": 8}),
    Case("qwen2-f32", QWEN2),
    Case("qwen2-untied-f32", QWEN2_WIDE | UNTIED),
    Case("qwen2-bf16", QWEN2, "bfloat16"),
    Case("qwen2-f16", QWEN2_WIDE | UNTIED, "float16"),
    # down_proj's input does not divide by the group: mlx-lm leaves it as it is.
    Case("qwen2-4bit-f32", QWEN2_WIDE | UNTIED | {"intermediate_size": 96}, bits=4, group=64),
    Case("qwen2-8bit-bf16", QWEN2_WIDE, "bfloat16", bits=8, group=32),
    Case("qwen3-f32", QWEN3),
    Case("qwen3-untied-f32", QWEN3_ROPE_PARAMETERS),
    Case("qwen3-bf16", QWEN3 | UNTIED, "bfloat16"),
    Case("qwen3-f16", QWEN3, "float16"),
    Case("qwen3-4bit-bf16", QWEN3_WIDE, "bfloat16", bits=4, group=64),
    Case("qwen3-8bit-f32", QWEN3_WIDE | UNTIED, bits=8, group=32),
    Case("gemma3-text-f32", GEMMA3_TEXT),
    Case("gemma3-text-bf16", GEMMA3_TEXT, "bfloat16"),
    Case("gemma3-text-f16", GEMMA3_TEXT, "float16"),
    Case("gemma3-text-4bit-bf16", GEMMA3_TEXT_WIDE, "bfloat16", bits=4, group=64),
    Case("gemma3-text-8bit-f32", GEMMA3_TEXT_WIDE, bits=8, group=32),
    Case("gemma3-f32", GEMMA3),
    Case("gemma3-bf16", GEMMA3, "bfloat16"),
    Case("gemma3-f16", GEMMA3, "float16"),
    Case("gemma3-4bit-f32", GEMMA3, bits=4, group=64),
    Case("gemma3-8bit-bf16", GEMMA3, "bfloat16", bits=8, group=32),
]
