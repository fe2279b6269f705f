"""Measures mlx-lm's BatchGenerator. batch.rs does the same with mlxrt, with the same ids; prints one JSON object.

mlx_lm_batch.py MODEL DTYPE throughput PROMPT GENERATED CONCURRENT...
mlx_lm_batch.py MODEL DTYPE sampled PROMPT GENERATED CONCURRENT...
mlx_lm_batch.py MODEL DTYPE latency STREAMS PROMPT

DTYPE: "stored" for the type of the checkpoint, or a type that everything but packed weights is converted to.
"""

import json
import math
import sys
import time
from collections import defaultdict
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.generate import BatchGenerator
from mlx_lm.sample_utils import make_sampler
from mlx_lm.utils import load

sys.path.append(str(Path(__file__).resolve().parent))
from many import Times, prompt, rates  # noqa: E402

# Tokens of each stream before the long prompt joins.
ALONE = 24


def step(generator: BatchGenerator, times: Times) -> None:
    """One step: notes when each sequence's token came."""
    _, responses = generator.next()
    now = time.perf_counter()
    for response in responses:
        times[response.uid].append(now)


def throughput(model: nn.Module, vocab: int, length: int, generated: int, count: int, sampler=None) -> dict:
    """`count` requests at once: generated tokens per second, as batch.rs counts them."""
    generator = BatchGenerator(model, completion_batch_size=32, sampler=sampler)
    times: Times = defaultdict(list)
    start = time.perf_counter()
    generator.insert([prompt(length, n, vocab) for n in range(count)], [generated] * count)
    while sum(map(len, times.values())) < count * generated:
        step(generator, times)
    mx.synchronize(generator.stream)
    generator.close()
    return rates(start, times, length, generated)


def percentiles(gaps: list[float]) -> dict:
    gaps = sorted(gaps)
    at = lambda part: gaps[max(math.ceil(len(gaps) * part), 1) - 1]  # noqa: E731
    return {"p50": at(0.5), "p99": at(0.99), "longest": gaps[-1], "count": len(gaps)}


def latency(model: nn.Module, vocab: int, count: int, length: int) -> dict:
    """Milliseconds between tokens of `count` streams before and while a prompt of `length` joins."""
    generator = BatchGenerator(model, completion_batch_size=32)
    times: Times = defaultdict(list)
    uids = generator.insert([prompt(16, n, vocab) for n in range(count)], [1 << 30] * count)
    while any(len(times[uid]) < ALONE for uid in uids):
        step(generator, times)
    joined = time.perf_counter()
    (late,) = generator.insert([prompt(length, count, vocab)], [1])
    while not times[late]:
        step(generator, times)
    first = times[late][0]
    step(generator, times)
    mx.synchronize(generator.stream)
    generator.close()
    before, during = [], []
    for uid in uids:
        for a, b in zip(times[uid], times[uid][1:]):
            if b <= joined:
                before.append(1e3 * (b - a))
            elif a < first:
                during.append(1e3 * (b - a))
    return {
        "streams": count,
        "prompt": length,
        "first": first - joined,
        "before": percentiles(before),
        "during": percentiles(during),
    }


def main() -> None:
    folder, dtype, what = sys.argv[1:4]
    numbers = [int(argument) for argument in sys.argv[4:]]
    model, _, config = load(folder, return_config=True)
    if dtype == "stored":
        dtype = config["torch_dtype"]
    else:
        model.set_dtype(getattr(mx, dtype))
    mx.eval(model.parameters())
    vocab = config["vocab_size"]

    throughput(model, vocab, 2, 2, 1)  # warm up
    # On a GPU each new shape compiles kernels.
    repeats = 2 if mx.default_device().type == mx.gpu else 1
    runs = []
    if what in ("throughput", "sampled"):
        length, generated, *counts = numbers
        sampler = make_sampler(0.8, top_p=0.95) if what == "sampled" else None
        for count in counts:
            run = lambda: throughput(model, vocab, length, generated, count, sampler)  # noqa: B023, E731
            runs.append([run() for _ in range(repeats)][-1])
    else:
        runs.append([latency(model, vocab, *numbers) for _ in range(repeats)][-1])
    device = "gpu" if mx.default_device().type == mx.gpu else "cpu"
    print(json.dumps({"engine": "mlx-lm", "device": device, "dtype": dtype, "runs": runs}))


if __name__ == "__main__":
    main()
