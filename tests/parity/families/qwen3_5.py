"""Qwen 3.5, dense and with experts."""

import mlx.core as mx

from case import Case, Config, Tensors

TEXT: Config = {
    "model_type": "qwen3_5_text",
    "hidden_size": 80,
    "intermediate_size": 112,
    "num_hidden_layers": 5,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 40,
    "rms_norm_eps": 2e-3,
    "vocab_size": 540,
    "max_position_embeddings": 256,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 6,
    "linear_key_head_dim": 24,
    "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4,
    "full_attention_interval": 3,
    "rope_parameters": {
        "rope_type": "default",
        "mrope_interleaved": True,
        "mrope_section": [2, 2, 1],
        "rope_theta": 3000.0,
        "partial_rotary_factor": 0.25,
    },
}
WIDE: Config = TEXT | {
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "linear_num_value_heads": 8,
}
EXPERTS: Config = {
    "num_experts": 7,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 48,
    "shared_expert_intermediate_size": 56,
}
EXPERTS_WIDE: Config = EXPERTS | {
    "num_hidden_layers": 3,
    "moe_intermediate_size": 64,
    "shared_expert_intermediate_size": 128,
}


def wrapped(text: Config) -> Config:
    """A multimodal model's config.json around that of its text part."""
    return {"model_type": "qwen3_5", "vocab_size": text["vocab_size"], "text_config": text}


def moe(text: Config) -> Config:
    return wrapped(text) | {"model_type": "qwen3_5_moe"}


# No text_config around it, and the other value of every switch.
ALONE: Config = TEXT | {
    "model_type": "qwen3_5",
    "num_hidden_layers": 4,
    "num_key_value_heads": 3,
    "linear_num_value_heads": 2,
    "linear_conv_kernel_dim": 3,
    "full_attention_interval": 2,
    "tie_word_embeddings": True,
    "attention_bias": True,
}
# No rope_parameters either: the defaults' dimensions and base.
MOE_ALONE: Config = {k: v for k, v in ALONE.items() if k != "rope_parameters"} | EXPERTS | {
    "model_type": "qwen3_5_moe",
    "norm_topk_prob": False,
}

NORMS = ("_layernorm.weight", "model.norm.weight", "_norm.weight")


def publish(tensors: Tensors) -> Tensors:
    """The multimodal checkpoint: norms minus one, kernels last, gate and up in one."""
    published: Tensors = {
        "model.visual.patch_embed.proj.weight": mx.ones((4, 4)),
        "mtp.layers.0.input_layernorm.weight": mx.ones(4),
    }
    for name, tensor in tensors.items():
        name = name.replace("language_model.model.", "model.language_model.")
        name = name.replace("language_model.lm_head", "lm_head")
        if name.endswith("conv1d.weight"):
            tensor = mx.contiguous(tensor.swapaxes(1, 2))
        if name.endswith(NORMS) or name == "model.language_model.norm.weight":
            tensor = tensor - 1
        if ".switch_mlp.gate_proj" in name:
            up = tensors[
                name.replace("model.language_model.", "language_model.model.").replace("gate_proj", "up_proj")
            ]
            tensor = mx.concatenate([tensor, up], axis=-2)
            name = name.replace("switch_mlp.gate_proj.weight", "experts.gate_up_proj")
        if ".switch_mlp.up_proj" in name:
            continue
        published[name.replace("switch_mlp.down_proj.weight", "experts.down_proj")] = tensor
    return published


def publish_alone(tensors: Tensors) -> Tensors:
    """The text part alone, otherwise as mlx-lm has it."""
    return {name.removeprefix("language_model."): tensor for name, tensor in tensors.items()}


# Memories that last some positions; routers that are sure, and experts that weigh less than the shared
# one: where the choice is close, rounding would decide about everything behind it.
SPECIAL = {
    "A_log": (-1.0, 1.0),
    "dt_bias": (-1.5, 0.5),
    "mlp.gate.weight": (0.0, 0.5),
    "switch_mlp.down_proj.weight": (0.0, 0.04),
}


def case(name: str, config: Config, *args, **kwargs) -> Case:
    return Case(name, config, *args, special=SPECIAL, **kwargs)


CASES: list[Case] = [
    case("qwen3-5-f32", wrapped(TEXT)),
    case("qwen3-5-bf16", wrapped(TEXT), "bfloat16"),
    case("qwen3-5-f16", wrapped(TEXT), "float16"),
    case("qwen3-5-4bit-bf16", wrapped(WIDE), "bfloat16", bits=4, group=64),
    case("qwen3-5-published-bf16", wrapped(TEXT), "bfloat16", publish=publish),
    case("qwen3-5-alone-f32", ALONE, publish=publish_alone),
    case("qwen3-5-moe-f32", moe(TEXT | EXPERTS)),
    case("qwen3-5-moe-bf16", moe(TEXT | EXPERTS), "bfloat16"),
    case("qwen3-5-moe-4bit-bf16", moe(WIDE | EXPERTS_WIDE), "bfloat16", bits=4, group=64),
    case("qwen3-5-moe-8bit-f16", moe(WIDE | EXPERTS_WIDE), "float16", bits=8, group=64),
    case("qwen3-5-moe-published-f16", moe(TEXT | EXPERTS), "float16", publish=publish),
    case("qwen3-5-moe-alone-f32", MOE_ALONE),
]
