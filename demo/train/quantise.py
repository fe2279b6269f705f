"""MLX's affine 4-bit scheme: fake quantisation for training, and packing.

Every 64 consecutive input weights share a scale and a bias, and a weight is
stored as a code from 0 to 15 that stands for `code * scale + bias`.
"""

import numpy as np
import torch

BITS = 4
GROUP_SIZE = 64
LEVELS = 2**BITS - 1
CODES_PER_WORD = 32 // BITS


def quantise(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The codes, scales and biases of a weight matrix.

    As in MLX, the end of the range that is farther from zero is met exactly,
    and the scale is adjusted so that zero is met exactly too. Scales and biases
    are rounded to bfloat16 before the codes are chosen, since that is how they
    are stored: the codes then fit the values that inference will see.
    """
    groups = weight.float().unflatten(-1, (-1, GROUP_SIZE))
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    step = ((high - low) / LEVELS).clamp(min=1e-7)
    from_low = low.abs() > high.abs()
    scale = torch.where(from_low, step, -step)
    edge = torch.where(from_low, low, high)
    steps_to_edge = torch.round(edge / scale)
    no_steps = steps_to_edge == 0
    scale = torch.where(no_steps, scale, edge / steps_to_edge.masked_fill(no_steps, 1))
    bias = torch.where(no_steps, torch.zeros_like(edge), edge)
    scale, bias = scale.bfloat16().float(), bias.bfloat16().float()
    codes = torch.round((groups - bias) / scale).clamp(0, LEVELS)
    return codes.flatten(-2), scale.squeeze(-1), bias.squeeze(-1)


def dequantise(codes: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    groups = codes.unflatten(-1, (-1, GROUP_SIZE))
    return (groups * scale.unsqueeze(-1) + bias.unsqueeze(-1)).flatten(-2)


def fake_quantise(weight: torch.Tensor) -> torch.Tensor:
    """The weight as 4 bits give it back; gradients pass as if nothing happened."""
    with torch.no_grad():
        rounded = dequantise(*quantise(weight))
    return weight + (rounded - weight).detach()


def packed(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """The three tensors that MLX stores for a quantised weight."""
    codes, scale, bias = quantise(weight.detach().cpu())
    words = codes.numpy().astype(np.uint32).reshape(codes.shape[0], -1, CODES_PER_WORD)
    shifts = np.arange(CODES_PER_WORD, dtype=np.uint32) * BITS
    return {
        "weight": torch.from_numpy(np.bitwise_or.reduce(words << shifts, axis=-1)),
        "scales": scale.bfloat16(),
        "biases": bias.bfloat16(),
    }
