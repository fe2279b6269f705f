"""Models to be converted, and what mlx-lm makes of the same and of the converted ones.

    convert.py make OUT_DIR     OUT_DIR/NAME/model for every row, and OUT_DIR/rows.json
    convert.py check OUT_DIR    compares OUT_DIR/NAME/converted with mlx-lm's own conversion, tensor by
                                tensor, and writes mlx-lm's logits of it to OUT_DIR/NAME/logits.safetensors
"""

import contextlib
import importlib
import io
import json
import shutil
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx_lm.utils as mlx_lm

import mlx_shim  # noqa: F401
from case import Case, Config, rewrite
from cases import CASES
from weights import write_model

PROMPT = [5, 99, 300, 7, 7, 211, 42, 150, 3]


@dataclass(frozen=True)
class Row:
    """A model of the parity table and the format that it is converted to."""

    name: str
    case: str
    mode: str  # "": the weights stay as they are
    group: int
    bits: int
    dtype: str = "bfloat16"
    # What config.json says beside what is true.
    says: Config = field(default_factory=dict)
    # What the caller wants the weights to become.
    to: str | None = None


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
    # The experts are quantised already, the rest is not.
    Row("the-rest", "gpt-oss-hf-bf16", "affine", 64, 8),
    Row("mixtral", "mixtral-4bit-bf16", "affine", 64, 4),
    # This router, mlx-lm's own layer, stays dense.
    Row("latent-attention", "deepseek-v3-4bit-bf16", "affine", 64, 4),
    Row("shared-kv", "gemma4-text-4bit-bf16", "affine", 64, 4),
    Row("short-conv", "lfm2-4bit-bf16", "affine", 64, 4),
    Row("gated-delta", "qwen3-5-4bit-bf16", "affine", 64, 4),
    Row("gated-delta-experts", "qwen3-5-moe-4bit-bf16", "affine", 64, 4),
    Row("fused", "phi3-4bit-bf16", "affine", 32, 4),
    # Not mxfp4: mlx-lm would round its scaled embeddings to bfloat16.
    Row("careful-layers", "granite-4bit-bf16", "affine", 32, 4),
    # Weights become what config.json says they are, but for what needs its precision.
    Row("said-outside", "deepseek-v3-f32", "", 0, 0, "float32", {"torch_dtype": "bfloat16"}),
    Row(
        "said-inside",
        "qwen3-5-4bit-bf16",
        "affine",
        64,
        4,
        "float32",
        {"torch_dtype": None, "text_config": {"dtype": "float16"}},
    ),
    Row("wanted", "qwen3-5-f32", "", 0, 0, "float32", {"dtype": "float32"}, to="bfloat16"),
    Row("8-bit-floats", "deepseek-v3-hf-fp8-bf16", "", 0, 0),
]


def find(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def make(out: Path) -> None:
    for row in ROWS:
        shutil.rmtree(out / row.name, ignore_errors=True)
        case = replace(find(row.case), name=row.name, dtype=row.dtype, bits=0, overrides={})
        folder = out / row.name / "model"
        write_model(case, 1, folder)
        rewrite(folder / "config.json", row.says)
    described = [asdict(row) | {"prompt": PROMPT} for row in ROWS]
    (out / "rows.json").write_text(json.dumps(described, indent=2) + "\n")


def load(folder: str, lazy: bool, **_: Any) -> tuple:
    """mlx-lm's own loads the tokenizer too, for which transformers must like our odd shapes."""
    model, config = mlx_lm.load_model(Path(folder), lazy)
    return model, None, config


def save(folder: Path, _source: str, model: nn.Module, _tokenizer: None, config: Config) -> None:
    mlx_lm.save_model(folder, model)
    mlx_lm.save_config(config, folder / "config.json")


def check(out: Path) -> None:
    convert = importlib.import_module("mlx_lm.convert")
    convert.load, convert.save = load, save
    for row in ROWS:
        folder = out / row.name
        theirs, ours = folder / "theirs", folder / "converted"
        quantise = {"quantize": True, "q_group_size": row.group, "q_bits": row.bits, "q_mode": row.mode}
        with contextlib.redirect_stdout(io.StringIO()):
            convert.convert(str(folder / "model"), str(theirs), dtype=row.to, **(quantise if row.mode else {}))
        compare(row.name, tensors(ours), tensors(theirs))
        if settings(ours) != settings(theirs):
            raise SystemExit(f"{row.name}: config.json says {settings(ours)}, mlx-lm's {settings(theirs)}")
        model, _ = mlx_lm.load_model(ours)
        model.set_dtype(mx.float32)
        logits = model(mx.array([PROMPT]))[0].astype(mx.float32)
        mx.save_safetensors(str(folder / "logits.safetensors"), {"logits": logits})


def tensors(folder: Path) -> dict[str, mx.array]:
    found: dict[str, mx.array] = {}
    for file in folder.glob("*.safetensors"):
        found |= mx.load(str(file))
    return found


def settings(folder: Path) -> Any:
    """How config.json says that weights are quantised, with the mode that mlx-lm leaves out."""
    said = json.loads((folder / "config.json").read_text()).get("quantization")
    return said and {
        key: {"mode": "affine"} | value if isinstance(value, dict) else value for key, value in said.items()
    }


def compare(name: str, ours: dict[str, mx.array], theirs: dict[str, mx.array]) -> None:
    if ours.keys() != theirs.keys():
        raise SystemExit(f"{name}: tensors differ: {sorted(ours.keys() ^ theirs.keys())}")
    for tensor, array in theirs.items():
        if ours[tensor].dtype != array.dtype or not mx.array_equal(ours[tensor], array):
            raise SystemExit(f"{name}: {tensor} differs from mlx-lm's")


if __name__ == "__main__":
    mx.set_default_device(mx.cpu)
    {"make": make, "check": check}[sys.argv[1]](Path(sys.argv[2]))
