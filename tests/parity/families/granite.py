"""Granite."""

from case import UNTIED, Case, Config

# No factor is a power of two: dividing by it and multiplying by its inverse round differently.
GRANITE: Config = {
    "model_type": "granite",
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "intermediate_size": 168,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-3,
    "vocab_size": 530,
    "max_position_embeddings": 256,
    "rope_theta": 10000.0,
    "attention_bias": False,
    "mlp_bias": False,
    "attention_multiplier": 0.21,
    "embedding_multiplier": 3.3,
    "residual_multiplier": 1.7,
    "logits_scaling": 0.7,
    "tie_word_embeddings": True,
}
# mlx-lm stores o_proj, down_proj and lm_head in 8 bits in groups of 64.
GRANITE_WIDE: Config = GRANITE | {
    "hidden_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 192,
}
BIASES: Config = {"attention_bias": True, "mlp_bias": True}
LINEAR_ROPE: Config = {"rope_scaling": {"type": "linear", "factor": 2.0}}

CASES: list[Case] = [
    Case("granite-f32", GRANITE),
    Case("granite-bf16", GRANITE | UNTIED, "bfloat16"),
    Case("granite-f16", GRANITE_WIDE, "float16"),
    Case("granite-4bit-bf16", GRANITE_WIDE | UNTIED, "bfloat16", bits=4, group=32),
    Case("granite-untied-bias-f32", GRANITE | UNTIED | BIASES),
    Case("granite-linear-rope-f32", GRANITE_WIDE | LINEAR_ROPE),
]
