"""mlxrt on a CPU beside llama.cpp and mlx-lm: one table for all models.

compare_cpu.py OUT_DIR LLAMA_PYTHON COMMAND..., which runs the compiled batch.rs, with kernels.rs beside it;
LLAMA_PYTHON has llama-cpp-python. run.sh starts it and lists its variables.
"""

import json
import os
import platform
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
from compare import HERE, Figure, Result, make_table, noise, number, run_all  # noqa: E402

QUICK = os.environ.get("BENCH_QUICK") == "1"
ROUNDS = 1 if QUICK else int(os.environ.get("BENCH_ROUNDS", "5"))
THREADS = os.environ.get("BENCH_THREADS", "2")
SHAPES = os.environ.get("BENCH_SHAPE", "llama-3.2-1b qwen2.5-0.5b gemma-3-1b gpt-oss-small").split()
BITS = [int(bits) for bits in os.environ.get("BENCH_BITS", "4 8 16").split()]
MLX_LM = os.environ.get("BENCH_MLX_LM", "1") != "0"

# llama.cpp's format that takes as many bits, the scales included.
FORMATS = {4: "Q4_0", 8: "Q8_0", 16: "BF16"}
# Prompt, generated tokens and requests.
WORK = {
    "prefill": [128 if QUICK else 512, 1, 1],
    "decode": [16, 17 if QUICK else 65, 1],
    "together": [64, 16 if QUICK else 64, 8],
}
# mlx-lm computes less than a token in two seconds: once, and few.
MLX_LM_ROUNDS, MLX_LM_PROMPT, MLX_LM_GENERATED = 1, 8, 3
OURS, THEIRS, MLX = "mlxrt", "llama.cpp", "mlx-lm as stored"
# Layers of these formats, and tokens, whose gradients are computed.
GRADIENTS, GRADIENT_TOKENS = ["4", "8", "bfloat16", "float32"], "32" if QUICK else "256"


@dataclass(frozen=True)
class Model:
    """One shape in one precision, as both engines store it."""

    shape: str
    bits: int
    folder: Path
    file: Path

    def __str__(self) -> str:
        return f"{self.shape}, {self.bits} bits and {FORMATS[self.bits]}"


def script(name: str, *words: str) -> list[str]:
    return [sys.executable, str(HERE / name), *words]


def make(out: Path, shape: str, bits: int) -> Model:
    folders = {each: out / f"{shape}-shape-{each}bit" for each in (bits, 16)}
    file = out / f"{shape}-shape-{FORMATS[bits]}.gguf"
    for each, folder in folders.items():
        subprocess.run(script("make_model.py", shape, str(folder), str(each)), check=True)
    subprocess.run(script("make_gguf.py", str(folders[16]), FORMATS[bits], str(file)), check=True)
    return Model(shape, bits, folders[bits], file)


def measure(model: Model, batch: list[str], llama_python: str) -> dict[str, list[Result]]:
    """What each engine did, each result with the model and the work it is of."""
    found: dict[str, list[Result]] = {OURS: [], THEIRS: [], MLX: []}

    def add(work: str, commands: dict[str, list[str]], rounds: int) -> None:
        for name, results in run_all(commands, rounds).items():
            found[name] += [{**result, "model": model, "work": work} for result in results]

    for work, sizes in WORK.items():
        task = ["throughput", *map(str, sizes)]
        theirs = [llama_python, str(HERE / "llama_cpp_bench.py"), str(model.file), THREADS]
        ours = [*batch, "--threads", THREADS, str(model.folder)]
        add(work, {OURS: [*ours, *task], THEIRS: [*theirs, *task]}, ROUNDS)
    if MLX_LM and model.bits == 4:
        task = ["stored", "throughput", str(MLX_LM_PROMPT), str(MLX_LM_GENERATED), "1"]
        add("mlx-lm", {MLX: script("mlx_lm_batch.py", str(model.folder), *task)}, MLX_LM_ROUNDS)
    return found


def figure(model: Model, work: str, kind: str, result: Result) -> float | None:
    """A figure of this model's; None where the result is of another or of other work."""
    if result["model"] != model or result["work"] not in (work, "mlx-lm"):
        return None
    run = result["runs"][0]
    match kind:
        case "prefill":
            return run["prompt"] / run["first"]
        case "gigabytes":
            # A token reads some of the experts.
            known = "weight_bytes" in result and "gpt-oss" not in model.shape
            return run["decode"] * result["weight_bytes"] / 1e9 if known else None
        case "ready":
            return result.get("ready")
        case "peak":
            return result["peak_bytes"] / result["weight_bytes"] if "peak_bytes" in result else None
        case _:
            return run[kind] if run["concurrent"] == WORK[work][2] else None


def rows(models: list[Model]) -> list[tuple[str, Figure]]:
    kinds = [
        (f"prefill of {WORK['prefill'][0]} tokens, tokens/s", "prefill", "prefill"),
        ("decode, tokens/s", "decode", "decode"),
        ("decode, GB/s of weights", "decode", "gigabytes"),
        (f"{WORK['together'][2]} together, generated tokens/s", "together", "total"),
        (f"{WORK['together'][2]} together, decode alone", "together", "decode"),
        ("first token after the call that loads, s", "decode", "ready"),
        ("peak resident memory, of the weights'", "decode", "peak"),
    ]
    return [(f"{m}: {title}", partial(figure, m, work, kind)) for m in models for title, work, kind in kinds]


def probe(batch: list[str]) -> float:
    """GB/s that as many threads read."""
    *run, program = batch
    command = [*run, str(Path(program).with_name("kernels")), "3", "--threads", THREADS, "--only", "reading"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found = re.search(r"reading: ([\d.]+) GB/s", done.stdout)
    if not found:
        raise SystemExit(f"kernels.rs printed no speed of reading: {done.stdout}")
    return float(found[1])


def gradients(batch: list[str]) -> str:
    """A table of what fine-tuning computes in linear layers, beside MLX as its wheel comes."""
    *run, program = batch
    table = [
        f"Value and gradients of a loss through four layers of Llama 3.2 1B's, {GRADIENT_TOKENS} tokens, adapters of "
        f"rank 8: seconds, the median of {ROUNDS} and one of MLX's.",
        "",
        "| layers | mlxrt | MLX | |",
        "| --- | --- | --- | --- |",
    ]
    for form in GRADIENTS:
        ours = [*run, str(Path(program).with_name("gradients")), form, GRADIENT_TOKENS]
        commands = [[*ours, str(ROUNDS), "--threads", THREADS], script("gradients.py", form, GRADIENT_TOKENS)]
        outputs = [subprocess.run(each, stdout=subprocess.PIPE, text=True, check=True).stdout for each in commands]
        our, their = (json.loads(output.splitlines()[-1]) for output in outputs)
        if abs(our["loss"] / their["loss"] - 1) > 1e-2:
            raise SystemExit(f"gradients of {form}: {our['loss']} is not MLX's loss {their['loss']}")
        our, their = (statistics.median(each["seconds"]) for each in (our, their))
        name = f"{form} bits" if form.isdigit() else form
        table.append(f"| {name} | {number(our)} | {number(their)} | {number(their / our)} times |")
    return "\n".join(table)


def explain(reading: list[float], load: float) -> str:
    low, middle, high = (number(f(reading)) for f in (min, statistics.median, max))
    text = (
        f"Random weights, {platform.system()} {platform.machine()}, {THREADS} threads; 4 and 8 bits in groups of 64. "
        f"Medians of {ROUNDS} round(s), turn about, and their range. Prefill of {WORK['prefill'][0]} tokens; decode "
        f"of {WORK['decode'][1] - 1} behind {WORK['decode'][0]}; requests together have {WORK['together'][0]} and "
        f"generate {WORK['together'][1]}. {THREADS} threads that sum a GiB read {middle} GB/s ({low} to {high})."
    )
    if MLX_LM:
        text += (
            f" mlx-lm in bfloat16, with threads of its own, {MLX_LM_ROUNDS} round: prefill of {MLX_LM_PROMPT} tokens, "
            f"{MLX_LM_GENERATED - 1} decoded."
        )
    return text + noise(load)


def main() -> None:
    out, llama_python, batch = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    load = os.getloadavg()[0]
    models = [make(out, shape, bits) for shape in SHAPES for bits in BITS]
    reading = []
    results: dict[str, list[Result]] = {}
    for model in models:
        print(model, file=sys.stderr, flush=True)
        reading.append(probe(batch))
        for name, found in measure(model, batch, llama_python).items():
            results[name] = results.get(name, []) + found
    results = {name: found for name, found in results.items() if found}
    text = f"{explain(reading, load)}\n\n{make_table(results, rows(models))}\n"
    if MLX_LM:
        text += f"\n{gradients(batch)}\n"
    Path(os.environ.get("BENCH_FILE", out / "cpu.md")).write_text(text)
    print(text)


if __name__ == "__main__":
    main()
