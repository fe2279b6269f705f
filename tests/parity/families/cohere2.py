"""Command R7B."""

from case import Case, Config

# The window is shorter than the prompt; layers 2 and 5 of 7 see everything.
COHERE2: Config = {
    "model_type": "cohere2",
    "hidden_size": 72,
    "head_dim": 12,
    "num_hidden_layers": 7,
    "intermediate_size": 120,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "rope_theta": 10000.0,
    "vocab_size": 576,
    "layer_norm_eps": 2e-3,
    "logit_scale": 0.75,
    "sliding_window": 11,
    "sliding_window_pattern": 3,
    "max_position_embeddings": 256,
}
COHERE2_WIDE: Config = COHERE2 | {
    "hidden_size": 128,
    "head_dim": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "num_hidden_layers": 5,
    "intermediate_size": 192,
}
BIASES: Config = {"attention_bias": True, "layer_norm_bias": True}

CASES: list[Case] = [
    Case("cohere2-f32", COHERE2),
    Case("cohere2-bias-f32", COHERE2 | BIASES | {"num_key_value_heads": 6}),
    Case("cohere2-bf16", COHERE2, "bfloat16"),
    Case("cohere2-f16", COHERE2_WIDE, "float16"),
    Case("cohere2-4bit-bf16", COHERE2_WIDE, "bfloat16", bits=4, group=64),
]
