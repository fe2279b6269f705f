"""Qwen 3's mixtures of experts, and Mixtral."""

import re

from case import Case, Config, Tensors, UNTIED

# Decides clearly: a token's k-th and next expert are far from each other.
ROUTER = {"gate.weight": (0.0, 0.5)}


def one_by_one(tensors: Tensors, stacked: str, name: str, matrices: dict[str, str]) -> Tensors:
    """Experts as publishers store them: `<stacked>.<matrix>` becomes `<name>.<expert>.<matrix>`."""
    published: Tensors = {}
    for key, tensor in tensors.items():
        if match := re.fullmatch(rf"(.*\.){stacked}\.(\w+)(\..*)", key):
            prefix, matrix, kind = match.groups()
            for expert, part in enumerate(tensor):
                published[f"{prefix}{name}.{expert}.{matrices[matrix]}{kind}"] = part
        else:
            published[key] = tensor
    return published


def publish_qwen3_moe(tensors: Tensors) -> Tensors:
    names = ["gate_proj", "up_proj", "down_proj"]
    return one_by_one(tensors, "switch_mlp", "experts", {name: name for name in names})


def publish_mixtral(tensors: Tensors) -> Tensors:
    names = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}
    return one_by_one(tensors, "switch_mlp", "experts", names)


# Layer 1 has no experts.
QWEN3_MOE: Config = {
    "model_type": "qwen3_moe",
    "hidden_size": 80,
    "num_hidden_layers": 3,
    "intermediate_size": 136,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "head_dim": 32,
    "num_experts": 7,
    "num_experts_per_tok": 3,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [1],
    "moe_intermediate_size": 56,
    "norm_topk_prob": True,
    "rms_norm_eps": 1e-2,
    "vocab_size": 560,
    "max_position_embeddings": 256,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": False,
}
# Only the second layer has experts, of which one is used.
QWEN3_MOE_OTHER: Config = QWEN3_MOE | {
    "num_key_value_heads": 1,
    "decoder_sparse_step": 2,
    "mlp_only_layers": [],
    "num_experts_per_tok": 1,
    "norm_topk_prob": False,
    "tie_word_embeddings": True,
}
# Sizes that divide by 64, for quantised weights; mlx-lm gives the router 8 bits of its own accord.
QWEN3_MOE_WIDE: Config = QWEN3_MOE | {
    "hidden_size": 128,
    "num_key_value_heads": 6,
    "intermediate_size": 192,
    "moe_intermediate_size": 64,
}

MIXTRAL: Config = {
    "model_type": "mixtral",
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "intermediate_size": 72,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 5,
    "num_experts_per_tok": 2,
    "rms_norm_eps": 1e-2,
    "vocab_size": 600,
    "max_position_embeddings": 256,
    "rope_theta": 1000000.0,
}
MIXTRAL_WIDE: Config = MIXTRAL | {
    "hidden_size": 128,
    "num_key_value_heads": 1,
    "intermediate_size": 64,
}
# num_key_value_heads null: as many as there are query heads.
MIXTRAL_OTHER: Config = MIXTRAL | {
    "num_key_value_heads": None,
    "num_experts_per_tok": 3,
    "rope_traditional": True,
    "tie_word_embeddings": True,
}

CASES: list[Case] = [
    Case("qwen3-moe-f32", QWEN3_MOE, special=ROUTER),
    Case("qwen3-moe-other-f32", QWEN3_MOE_OTHER, special=ROUTER),
    Case("qwen3-moe-bf16", QWEN3_MOE, "bfloat16", special=ROUTER),
    Case("qwen3-moe-f16", QWEN3_MOE | {"norm_topk_prob": False}, "float16", special=ROUTER),
    Case("qwen3-moe-4bit-bf16", QWEN3_MOE_WIDE, "bfloat16", bits=4, group=64, special=ROUTER),
    Case("qwen3-moe-4bit-f32", QWEN3_MOE_WIDE, bits=4, group=32, special=ROUTER),
    Case("qwen3-moe-hf-f32", QWEN3_MOE, special=ROUTER, publish=publish_qwen3_moe),
    Case("mixtral-f32", MIXTRAL, special=ROUTER),
    Case("mixtral-other-f32", MIXTRAL_OTHER, special=ROUTER),
    Case("mixtral-bf16", MIXTRAL | UNTIED, "bfloat16", special=ROUTER),
    Case("mixtral-f16", MIXTRAL, "float16", special=ROUTER),
    Case("mixtral-4bit-bf16", MIXTRAL_WIDE, "bfloat16", bits=4, group=64, special=ROUTER),
    Case(
        "mixtral-hf-4bit-f16",
        MIXTRAL_WIDE,
        "float16",
        bits=4,
        group=32,
        overrides={"gate": 8},
        special=ROUTER,
        publish=publish_mixtral,
    ),
]
