"""gpt-oss."""

import mlx.core as mx

from case import Case, Config, Tensors


def publish(tensors: Tensors) -> Tensors:
    """The experts in OpenAI's layout: mxfp4 blocks, rows of gate and up alternating."""
    published = {name: tensor for name, tensor in tensors.items() if ".experts." not in name}
    for prefix in {name.split("experts.")[0] + "experts." for name in tensors if ".experts." in name}:
        matrices = {m: pack(tensors, f"{prefix}{m}_proj") for m in ["gate", "up", "down"]}
        for part in ["blocks", "scales", "bias"]:
            gate_up = mx.stack([matrices["gate"][part], matrices["up"][part]], axis=2)
            published[f"{prefix}gate_up_proj_{part}"] = gate_up.flatten(1, 2)
            published[f"{prefix}down_proj_{part}"] = matrices["down"][part]
    return published


def pack(tensors: Tensors, name: str) -> Tensors:
    packed, scales = mx.quantize(tensors[f"{name}.weight"], 32, 4, mode="mxfp4")
    blocks = packed.view(mx.uint8).reshape(*scales.shape, 16)
    return {"blocks": blocks, "scales": scales, "bias": tensors[f"{name}.bias"]}


# Logits of the router far from each other, sinks as large as scores, and gate and up often clipped.
SPECIAL = {
    "router.weight": (0.0, 0.5),
    "sinks": (1.0, 1.5),
    "experts.gate_proj.weight": (0.0, 0.4),
    "experts.up_proj.weight": (0.0, 0.4),
    "experts.down_proj.weight": (0.0, 0.05),
}

# The window is shorter than the prompt.
GPT_OSS: Config = {
    "model_type": "gpt_oss",
    "hidden_size": 72,
    "num_hidden_layers": 3,
    "intermediate_size": 40,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "num_local_experts": 5,
    "num_experts_per_tok": 3,
    "rms_norm_eps": 1e-2,
    "vocab_size": 560,
    "max_position_embeddings": 256,
    "sliding_window": 12,
    "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
}
# original_max_position_embeddings is small so that pairs of all kinds are in use.
YARN: Config = {
    "rope_type": "yarn",
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "original_max_position_embeddings": 512,
    "truncate": False,
}
# Without layer_types they alternate.
GPT_OSS_YARN: Config = {k: v for k, v in GPT_OSS.items() if k != "layer_types"} | {
    "num_hidden_layers": 4,
    "num_key_value_heads": 6,
    "num_experts_per_tok": 1,
    "rope_theta": 10000,
    "rope_scaling": YARN,
}
# Sizes that divide by 64, for quantised weights; mlx-lm gives the router 8 bits of its own accord.
GPT_OSS_WIDE: Config = GPT_OSS | {
    "hidden_size": 128,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "intermediate_size": 64,
    "rope_scaling": YARN,
}
# As mlx-community's MXFP4-Q8 folders.
ALL_BUT_EXPERTS_8 = {
    name: 8 for name in ["self_attn." + p + "_proj" for p in "qkvo"] + ["embed_tokens", "lm_head", "router"]
}

CASES: list[Case] = [
    Case("gpt-oss-f32", GPT_OSS, special=SPECIAL),
    Case("gpt-oss-yarn-f32", GPT_OSS_YARN, special=SPECIAL),
    Case("gpt-oss-bf16", GPT_OSS_YARN, "bfloat16", special=SPECIAL),
    Case("gpt-oss-f16", GPT_OSS, "float16", special=SPECIAL),
    Case("gpt-oss-4bit-bf16", GPT_OSS_WIDE, "bfloat16", bits=4, group=64, special=SPECIAL),
    Case("gpt-oss-mxfp4-bf16", GPT_OSS_WIDE, "bfloat16", bits=4, group=32, mode="mxfp4", special=SPECIAL),
    Case(
        "gpt-oss-mxfp4-q8-f16",
        GPT_OSS_WIDE,
        "float16",
        bits=4,
        group=32,
        mode="mxfp4",
        overrides=ALL_BUT_EXPERTS_8,
        special=SPECIAL,
    ),
    Case(
        "gpt-oss-hf-bf16",
        GPT_OSS_WIDE | {"quantization_config": {"quant_method": "mxfp4"}},
        "bfloat16",
        special=SPECIAL,
        publish=publish,
    ),
]
