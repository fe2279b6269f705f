"""Gemma 3."""

from case import Case, Config

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

CASES: list[Case] = [
    Case("gemma3-text-f32", GEMMA3_TEXT, gemma=True),
    Case("gemma3-text-bf16", GEMMA3_TEXT, "bfloat16", gemma=True),
    Case("gemma3-text-f16", GEMMA3_TEXT, "float16", gemma=True),
    Case("gemma3-text-4bit-bf16", GEMMA3_TEXT_WIDE, "bfloat16", bits=4, group=64, gemma=True),
    Case("gemma3-text-8bit-f32", GEMMA3_TEXT_WIDE, bits=8, group=32, gemma=True),
    Case("gemma3-f32", GEMMA3, gemma=True),
    Case("gemma3-bf16", GEMMA3, "bfloat16", gemma=True),
    Case("gemma3-f16", GEMMA3, "float16", gemma=True),
    Case("gemma3-4bit-f32", GEMMA3, bits=4, group=64, gemma=True),
    Case("gemma3-8bit-bf16", GEMMA3, "bfloat16", bits=8, group=32, gemma=True),
]
