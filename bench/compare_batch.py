"""Many callers at once: runs batch.rs and mlx_lm_batch.py in turn and prints three tables.

compare_batch.py OUT_DIR COMMAND..., which runs the compiled batch.rs; run.sh starts it. It needs neither Cargo nor a
network, so it can be taken to a machine with a GPU. BENCH_QUICK=1: a glance, of no use as a figure.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

import mlx.core as mx

sys.path.append(str(Path(__file__).resolve().parent))
from compare import HERE, Figure, Result, make_table, noise, run_all  # noqa: E402

QUICK = os.environ.get("BENCH_QUICK") == "1"
GPU = mx.default_device().type == mx.gpu
ROUNDS = 1 if QUICK else int(os.environ.get("BENCH_ROUNDS", "2"))
SHAPE = os.environ.get("BENCH_SHAPE", "qwen2.5-0.5b" if GPU else "smollm2-135m")

CONCURRENT = [1, 8] if QUICK else [1, 2, 4, 8, 16, 32]
PROMPT, GENERATED = (16, 16) if QUICK else (64, 64)
SAMPLED = [8] if QUICK else [1, 8, 32]
COMMON, OWN = 256 if QUICK else 2000, 12
STREAMS, LONG = 8, 512 if QUICK else 4000
# On a CPU mlx-lm computes ten tokens a second in float32 whatever their number, and one in bfloat16.
SLOW_PROMPT, SLOW_GENERATED = 8, 8
SLOW_LONG = 64 if QUICK else 256
STORED_CONCURRENT = [1]


def throughput(
    batch: list[str], model: str, kind: str = "throughput", concurrent: list[int] = CONCURRENT
) -> dict[str, list[str]]:
    ours = [*batch, model, kind, *numbers(PROMPT, GENERATED, *concurrent)]
    theirs = [sys.executable, str(HERE / "mlx_lm_batch.py"), model]
    if GPU:
        stored = [*theirs, "stored", kind, *numbers(PROMPT, GENERATED, *concurrent)]
        return {"mlxrt": ours, "mlx-lm as stored": stored}
    slow = [kind, *numbers(SLOW_PROMPT, SLOW_GENERATED)]
    table = {"mlxrt": ours, "mlx-lm float32": [*theirs, "float32", *slow, *numbers(*concurrent)]}
    if kind != "throughput":
        return table
    if not QUICK and os.environ.get("BENCH_BF16", "1") != "0":
        table["mlx-lm as stored"] = [*theirs, "stored", *slow, *numbers(*STORED_CONCURRENT)]
    return table


def latency(batch: list[str], model: str) -> dict[str, list[str]]:
    theirs = [sys.executable, str(HERE / "mlx_lm_batch.py"), model]
    if GPU:
        other = {"mlx-lm as stored": [*theirs, "stored", "latency", *numbers(STREAMS, LONG)]}
    else:
        other = {"mlx-lm float32": [*theirs, "float32", "latency", *numbers(STREAMS, SLOW_LONG)]}
    return {"mlxrt": [*batch, model, "latency", *numbers(STREAMS, LONG)], **other}


def numbers(*values: int) -> list[str]:
    return [str(value) for value in values]


def speed(kind: str, count: int) -> Figure:
    """Reads one speed from a result; None where that number of requests was not run."""
    return lambda r: next((run[kind] for run in r["runs"] if run["concurrent"] == count), None)


def throughput_rows(concurrent: list[int] = CONCURRENT) -> list[tuple[str, Figure]]:
    total = [(f"{n} at once, generated tokens/s", speed("total", n)) for n in concurrent]
    return total + [(f"{n} at once, decode alone", speed("decode", n)) for n in concurrent]


def gap(when: str, kind: str) -> Figure:
    return lambda r: r["runs"][0][when][kind]


def latency_rows() -> list[tuple[str, Figure]]:
    return [
        ("alone, 50th percentile, ms", gap("before", "p50")),
        ("alone, 99th", gap("before", "p99")),
        ("while the prompt joins, 50th", gap("during", "p50")),
        ("while the prompt joins, 99th", gap("during", "p99")),
        ("while the prompt joins, longest", gap("during", "longest")),
        ("the prompt's own first token, s", lambda r: r["runs"][0]["first"]),
        ("prompt tokens", lambda r: float(r["runs"][0]["prompt"])),
    ]


def prefix_rows() -> list[tuple[str, Figure]]:
    figure = lambda key: lambda r: float(r["runs"][0][key])  # noqa: E731
    return [
        ("tokens prefilled of the second prompt", figure("prefilled")),
        ("part of the second prompt", figure("part")),
        ("first prompt, s", figure("first")),
        ("second prompt, s", figure("second")),
    ]


def least(kind: str) -> Figure:
    """The least of the rounds within one process: what disturbs only adds."""
    return lambda r: min(run[kind] for run in r["runs"])


def cost_rows() -> list[tuple[str, Figure]]:
    return [
        ("the engine's own, us", least("own")),
        ("MLX's evaluation, us", least("evaluation")),
        ("a token as its caller sees it, us", least("wall")),
    ]


def make(out: Path, shape: str) -> str:
    folder = str(out / f"{shape}-shape-4bit")
    subprocess.run([sys.executable, str(HERE / "make_model.py"), shape, folder], check=True)
    return folder


def explain(load: float) -> str:
    text = (
        f"{SHAPE}'s shape, random weights, 4-bit in groups of 64; {platform.system()} {platform.machine()}, "
        f"{'GPU' if GPU else f'{os.cpu_count()} CPUs'}. Medians of {ROUNDS} round(s) and their range. Prompts of "
        f"{PROMPT} tokens and {GENERATED} generated"
    )
    if not GPU:
        text += f"; {SLOW_PROMPT} and {SLOW_GENERATED} with mlx-lm, whose speed here does not depend on it"
    return text + "." + noise(load)


def main() -> None:
    out, batch = Path(sys.argv[1]), sys.argv[2:]
    load = os.getloadavg()[0]
    model, tiny = make(out, SHAPE), make(out, "tiny")
    tables: list[tuple[str, dict[str, list[Result]], list[tuple[str, Figure]]]] = [
        (explain(load), run_all(throughput(batch, model), ROUNDS), throughput_rows()),
        (
            "The same, tokens drawn at temperature 0.8 from the most likely ones that make up 95%: nearly all of them, "
            "with random weights.",
            run_all(throughput(batch, model, "sampled", SAMPLED), ROUNDS),
            throughput_rows(SAMPLED),
        ),
        (
            f"Between the tokens of {STREAMS} streams while a long prompt joins.",
            run_all(latency(batch, model), ROUNDS),
            latency_rows(),
        ),
        (
            f"A second prompt that begins with the same {COMMON} tokens, and has {OWN} of its own.",
            run_all({"mlxrt": [*batch, model, "prefix", *numbers(COMMON, OWN)]}, ROUNDS),
            prefix_rows(),
        ),
        (
            "A decoding step of one request on a model of 2 layers of width 64.",
            run_all({"mlxrt": [*batch, tiny, "cost", "200" if QUICK else "2000"]}, ROUNDS),
            cost_rows(),
        ),
    ]
    text = "\n\n".join(f"{title}\n\n{make_table(results, rows)}" for title, results, rows in tables)
    Path(os.environ.get("BENCH_BATCH_FILE", out / "batch.md")).write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
