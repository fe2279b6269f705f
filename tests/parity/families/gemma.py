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
# As transformers 5 writes it: rotary settings and kinds of layers one by one.
OTHER_BASES: Config = {"rope_theta": 500000.0, "rope_local_base_freq": 5000.0}
GEMMA3_OTHER_BASES: Config = GEMMA3 | {"text_config": GEMMA3["text_config"] | OTHER_BASES}
NEWER: Config = {key: None for key in [*OTHER_BASES, "rope_scaling", "sliding_window_pattern"]} | {
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0},
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 500000.0},
    },
    "layer_types": [f"{'full' if layer in (2, 5) else 'sliding'}_attention" for layer in range(7)],
}

CASES: list[Case] = [
    Case("gemma3-text-f32", GEMMA3_TEXT, gemma=True),
    Case("gemma3-text-bf16", GEMMA3_TEXT, "bfloat16", gemma=True),
    Case("gemma3-text-f16", GEMMA3_TEXT, "float16", gemma=True),
    Case("gemma3-text-4bit-bf16", GEMMA3_TEXT_WIDE, "bfloat16", bits=4, group=64, gemma=True),
    Case("gemma3-text-8bit-f32", GEMMA3_TEXT_WIDE, bits=8, group=32, gemma=True),
    Case("gemma3-f32", GEMMA3, gemma=True),
    Case("gemma3-newer-f32", GEMMA3_OTHER_BASES, gemma=True, says={"text_config": NEWER}),
    Case("gemma3-bf16", GEMMA3, "bfloat16", gemma=True),
    Case("gemma3-f16", GEMMA3, "float16", gemma=True),
    Case("gemma3-4bit-f32", GEMMA3, bits=4, group=64, gemma=True),
    Case("gemma3-8bit-bf16", GEMMA3, "bfloat16", bits=8, group=32, gemma=True),
]
