"""LFM2."""

import mlx.core as mx

from case import Case, Config, Tensors

# The feed-forward part is 2/3 of 150 times 1.3, rounded up to a multiple of 24: 144.
LFM2: Config = {
    "model_type": "lfm2",
    "vocab_size": 530,
    "hidden_size": 96,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "norm_eps": 4e-3,
    "conv_bias": False,
    "conv_L_cache": 3,
    "block_dim": 96,
    "block_ff_dim": 150,
    "block_multiple_of": 24,
    "block_ffn_dim_multiplier": 1.3,
    "block_auto_adjust_ff_dim": True,
    "rope_theta": 50000.0,
    "full_attn_idxs": [2, 4],
}
# A kernel that reaches further back than a chunk of the test is long; attention comes first.
LFM2_LONG_CONV: Config = {k: v for k, v in LFM2.items() if k != "full_attn_idxs"} | {
    "num_key_value_heads": 1,
    "conv_bias": True,
    "conv_L_cache": 9,
    "block_auto_adjust_ff_dim": False,
    "rope_parameters": {"rope_type": "default", "rope_theta": 2000.0},
    "layer_types": ["full_attention", "conv", "conv", "full_attention", "conv"],
}
LFM2_WIDE: Config = LFM2 | {
    "hidden_size": 128,
    "block_dim": 128,
    "num_key_value_heads": 4,
    "block_multiple_of": 64,
}


def publish(tensors: Tensors) -> Tensors:
    """PyTorch has a convolution's kernel last."""
    return {
        name: mx.contiguous(tensor.swapaxes(1, 2)) if name.endswith("conv.conv.weight") else tensor
        for name, tensor in tensors.items()
    }


CASES: list[Case] = [
    Case("lfm2-f32", LFM2),
    Case("lfm2-long-conv-f32", LFM2_LONG_CONV),
    Case("lfm2-bf16", LFM2, "bfloat16"),
    Case("lfm2-f16", LFM2_LONG_CONV, "float16"),
    Case("lfm2-4bit-bf16", LFM2_WIDE, "bfloat16", bits=4, group=64),
    Case("lfm2-published-f32", LFM2, publish=publish),
]
