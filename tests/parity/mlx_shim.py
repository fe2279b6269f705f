"""Imported for what it does: mlx-lm 0.32.2 passes gather_qmm the experts' global scale, which MLX knows
from 0.32.3 on. It is None for all of ours.
"""

import mlx.core as mx

gather_qmm = mx.gather_qmm


def gather_qmm_without_global_scale(*args, global_scale: None, **kwargs) -> mx.array:
    assert global_scale is None
    return gather_qmm(*args, **kwargs)


mx.gather_qmm = gather_qmm_without_global_scale
