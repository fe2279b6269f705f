"""Llama."""

from case import Case, Config, UNTIED

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

CASES: list[Case] = [
    Case("llama-f32", LLAMA, index=False),
    Case("llama-llama3-rope-f32", LLAMA_WIDE | {"rope_scaling": LLAMA3_ROPE}),
    Case(
        "llama-linear-rope-f32",
        LLAMA | {"num_key_value_heads": 4, "rope_scaling": {"type": "linear", "factor": 4.0}},
    ),
    # The base grows once the length is beyond the context, which is shorter than the prompt.
    Case(
        "llama-dynamic-rope-f32",
        LLAMA | {"max_position_embeddings": 24, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
    ),
    Case("llama-untied-bf16", LLAMA | UNTIED, "bfloat16"),
    Case("llama-bias-f32", LLAMA | UNTIED | {"attention_bias": True, "mlp_bias": True}),
    Case("llama-f16", LLAMA_WIDE, "float16"),
    Case("llama-4bit-bf16", LLAMA_WIDE, "bfloat16", bits=4, group=64, shards=3),
    Case("llama-4bit-f16", LLAMA_WIDE | UNTIED, "float16", bits=4, group=64),
    Case("llama-8bit-f32", LLAMA | UNTIED, bits=8, group=32),
    # Some layers have their own bits, as mlx-lm's mixed recipes write them.
    Case("llama-mixed-f32", LLAMA_WIDE, bits=4, group=64, overrides={"v_proj": 8, "down_proj": 8}),
]
