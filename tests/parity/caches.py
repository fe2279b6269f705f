"""What mlx-lm computes with caches that rotate and that are quantised.

    caches.py OUT_DIR

OUT_DIR/cases.json lists the cases; each has a folder OUT_DIR/NAME with

    model/                  a small model with random weights
    reference.safetensors   `ids` [L] and logits [L, V] of each, as float32:
        plain               nothing rotated or quantised: the prompt at once, then greedily, one by one
        rotating            the prompt at once, then one by one
        chunked             in chunks of 7, nothing kept
        quantised8, 4       the prompt at once, then one by one (models without windows only)
"""

import argparse
import json
import shutil
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import KVCache, QuantizedKVCache, RotatingKVCache, make_prompt_cache

import mlx_shim  # noqa: F401
from case import Case
from families.gemma import GEMMA3_TEXT
from families.lfm2 import LFM2_WIDE
from families.llama import LLAMA_WIDE
from families.phi3 import PHI3_WIDE
from families.qwen import QWEN3
from families.qwen3_5 import SPECIAL, WIDE, wrapped
from reference import CHUNK, feed, load
from weights import write_model

CASES = [
    Case("llama", LLAMA_WIDE),
    Case("qwen3", QWEN3),
    Case("gemma3", GEMMA3_TEXT, gemma=True),
    Case("phi3", PHI3_WIDE),
    Case("lfm2", LFM2_WIDE),
    Case("qwen3_5", wrapped(WIDE), special=SPECIAL),
]
PROMPT = 20
LENGTH = 90
LIMIT = 24
KEEP = 4
GROUP = 32


def greedy(model: nn.Module, prompt: list[int]) -> tuple[list[int], mx.array]:
    """All ids but the last one chosen, and their logits."""
    cache = make_prompt_cache(model)
    ids, rows = list(prompt), feed(model, prompt, cache)
    while len(ids) < LENGTH:
        ids.append(int(mx.argmax(rows[-1]).item()))
        rows = mx.concatenate([rows, feed(model, ids[-1:], cache)])
    return ids, rows


def one_by_one(model: nn.Module, ids: list[int], cache: list) -> mx.array:
    rows = [feed(model, ids[:PROMPT], cache)]
    return mx.concatenate(rows + [feed(model, [token], cache) for token in ids[PROMPT:]])


def in_chunks(model: nn.Module, ids: list[int], cache: list) -> mx.array:
    starts = range(0, len(ids), CHUNK)
    return mx.concatenate([feed(model, ids[start : start + CHUNK], cache) for start in starts])


def caches(model: nn.Module, full: callable) -> list:
    """The model's own caches, with those of every position replaced."""
    return [full() if type(cache) is KVCache else cache for cache in make_prompt_cache(model)]


def make_case(case: Case, folder: Path) -> None:
    write_model(case, 1, folder / "model")
    model = load(folder / "model", mx.float32)
    prompt = mx.random.randint(0, case.config["vocab_size"], [PROMPT], key=mx.random.key(7)).tolist()
    ids, plain = greedy(model, prompt)
    arrays = {
        "ids": mx.array(ids, mx.int32),
        "plain": plain,
        "rotating": one_by_one(model, ids, caches(model, lambda: RotatingKVCache(LIMIT, KEEP))),
        "chunked": in_chunks(model, ids, caches(model, lambda: RotatingKVCache(LIMIT, 0))),
    }
    if all(type(cache) is KVCache for cache in make_prompt_cache(model)):
        for bits in (8, 4):
            quantised = caches(model, lambda: QuantizedKVCache(GROUP, bits))
            arrays[f"quantised{bits}"] = one_by_one(model, ids, quantised)
    mx.save_safetensors(str(folder / "reference.safetensors"), arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description="mlx-lm's caches.")
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    mx.set_default_device(mx.cpu)
    for case in CASES:
        shutil.rmtree(out / case.name, ignore_errors=True)
        make_case(case, out / case.name)
    settings = {"prompt": PROMPT, "chunk": CHUNK, "limit": LIMIT, "keep": KEEP, "group": GROUP}
    entries = {"cases": [case.name for case in CASES]} | settings
    (out / "cases.json").write_text(json.dumps(entries, indent=2) + "\n")


if __name__ == "__main__":
    main()
