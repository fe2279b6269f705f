"""Writes model folders with random weights and what mlx-lm computes from them.

    reference.py OUT_DIR [--device cpu|gpu] [--only PART_OF_A_NAME]

OUT_DIR/cases.json lists the cases; each has a folder OUT_DIR/NAME with

    model/                  the model as mlx-lm saves it
    reference.safetensors   the numbers, logits as float32, ids as int32:
        prompt       [L]      the ids fed
        prefill      [L, V]   logits of every position, the prompt fed at once
        chunked      [L, V]   the same, the prompt fed in chunks of 7
        decode_ids   [N]      greedy tokens: decode_ids[0] is the most likely one after the prompt
        decode       [N, V]   decode[i]: logits after the prompt and decode_ids[0..=i], one by one
        greedy64     [64]     greedy tokens; decode_ids is their beginning
    and, where mlx-lm computes in the model's own 16-bit type, f32_prefill, f32_chunked and f32_decode
    (fed the same decode_ids) and f32_greedy64 (its own greedy tokens): the same stored weights computed
    in float32. So mlx-lm's own error in that type is known, to measure another one's by.
"""

import argparse
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx_lm.utils as mlx_lm
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.models.switch_layers import SwitchLinear

import mlx_shim  # noqa: F401
from case import Case, rewrite
from cases import CASES
from weights import write_model

PROMPT_LENGTH = 41
CHUNK = 7
DECODE_STEPS = 24
GREEDY_STEPS = 64
# A seed is taken if the float32 run never hesitates between two tokens and says several.
MIN_MARGIN = 2e-3
MIN_DISTINCT = 20
SEEDS = range(1, 30)


@dataclass
class Run:
    """What one model says to one prompt."""

    prefill: mx.array
    chunked: mx.array
    decode: mx.array
    greedy: list[int]
    margin: float  # the smallest distance between the two highest logits


def feed(model: nn.Module, ids: list[int], cache: list) -> mx.array:
    """Logits of every position of `ids`, in float32."""
    logits = model(mx.array([ids]), cache=cache)[0].astype(mx.float32)
    mx.eval(logits)
    return logits


def run(model: nn.Module, prompt: list[int], forced: list[int] | None = None) -> Run:
    """Feeds the prompt in both ways, then decodes. `forced`: the ids that `decode` is to be fed."""
    chunk_cache = make_prompt_cache(model)
    starts = range(0, len(prompt), CHUNK)
    chunked = mx.concatenate([feed(model, prompt[s : s + CHUNK], chunk_cache) for s in starts])

    cache = make_prompt_cache(model)
    prefill = feed(model, prompt, cache)
    greedy, decode, margin = decode_greedily(model, prefill[-1], cache)
    if forced is not None and forced != greedy[:DECODE_STEPS]:
        cache = make_prompt_cache(model)
        feed(model, prompt, cache)
        decode = mx.concatenate([feed(model, [token], cache) for token in forced])
    return Run(prefill, chunked, decode, greedy, margin)


def decode_greedily(
    model: nn.Module, logits: mx.array, cache: list, steps: int = GREEDY_STEPS
) -> tuple[list[int], mx.array, float]:
    greedy: list[int] = []
    rows: list[mx.array] = []
    margin = float("inf")
    while True:
        first, second = (-mx.sort(-logits))[:2].tolist()
        margin = min(margin, first - second)
        greedy.append(int(mx.argmax(logits).item()))
        if len(greedy) == steps:
            return greedy, mx.stack(rows[:DECODE_STEPS]), margin
        logits = feed(model, greedy[-1:], cache)[0]
        rows.append(logits)


def load(folder: Path, dtype: mx.Dtype | None = None) -> nn.Module:
    """mlx-lm's own loader; `dtype` converts everything but packed weights."""
    model, _ = mlx_lm.load_model(folder)
    if dtype is not None:
        model.set_dtype(dtype)
    return model


def computes_natively(model: nn.Module) -> bool:
    """False: MLX's CPU backend multiplies by dense experts in float32 only."""
    on_cpu = mx.default_device() == mx.Device(mx.cpu)
    return not (on_cpu and any(isinstance(layer, SwitchLinear) for layer in model.modules()))


def make_prompt(case: Case, seed: int) -> list[int]:
    key = mx.random.key(1000 + seed)
    ids = mx.random.randint(0, case.config["vocab_size"], [PROMPT_LENGTH], key=key)
    return ids.tolist()


def make_case(case: Case, folder: Path) -> dict:
    """Writes the folder of one case and returns its entry for cases.json."""
    model_folder = folder / "model"
    for seed in SEEDS:
        write_model(case, seed, model_folder)
        prompt = make_prompt(case, seed)
        exact = run(load(model_folder, mx.float32), prompt)
        if exact.margin >= MIN_MARGIN and len(set(exact.greedy)) >= MIN_DISTINCT:
            break
    else:
        raise SystemExit(f"{case.name}: no seed gives clear logits")

    native = exact
    if case.dtype != "float32" and computes_natively(stored := load(model_folder)):
        native = run(stored, prompt)
        # The float32 run again, now fed the tokens that the native run chose.
        exact = run(load(model_folder, mx.float32), prompt, native.greedy[:DECODE_STEPS])
    save_reference(folder / "reference.safetensors", prompt, native, exact)
    rewrite(model_folder / "config.json", case.says)
    return describe(case, model_folder, seed, native, exact)


def save_reference(path: Path, prompt: list[int], native: Run, exact: Run) -> None:
    arrays = {
        "prompt": mx.array(prompt, mx.int32),
        "prefill": native.prefill,
        "chunked": native.chunked,
        "decode_ids": mx.array(native.greedy[:DECODE_STEPS], mx.int32),
        "decode": native.decode,
        "greedy64": mx.array(native.greedy, mx.int32),
    }
    if exact is not native:
        arrays |= {
            "f32_prefill": exact.prefill,
            "f32_chunked": exact.chunked,
            "f32_decode": exact.decode,
            "f32_greedy64": mx.array(exact.greedy, mx.int32),
        }
    mx.save_safetensors(str(path), arrays)


def describe(case: Case, model_folder: Path, seed: int, native: Run, exact: Run) -> dict:
    pairs = [
        (native.prefill, exact.prefill),
        (native.chunked, exact.chunked),
        (native.decode, exact.decode),
    ]
    error = max(mx.abs(ours - theirs).max().item() for ours, theirs in pairs)
    return {
        "name": case.name,
        "architecture": case.config["model_type"],
        "dtype": case.dtype,
        "bits": case.bits,
        "group": case.group,
        "files": len(list(model_folder.glob("*.safetensors"))),
        "bytes": sum(f.stat().st_size for f in model_folder.glob("*.safetensors")),
        # float32: compare with the arrays. own_error: mlx-lm's distance from f32_* is the limit.
        "tolerance": "float32" if exact is native else "own_error",
        "own_error": error,
        "logit_std": mx.std(exact.prefill).item(),
        "margin": native.margin,
        "f32_margin": exact.margin,
        "distinct": len(set(native.greedy)),
        "seed": seed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Reference numbers computed by mlx-lm.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    options = parser.parse_args()
    mx.set_default_device(mx.Device(getattr(mx, options.device)))

    entries = []
    for case in CASES:
        if options.only not in case.name:
            continue
        start = time.monotonic()
        folder = options.out / case.name
        shutil.rmtree(folder, ignore_errors=True)
        entry = make_case(case, folder)
        entries.append(entry)
        print(
            f"{case.name}: {entry['bytes'] / 1024:.0f} KiB in {entry['files']} file(s), "
            f"seed {entry['seed']}, margin {entry['f32_margin']:.4f}, "
            f"own error {entry['own_error']:.2g}, {time.monotonic() - start:.1f} s",
            flush=True,
        )
    (options.out / "cases.json").write_text(json.dumps(entries, indent=2) + "\n")


if __name__ == "__main__":
    main()
