"""OLMo 2 and 3."""

from case import UNTIED, Case, Config

OLMO2: Config = {
    "model_type": "olmo2",
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "intermediate_size": 152,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "rms_norm_eps": 1e-3,
    "vocab_size": 536,
    "max_position_embeddings": 256,
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
}
OLMO2_WIDE: Config = OLMO2 | {
    "hidden_size": 128,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "intermediate_size": 192,
}
BIASES: Config = {"attention_bias": True, "mlp_bias": True}

# By default layers 0, 1, 2 and 4 of 5 slide, over less than the prompt.
OLMO3: Config = OLMO2 | {
    "model_type": "olmo3",
    "num_hidden_layers": 5,
    "sliding_window": 13,
    "tie_word_embeddings": False,
}
OLMO3_WIDE: Config = OLMO3 | {
    "hidden_size": 64,
    "head_dim": 32,
    "num_key_value_heads": 6,
    "intermediate_size": 128,
}
YARN: Config = {
    "rope_scaling": {
        "rope_type": "yarn",
        "factor": 8.0,
        "beta_fast": 4.0,
        "beta_slow": 0.5,
        "original_max_position_embeddings": 32,
    }
}
LISTED: Config = {"layer_types": ["full_attention"] * 2 + ["sliding_attention"] * 3}

# Norms bound what a layer adds: larger ones, so that it weighs more than the token itself.
SPECIAL = {
    "post_attention_layernorm.weight": (3.0, 0.5),
    "post_feedforward_layernorm.weight": (3.0, 0.5),
    # Small, or every token would say the same.
    ".bias": (0.0, 0.1),
}

CASES: list[Case] = [
    Case("olmo2-f32", OLMO2, special=SPECIAL),
    Case("olmo2-bf16", OLMO2 | UNTIED, "bfloat16", special=SPECIAL),
    Case("olmo2-f16", OLMO2_WIDE, "float16", special=SPECIAL),
    Case("olmo2-4bit-bf16", OLMO2_WIDE, "bfloat16", bits=4, group=64, special=SPECIAL),
    Case("olmo2-untied-bias-f32", OLMO2 | UNTIED | BIASES, special=SPECIAL),
    Case("olmo3-f32", OLMO3, special=SPECIAL),
    Case("olmo3-bf16", OLMO3 | YARN, "bfloat16", special=SPECIAL),
    Case("olmo3-f16", OLMO3_WIDE | LISTED, "float16", special=SPECIAL),
    Case("olmo3-4bit-bf16", OLMO3_WIDE, "bfloat16", bits=4, group=32, special=SPECIAL),
    Case("olmo3-yarn-f32", OLMO3_WIDE | YARN, special=SPECIAL),
    Case(
        "olmo3-tied-bias-f32",
        OLMO3 | LISTED | {"attention_bias": True, "tie_word_embeddings": True},
        special=SPECIAL,
    ),
]
