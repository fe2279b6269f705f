"""Qwen 2 and 3."""

from case import Case, Config, UNTIED

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

CASES: list[Case] = [
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
]
