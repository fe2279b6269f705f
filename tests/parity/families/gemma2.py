"""Gemma 2."""

from case import Case, Config

# Caps so small that scores and logits reach them.
GEMMA2: Config = {
    "model_type": "gemma2",
    "hidden_size": 72,
    "num_hidden_layers": 5,
    "intermediate_size": 120,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 20,
    "rms_norm_eps": 2e-3,
    "vocab_size": 560,
    "max_position_embeddings": 256,
    "rope_theta": 10000.0,
    "attn_logit_softcapping": 4.0,
    "final_logit_softcapping": 12.0,
    "query_pre_attn_scalar": 12,
    # Longer prompts than this, too, are seen whole by every layer.
    "sliding_window": 12,
}
GEMMA2_WIDE: Config = GEMMA2 | {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "intermediate_size": 128,
}
# What mlx-lm has defaults for is left out.
GEMMA2_DEFAULTS: Config = {
    k: v
    for k, v in (GEMMA2 | {"num_key_value_heads": 6, "rope_traditional": True}).items()
    if not k.endswith("softcapping") and k not in ("query_pre_attn_scalar", "rope_theta")
}

# Tokens weigh less than usual, so that decoding does not repeat a few.
TOKENS = {"embed_tokens.weight": (0.0, 0.015), "model.norm.weight": (40.0, 2.0)}

CASES: list[Case] = [
    Case("gemma2-f32", GEMMA2, gemma=True, special=TOKENS),
    Case("gemma2-defaults-f32", GEMMA2_DEFAULTS, gemma=True, special=TOKENS),
    Case("gemma2-bf16", GEMMA2, "bfloat16", gemma=True, special=TOKENS),
    Case("gemma2-f16", GEMMA2_WIDE, "float16", gemma=True, special=TOKENS),
    Case("gemma2-4bit-bf16", GEMMA2_WIDE, "bfloat16", bits=4, group=32, gemma=True, special=TOKENS),
]
