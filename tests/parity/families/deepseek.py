"""DeepSeek V3 and Kimi K2."""

import mlx.core as mx

from case import Case, Config, Tensors
from families.moe import publish_qwen3_moe as one_by_one

GROUP = 32


def publish(tensors: Tensors) -> Tensors:
    """DeepSeek's names: experts one by one, keys and values in kv_b_proj, a layer that mlx-lm drops."""
    published = one_by_one(tensors)
    for name in [name for name in published if name.endswith("embed_q.weight")]:
        prefix = name.removesuffix("embed_q.weight")
        keys = take_matrix(published, f"{prefix}embed_q").swapaxes(-1, -2)
        values = take_matrix(published, f"{prefix}unembed_out")
        kv_b = mx.concatenate([keys, values], axis=1).flatten(0, 1)
        if any(key.endswith(".scales") for key in tensors):
            parts = zip(["weight", "scales", "biases"], mx.quantize(kv_b, GROUP, 4))
            published |= {f"{prefix}kv_b_proj.{part}": tensor for part, tensor in parts}
        else:
            published[f"{prefix}kv_b_proj.weight"] = kv_b
    published["model.layers.61.enorm.weight"] = tensors["model.norm.weight"]
    return published


def take_matrix(tensors: Tensors, name: str) -> mx.array:
    """A matrix, dequantised if need be, taken out of the tensors."""
    parts = [tensors.pop(f"{name}.{part}", None) for part in ["weight", "scales", "biases"]]
    return parts[0] if parts[1] is None else mx.dequantize(*parts, GROUP, 4)


def publish_fp8(tensors: Tensors) -> Tensors:
    """The same, the matrices in 8-bit floats with a factor for every block."""
    published: Tensors = {}
    for name, tensor in publish(tensors).items():
        if not name.endswith("_proj.weight"):
            published[name] = tensor
            continue
        rows, columns = tensor.shape
        padded = mx.pad(tensor.astype(mx.float32), [(0, -rows % 128), (0, -columns % 128)])
        blocks = padded.reshape(padded.shape[0] // 128, 128, padded.shape[1] // 128, 128)
        factors = mx.abs(blocks).max(axis=(1, 3)) / 448
        codes = mx.to_fp8(blocks / factors[:, None, :, None])
        published[name] = codes.reshape(padded.shape)[:rows, :columns]
        published[name + "_scale_inv"] = factors
    return published


def publish_int4(tensors: Tensors) -> Tensors:
    """The same, the experts in 4-bit integers, eight in one int32, as Kimi K2 Thinking has them."""
    published: Tensors = {}
    for name, tensor in publish(tensors).items():
        if ".experts." not in name:
            published[name] = tensor
            continue
        groups = tensor.reshape(tensor.shape[0], -1, GROUP)
        scales = (mx.abs(groups).max(axis=-1) / 7).astype(tensor.dtype)
        values = mx.clip(mx.round(groups / scales[..., None]) + 8, 0, 15).astype(mx.uint32)
        shifts = mx.arange(0, 32, 4, dtype=mx.uint32)
        packed = (values.reshape(tensor.shape[0], -1, 8) << shifts).sum(axis=-1)
        published[f"{name}_packed"] = packed.astype(mx.uint32).view(mx.int32)
        published[f"{name}_scale"] = scales
        published[f"{name}_shape"] = mx.array(tensor.shape, mx.int32)
    return published


SPECIAL = {"gate.weight": (0.0, 0.2), "e_score_correction_bias": (0.0, 0.3)}

# Experts from layer 1 on, chosen from two of four groups.
DEEPSEEK_V3: Config = {
    "model_type": "deepseek_v3",
    "vocab_size": 560,
    "hidden_size": 80,
    "intermediate_size": 104,
    "moe_intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "n_shared_experts": 2,
    "n_routed_experts": 12,
    "routed_scaling_factor": 2.5,
    "kv_lora_rank": 40,
    "q_lora_rank": 24,
    "qk_rope_head_dim": 16,
    "v_head_dim": 20,
    "qk_nope_head_dim": 24,
    "n_group": 4,
    "topk_group": 2,
    "num_experts_per_tok": 3,
    "first_k_dense_replace": 1,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-2,
    "rope_theta": 10000.0,
}
# Everything that can be left out or be otherwise is.
DEEPSEEK_V3_PLAIN: Config = DEEPSEEK_V3 | {
    "n_shared_experts": None,
    "q_lora_rank": None,
    "n_group": 1,
    "topk_group": 1,
    "num_experts_per_tok": 2,
    "norm_topk_prob": False,
    "first_k_dense_replace": 0,
    "moe_layer_freq": 2,
    "attention_bias": True,
}
# original_max_position_embeddings is small so that pairs of all kinds are in use.
YARN: Config = {
    "type": "yarn",
    "factor": 40,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 1.0,
    "mscale_all_dim": 0.7,
    "original_max_position_embeddings": 512,
}
# Sizes that divide by 32, for quantised weights; hidden_size by 64, for which a router would keep 8 bits.
DEEPSEEK_V3_WIDE: Config = DEEPSEEK_V3 | {
    "hidden_size": 128,
    "intermediate_size": 160,
    "moe_intermediate_size": 64,
    "kv_lora_rank": 64,
    "q_lora_rank": 32,
    "v_head_dim": 32,
    "qk_nope_head_dim": 32,
    "rope_scaling": YARN | {"mscale_all_dim": 1.0},
}
FP8: Config = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}
INT4: Config = {"quant_method": "compressed-tensors", "format": "pack-quantized"}
KIMI_K2: Config = DEEPSEEK_V3_WIDE | {"model_type": "kimi_k2", "n_group": 1, "topk_group": 1}

CASES: list[Case] = [
    Case("deepseek-v3-f32", DEEPSEEK_V3, special=SPECIAL),
    Case("deepseek-v3-plain-f32", DEEPSEEK_V3_PLAIN, special=SPECIAL),
    Case("deepseek-v3-yarn-f32", DEEPSEEK_V3 | {"rope_scaling": YARN}, special=SPECIAL),
    Case("deepseek-v3-f16", DEEPSEEK_V3, "float16", special=SPECIAL),
    Case("deepseek-v3-4bit-bf16", DEEPSEEK_V3_WIDE, "bfloat16", bits=4, group=32, special=SPECIAL),
    Case("deepseek-v3-hf-f32", DEEPSEEK_V3, special=SPECIAL, publish=publish),
    Case(
        "deepseek-v3-hf-4bit-f16",
        DEEPSEEK_V3_WIDE,
        "float16",
        bits=4,
        group=32,
        special=SPECIAL,
        publish=publish,
    ),
    Case(
        "deepseek-v3-hf-fp8-bf16",
        DEEPSEEK_V3 | {"hidden_size": 160, "quantization_config": FP8},
        "bfloat16",
        special=SPECIAL,
        publish=publish_fp8,
    ),
    Case("kimi-k2-f32", KIMI_K2, special=SPECIAL),
    Case(
        "kimi-k2-hf-int4-bf16",
        KIMI_K2 | {"quantization_config": INT4},
        "bfloat16",
        special=SPECIAL,
        publish=publish_int4,
    ),
]
