"""Mistral: plain (a Llama, whose layers may slide), Ministral 3, and both inside Mistral 3."""

import mlx.core as mx

from case import UNTIED, Case, Config, Tensors

MISTRAL: Config = {
    "model_type": "mistral",
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "intermediate_size": 152,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "rms_norm_eps": 3e-3,
    "vocab_size": 540,
    "max_position_embeddings": 256,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
}
MISTRAL_WIDE: Config = MISTRAL | {
    "hidden_size": 128,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "intermediate_size": 192,
}
SLIDING: Config = {
    "num_hidden_layers": 5,
    "layer_types": ["sliding_attention", "full_attention"] * 2 + ["sliding_attention"],
    "sliding_window": 11,
}

# Queries grow every 16 positions, so several times within the prompt.
MINISTRAL3: Config = {
    "model_type": "ministral3",
    "hidden_size": 80,
    "num_hidden_layers": 3,
    "intermediate_size": 144,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "rms_norm_eps": 1e-3,
    "vocab_size": 560,
    "max_position_embeddings": 256,
    "rope_parameters": {
        "rope_type": "yarn",
        "type": "yarn",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "original_max_position_embeddings": 16,
        "beta_fast": 4.0,
        "beta_slow": 0.5,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "llama_4_scaling_beta": 0.3,
    },
    "tie_word_embeddings": True,
}
MINISTRAL3_WIDE: Config = MINISTRAL3 | {
    "hidden_size": 64,
    "num_key_value_heads": 4,
    "intermediate_size": 128,
}


def mistral3(text: Config, drop: tuple[str, ...] = ()) -> Config:
    """A wrapper's config; `drop`: keys that its text_config leaves out."""
    inner = {key: value for key, value in text.items() if key not in drop}
    return {"model_type": "mistral3", "vocab_size": text["vocab_size"], "text_config": inner}


def publish_old(tensors: Tensors) -> Tensors:
    """`language_model.*`, as mlx-lm has it, beside a vision tower."""
    return tensors | {"vision_tower.patch_conv.weight": mx.ones([4, 3, 2, 2])}


def publish_new(tensors: Tensors) -> Tensors:
    """`model.language_model.*`, as transformers writes it since 2025."""
    renamed = {"model.vision_tower.patch_conv.weight": mx.ones([4, 3, 2, 2])}
    for name, tensor in tensors.items():
        name = name.removeprefix("language_model.")
        inner = name.removeprefix("model.")
        renamed[name if inner == name else f"model.language_model.{inner}"] = tensor
    return renamed


def publish_scaled(tensors: Tensors) -> Tensors:
    """Matrices divided by a scale that lies beside them, as in the 8-bit checkpoints."""
    published: Tensors = {}
    for name, tensor in tensors.items():
        if name.endswith("_proj.weight"):
            scale = mx.abs(tensor).max() / 448
            published[f"{name}_scale_inv"] = scale
            published[name.replace("weight", "activation_scale")] = mx.ones([])
            tensor = tensor / scale
        published[name] = tensor
    return published


CASES: list[Case] = [
    Case("mistral-f32", MISTRAL, index=False),
    Case("mistral-bf16", MISTRAL, "bfloat16"),
    Case("mistral-f16", MISTRAL_WIDE, "float16"),
    Case("mistral-4bit-bf16", MISTRAL_WIDE, "bfloat16", bits=4, group=64),
    Case("mistral-sliding-f32", MISTRAL | SLIDING | {"tie_word_embeddings": True}),
    Case("mistral-sliding-bf16", MISTRAL_WIDE | SLIDING, "bfloat16"),
    Case("ministral3-f32", MINISTRAL3),
    Case("ministral3-bf16", MINISTRAL3 | UNTIED, "bfloat16"),
    Case("ministral3-f16", MINISTRAL3, "float16"),
    Case("ministral3-4bit-bf16", MINISTRAL3_WIDE, "bfloat16", bits=4, group=32),
    Case("ministral3-sliding-f32", MINISTRAL3_WIDE | UNTIED | SLIDING),
    Case("ministral3-scaled-bf16", MINISTRAL3_WIDE, "bfloat16", publish=publish_scaled),
    # text_config without tie_word_embeddings: not tied, unlike alone.
    Case("mistral3-f32", mistral3(MISTRAL, drop=("tie_word_embeddings",)), publish=publish_old),
    Case("mistral3-new-names-f32", mistral3(MISTRAL), publish=publish_new),
    Case("mistral3-bf16", mistral3(MISTRAL), "bfloat16"),
    Case("mistral3-mini-f16", mistral3(MINISTRAL3), "float16", publish=publish_new),
    Case(
        "mistral3-mini-4bit-bf16",
        mistral3(MINISTRAL3_WIDE | UNTIED),
        "bfloat16",
        bits=4,
        group=64,
        overrides={"v_proj": 8},
    ),
]
