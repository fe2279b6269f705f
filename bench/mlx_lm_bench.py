"""Measures mlx-lm: mlx_lm_bench.py MODEL DTYPE DECODE PROMPT_LENGTH... prints one JSON object.

bench.c does the same with mlxrt. DTYPE: "stored" for the type of the checkpoint, or a type that
everything but packed weights is converted to after loading.
"""

import json
import resource
import sys
import time
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.generate import generate_step, generation_stream
from mlx_lm.utils import load


def process_peak() -> int:
    """The highest memory of this process in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def measure(model: nn.Module, length: int, decode: int, vocab: int) -> dict:
    """Feeds a prompt of `length` ids and generates `decode` tokens: the prompt is bench.c's."""
    prompt = mx.array([(i * 7919 + length * 131 + 17) % vocab for i in range(length)])
    mx.eval(prompt)
    start = time.perf_counter()
    times = [time.perf_counter() for _ in generate_step(prompt, model, max_tokens=decode)]
    # mlx-lm has begun one token more: it must not run into the next measurement.
    mx.synchronize(generation_stream)
    return {
        "prompt": length,
        "prefill": length / (times[0] - start),
        "decode": (len(times) - 1) / (times[-1] - times[0]),
    }


def main() -> None:
    folder, dtype = sys.argv[1:3]
    decode, *lengths = map(int, sys.argv[3:])
    start = time.perf_counter()
    model, _, config = load(folder, return_config=True)
    if dtype == "stored":
        dtype = config["torch_dtype"]
    else:
        model.set_dtype(getattr(mx, dtype))
    mx.eval(model.parameters())
    load_seconds = time.perf_counter() - start

    measure(model, 1, 2, config["vocab_size"])  # warm up
    runs = [measure(model, length, decode, config["vocab_size"]) for length in lengths]
    result = {
        "engine": "mlx-lm",
        "dtype": dtype,
        "load_seconds": load_seconds,
        "runs": runs,
        "mlx_peak": mx.get_peak_memory(),
        "process_peak": process_peak(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
