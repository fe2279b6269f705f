"""Phi 3 and 4."""

from case import Case, Config

PHI3: Config = {
    "model_type": "phi3",
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "intermediate_size": 140,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-3,
    "vocab_size": 552,
    "max_position_embeddings": 256,
    "original_max_position_embeddings": 256,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "sliding_window": 16,
}
PHI3_WIDE: Config = PHI3 | {
    "hidden_size": 128,
    "num_key_value_heads": 2,
    "intermediate_size": 192,
    "tie_word_embeddings": True,
}


def longrope(kind: str, pairs: int) -> Config:
    """LongRoPE; the context is 8 times the original one."""
    return {
        "original_max_position_embeddings": 32,
        "rope_scaling": {
            "type": kind,
            "short_factor": [1.0 + 0.01 * pair for pair in range(pairs)],
            "long_factor": [1.0 + 0.3 * pair for pair in range(pairs)],
        },
    }


# 24 of a head's 32 dimensions turn.
PARTIAL: Config = {"partial_rotary_factor": 0.75}

CASES: list[Case] = [
    Case("phi3-f32", PHI3),
    Case("phi3-bf16", PHI3, "bfloat16"),
    Case("phi3-f16", PHI3_WIDE | longrope("longrope", 16), "float16"),
    Case("phi3-4bit-bf16", PHI3_WIDE | longrope("longrope", 12) | PARTIAL, "bfloat16", bits=4, group=64),
    Case("phi3-longrope-f32", PHI3 | longrope("su", 12)),
    Case("phi3-partial-tied-f32", PHI3_WIDE | longrope("longrope", 12) | PARTIAL),
    Case(
        "phi3-linear-rope-f32",
        PHI3 | PARTIAL | {"rope_scaling": {"type": "linear", "factor": 2.0, "long_factor": []}},
    ),
]
