"""Every format of quantised weights, in a small Llama."""

from case import UNTIED, Case, Config
from families.llama import LLAMA_WIDE

WIDE: Config = LLAMA_WIDE | {"intermediate_size": 256}
MXFP4: Config = {"group_size": 32, "bits": 4, "mode": "mxfp4"}
NVFP4: Config = {"group_size": 16, "bits": 4, "mode": "nvfp4"}

CASES: list[Case] = [
    *(
        Case(f"affine-{bits}-{group}", WIDE, "bfloat16", bits=bits, group=group)
        for bits, group in [(2, 32), (3, 64), (4, 128), (5, 32), (6, 128), (8, 64)]
    ),
    Case("affine-3-32-f16", WIDE | UNTIED, "float16", bits=3, group=32),
    Case("mxfp4", WIDE, "bfloat16", bits=4, group=32, mode="mxfp4"),
    Case("mxfp4-f32", WIDE | UNTIED, bits=4, group=32, mode="mxfp4"),
    Case("mxfp8", WIDE, "bfloat16", bits=8, group=32, mode="mxfp8"),
    Case("nvfp4", WIDE, "bfloat16", bits=4, group=16, mode="nvfp4"),
    # Not in float16: there mlx-lm takes bfloat16 vectors from the table, and computes in float32.
    Case("nvfp4-f32", WIDE | UNTIED, bits=4, group=16, mode="nvfp4"),
    # Each layer its own.
    Case(
        "mixed-modes",
        WIDE,
        "bfloat16",
        bits=4,
        group=64,
        overrides={"q_proj": MXFP4, "down_proj": NVFP4, "o_proj": {"group_size": 32, "bits": 6}},
    ),
]
