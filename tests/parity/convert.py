"""Float models to be converted, and what mlx-lm makes of the same and of the converted ones.

    convert.py make OUT_DIR     OUT_DIR/NAME/model for every row, and OUT_DIR/rows.json
    convert.py check OUT_DIR    compares OUT_DIR/NAME/converted with mlx-lm's own conversion, tensor by
                                tensor, and writes mlx-lm's logits of it to OUT_DIR/NAME/logits.safetensors
"""

import contextlib
import io
import json
import shutil
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import mlx.core as mx
import mlx_lm.utils as mlx_lm
from mlx.utils import tree_flatten

import mlx_shim  # noqa: F401
from case import Case
from cases import CASES
from weights import write_model

PROMPT = [5, 99, 300, 7, 7, 211, 42, 150, 3]


@dataclass(frozen=True)
class Row:
    """A float model of the parity table and the format that it is converted to."""

    name: str
    case: str
    mode: str
    group: int
    bits: int
    dtype: str = "bfloat16"


ROWS = [
    *(Row(f"affine-{bits}", "llama-4bit-bf16", "affine", 64, bits) for bits in (2, 3, 4, 5, 6, 8)),
    Row("affine-group-32", "qwen3-4bit-bf16", "affine", 32, 4, "float16"),
    Row("affine-group-128", "llama-4bit-bf16", "affine", 128, 4, "float32"),
    Row("mxfp4", "llama-4bit-bf16", "mxfp4", 32, 4),
    Row("mxfp8", "qwen3-4bit-bf16", "mxfp8", 32, 8),
    Row("nvfp4", "llama-4bit-bf16", "nvfp4", 16, 4, "float32"),
    # down_proj's rows do not divide by 64 here: it stays dense.
    Row("not-all", "qwen2-4bit-f32", "affine", 64, 4),
    Row("gemma", "gemma3-4bit-f32", "affine", 64, 4),
    Row("embedded-text", "mistral3-mini-4bit-bf16", "affine", 64, 4),
    # Routers keep 8 bits, and what config.json says of them names mlx-lm's layers.
    Row("experts", "qwen3-moe-4bit-bf16", "affine", 64, 4),
    Row("experts-with-bias", "gpt-oss-4bit-bf16", "affine", 64, 4),
    Row("mixtral", "mixtral-4bit-bf16", "affine", 64, 4),
    Row("latent-attention", "deepseek-v3-4bit-bf16", "affine", 32, 4),
    Row("shared-kv", "gemma4-text-4bit-bf16", "affine", 64, 4),
    Row("short-conv", "lfm2-4bit-bf16", "affine", 64, 4),
    Row("gated-delta", "qwen3-5-4bit-bf16", "affine", 64, 4),
    Row("gated-delta-experts", "qwen3-5-moe-4bit-bf16", "affine", 64, 4),
    Row("fused", "phi3-4bit-bf16", "affine", 32, 4),
    # Not mxfp4: mlx-lm would round its scaled embeddings to bfloat16.
    Row("careful-layers", "granite-4bit-bf16", "affine", 32, 4),
]


def find(name: str) -> Case | None:
    return next((case for case in CASES if case.name == name), None)


def make(out: Path) -> None:
    rows = [row for row in ROWS if find(row.case)]
    for row in rows:
        shutil.rmtree(out / row.name, ignore_errors=True)
        case = replace(find(row.case), name=row.name, dtype=row.dtype, bits=0, overrides={})
        write_model(case, 1, out / row.name / "model")
    described = [asdict(row) | {"prompt": PROMPT} for row in rows]
    (out / "rows.json").write_text(json.dumps(described, indent=2) + "\n")


def check(out: Path) -> None:
    for row in ROWS:
        if not (out / row.name).exists():
            continue
        source, config = mlx_lm.load_model(out / row.name / "model")
        with contextlib.redirect_stdout(io.StringIO()):
            theirs, _ = mlx_lm.quantize_model(source, config, row.group, row.bits, mode=row.mode)
        ours, _ = mlx_lm.load_model(out / row.name / "converted")
        compare(row.name, dict(tree_flatten(ours.parameters())), dict(tree_flatten(theirs.parameters())))
        ours.set_dtype(mx.float32)
        logits = ours(mx.array([PROMPT]))[0].astype(mx.float32)
        mx.save_safetensors(str(out / row.name / "logits.safetensors"), {"logits": logits})


def compare(name: str, ours: dict[str, mx.array], theirs: dict[str, mx.array]) -> None:
    if ours.keys() != theirs.keys():
        raise SystemExit(f"{name}: tensors differ: {sorted(ours.keys() ^ theirs.keys())}")
    for tensor, array in theirs.items():
        if ours[tensor].dtype != array.dtype or not mx.array_equal(ours[tensor], array):
            raise SystemExit(f"{name}: {tensor} differs from mlx-lm's")


if __name__ == "__main__":
    mx.set_default_device(mx.cpu)
    {"make": make, "check": check}[sys.argv[1]](Path(sys.argv[2]))
