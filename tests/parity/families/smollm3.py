"""SmolLM 3."""

from case import UNTIED, Case, Config

SMOLLM3: Config = {
    "model_type": "smollm3",
    "hidden_size": 96,
    "num_hidden_layers": 5,
    "intermediate_size": 136,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "rms_norm_eps": 2e-3,
    "vocab_size": 548,
    "max_position_embeddings": 256,
    "rope_theta": 50000.0,
    "tie_word_embeddings": True,
}
SMOLLM3_WIDE: Config = SMOLLM3 | {
    "hidden_size": 128,
    "num_key_value_heads": 4,
    "intermediate_size": 192,
}
# As published: each layer named, beside the interval.
LISTED: Config = {"no_rope_layers": [1, 0, 1, 1, 0], "no_rope_layer_interval": 2}

CASES: list[Case] = [
    Case("smollm3-f32", SMOLLM3),
    Case("smollm3-bf16", SMOLLM3, "bfloat16"),
    Case("smollm3-f16", SMOLLM3_WIDE | LISTED, "float16"),
    Case("smollm3-4bit-bf16", SMOLLM3_WIDE, "bfloat16", bits=4, group=64),
    Case("smollm3-untied-f32", SMOLLM3 | LISTED | UNTIED),
    Case("smollm3-bias-f32", SMOLLM3 | {"no_rope_layer_interval": 3, "attention_bias": True}),
]
