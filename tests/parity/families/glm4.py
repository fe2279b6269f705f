"""GLM-4."""

from case import Case, Config

# 12 of 24 dimensions of a head turn.
GLM4: Config = {
    "model_type": "glm4",
    "hidden_size": 80,
    "num_hidden_layers": 3,
    "intermediate_size": 136,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "attention_bias": True,
    "head_dim": 24,
    "rms_norm_eps": 3e-3,
    "vocab_size": 540,
    "partial_rotary_factor": 0.5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 256,
}
GLM4_WIDE: Config = GLM4 | {
    "hidden_size": 128,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "intermediate_size": 192,
    "attention_bias": False,
}

CASES: list[Case] = [
    Case("glm4-f32", GLM4),
    Case(
        "glm4-neox-rope-f32",
        GLM4_WIDE | {"rope_traditional": False, "partial_rotary_factor": 0.75, "num_key_value_heads": 4},
    ),
    Case("glm4-bf16", GLM4, "bfloat16"),
    Case("glm4-f16", GLM4_WIDE, "float16"),
    Case("glm4-4bit-bf16", GLM4_WIDE, "bfloat16", bits=4, group=64),
]
