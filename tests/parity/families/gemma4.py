"""Gemma 4."""

import mlx.core as mx
from case import UNTIED, Case, Config, Tensors

# As the small models: per-layer inputs; layers 2 and 5 of 7 see everything; the last three take keys
# and values from layers 3 (sliding) and 2 (full).
GEMMA4_TEXT: Config = {
    "model_type": "gemma4_text",
    "hidden_size": 72,
    "num_hidden_layers": 7,
    "intermediate_size": 56,
    "num_attention_heads": 4,
    "head_dim": 16,
    "global_head_dim": 24,
    "rms_norm_eps": 2e-3,
    "vocab_size": 560,
    "vocab_size_per_layer_input": 560,
    "num_key_value_heads": 1,
    "num_kv_shared_layers": 3,
    "hidden_size_per_layer_input": 20,
    "sliding_window": 12,
    "sliding_window_pattern": 3,
    "max_position_embeddings": 256,
    "final_logit_softcapping": 12.0,
}
GEMMA4_TEXT_WIDE: Config = GEMMA4_TEXT | {
    "hidden_size": 64,
    "intermediate_size": 96,
    "head_dim": 32,
    "global_head_dim": 64,
    "hidden_size_per_layer_input": 32,
    "num_key_value_heads": 2,
}
# As the large ones: keys are values in full layers, experts; then the other value of every switch.
GEMMA4_TEXT_MOE: Config = GEMMA4_TEXT | UNTIED | {
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "num_global_key_value_heads": 2,
    "num_kv_shared_layers": 0,
    "hidden_size_per_layer_input": 0,
    "attention_k_eq_v": True,
    "final_logit_softcapping": None,
    "use_double_wide_mlp": False,
    "enable_moe_block": True,
    "num_experts": 7,
    "top_k_experts": 3,
    "moe_intermediate_size": 40,
    "rope_parameters": {
        "full_attention": {
            "partial_rotary_factor": 0.4,
            "rope_theta": 100000.0,
            "rope_type": "proportional",
        },
        "sliding_attention": {"rope_theta": 5000.0, "rope_type": "default"},
    },
}


def multimodal(text: Config) -> Config:
    """As the published models, with what mlx-lm has defaults for left out of the nested config."""
    nested = {
        k: v
        for k, v in text.items()
        if k not in ("vocab_size", "num_attention_heads", "num_key_value_heads")
    }
    return {"model_type": "gemma4", "vocab_size": text["vocab_size"], "text_config": nested}


GEMMA4: Config = multimodal(
    GEMMA4_TEXT | {"global_head_dim": None, "rope_traditional": True, "use_double_wide_mlp": False}
)
GEMMA4_MOE: Config = multimodal(
    GEMMA4_TEXT_MOE
    | {
        "hidden_size": 64,
        "intermediate_size": 64,
        "moe_intermediate_size": 64,
        "num_global_key_value_heads": None,
    }
)
GEMMA4_UNIFIED: Config = GEMMA4 | {"model_type": "gemma4_unified"}


def publish(tensors: Tensors) -> Tensors:
    """Google's names: the model outside, experts' gate and up in one, projections that none uses."""
    published: Tensors = {
        "model.vision_tower.patch_embedder.weight": mx.zeros((4, 3)),
        "model.embed_vision.embedding_projection.weight": mx.zeros((4, 3)),
        "model.language_model.layers.6.self_attn.k_proj.weight": mx.zeros((4, 3)),
    }
    for name, tensor in tensors.items():
        renamed = name.replace("language_model.model.", "model.language_model.")
        renamed = renamed.replace("switch_glu.down_proj.weight", "down_proj")
        renamed = renamed.replace("switch_glu.gate_proj.weight", "gate_up_proj")
        if name.endswith("switch_glu.gate_proj.weight"):
            tensor = mx.concatenate([tensor, tensors[name.replace("gate_proj", "up_proj")]], axis=-2)
        if not name.endswith("switch_glu.up_proj.weight"):
            published[renamed] = tensor
    return published


# Tokens weigh less than usual in the residual stream, scores have no other scale than the norms', and
# routers are sure of their choice.
WEIGHTS = {
    "embed_tokens.weight": (0.0, 0.04),
    "model.norm.weight": (10.0, 1.0),
    "q_norm.weight": (0.4, 0.1),
    "router.proj.weight": (0.0, 3.0),
}

CASES: list[Case] = [
    Case("gemma4-text-f32", GEMMA4_TEXT, special=WEIGHTS),
    Case("gemma4-text-moe-f32", GEMMA4_TEXT_MOE, special=WEIGHTS),
    Case("gemma4-text-bf16", GEMMA4_TEXT, "bfloat16", special=WEIGHTS),
    Case("gemma4-text-f16", GEMMA4_TEXT_WIDE, "float16", special=WEIGHTS),
    Case("gemma4-text-4bit-bf16", GEMMA4_TEXT_WIDE, "bfloat16", bits=4, group=32, special=WEIGHTS),
    Case("gemma4-f32", GEMMA4, special=WEIGHTS),
    Case("gemma4-moe-bf16", GEMMA4_MOE, "bfloat16", special=WEIGHTS, publish=publish),
    Case("gemma4-moe-f16", GEMMA4_MOE, "float16", special=WEIGHTS),
    Case("gemma4-moe-4bit-bf16", GEMMA4_MOE, "bfloat16", bits=4, group=64, special=WEIGHTS),
    Case("gemma4-unified-f32", GEMMA4_UNIFIED, special=WEIGHTS, publish=publish),
]
