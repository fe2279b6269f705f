"""Runs both engines in turn, each in a process of its own, and prints one table.

compare.py OUT_DIR, which holds the compiled bench.c; run.sh starts it.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROMPTS = [16, 128]
DECODE = 8
# mlx-lm in bfloat16 runs at a third of a token a second on a CPU.
SLOW_PROMPTS = [16]
SLOW_DECODE = 4
MIB = 1 << 20

Result = dict


def commands(out: Path, model: Path) -> dict[str, list[str]]:
    """What to run, by the name in the table; the first is ours."""
    mlx_lm = [sys.executable, str(HERE / "mlx_lm_bench.py"), str(model)]
    numbers = [str(n) for n in [DECODE, *PROMPTS]]
    table = {
        "mlxrt": [str(out / "bench"), str(model), *numbers],
        "mlx-lm float32": [*mlx_lm, "float32", *numbers],
    }
    if os.environ.get("BENCH_BF16", "1") != "0":
        slow = [str(n) for n in [SLOW_DECODE, *SLOW_PROMPTS]]
        table["mlx-lm as stored"] = [*mlx_lm, "stored", *slow]
    return table


def run_all(table: dict[str, list[str]], rounds: int) -> dict[str, list[Result]]:
    """Every command `rounds` times, the order turned round each time."""
    results: dict[str, list[Result]] = {name: [] for name in table}
    for number in range(rounds):
        order = list(table) if number % 2 == 0 else list(reversed(table))
        for name in order:
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
            done = subprocess.run(table[name], stdout=subprocess.PIPE, text=True, check=True)
            results[name].append(json.loads(done.stdout.splitlines()[-1]))
    return results


def rate(kind: str, prompt: int) -> Callable[[Result], float | None]:
    """Reads one speed from a result; None where that prompt was not run."""
    return lambda r: next((run[kind] for run in r["runs"] if run["prompt"] == prompt), None)


def rows() -> list[tuple[str, Callable[[Result], float | None]]]:
    """Of each row of the table: its title and its figure."""
    prefill = [(f"prefill of {n} tokens, tokens/s", rate("prefill", n)) for n in PROMPTS]
    decode = [(f"decode after {n} tokens, tokens/s", rate("decode", n)) for n in PROMPTS]
    return [
        ("load, s", lambda r: r["load_seconds"]),
        *prefill,
        *decode,
        ("MLX's peak memory, MiB", lambda r: r["mlx_peak"] / MIB),
        ("process's peak memory, MiB", lambda r: r["process_peak"] / MIB),
    ]


def values(results: list[Result], figure: Callable[[Result], float | None]) -> list[float]:
    return [value for value in map(figure, results) if value is not None]


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def cell(found: list[float]) -> str:
    """The median, and behind it how far the rounds lie apart."""
    if not found:
        return "-"
    low, middle, high = (number(f(found)) for f in (min, statistics.median, max))
    return middle if low == high else f"{middle} ({low} to {high})"


def ratio(ours: list[float], theirs: list[float]) -> str:
    if not ours or not theirs:
        return "-"
    return f"{statistics.median(ours) / statistics.median(theirs):.2f}"


Figure = Callable[[Result], float | None]


def make_table(results: dict[str, list[Result]], rows: list[tuple[str, Figure]]) -> str:
    """One line for each title and figure; the first engine is ours."""
    names = list(results)
    ours, *others = names
    heads = [f"{name} ({r[0]['dtype']})" if "dtype" in r[0] else name for name, r in results.items()]
    lines = [["", *heads, *(f"mlxrt / {name}" for name in others)]]
    for title, figure in rows:
        found = {name: values(results[name], figure) for name in names}
        ratios = [ratio(found[ours], found[name]) for name in others]
        lines.append([title, *(cell(found[name]) for name in names), *ratios])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths)) + " |" for line in lines]
    text.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(text)


def noise(load: float) -> str:
    """A warning where something else was running."""
    if load <= 0.5:
        return ""
    return (
        f"\nThe load average was {load:.1f} before the start: something else was running, "
        "so speeds are too low and ranges too wide to compare by."
    )


def explain(rounds: int, load: float) -> str:
    """What the table shows, and what to keep in mind when reading it."""
    text = (
        f"Qwen2.5-0.5B shape, random weights, 4-bit in groups of 64; {platform.system()} "
        f"{platform.machine()}, {os.cpu_count()} CPUs. Median of {rounds} round(s) and, in "
        f"brackets, their range; {DECODE} tokens decoded, {SLOW_DECODE} where mlx-lm computes in "
        "the stored type. mlx-lm runs on MLX as its wheel comes, mlxrt on MLX as it is installed "
        "with it. A process's memory includes its interpreter."
    )
    return text + noise(load)


def main() -> None:
    out = Path(sys.argv[1])
    rounds = int(os.environ.get("BENCH_ROUNDS", "2"))
    load = os.getloadavg()[0]
    model = out / "qwen2.5-0.5b-shape-4bit"
    subprocess.run([sys.executable, str(HERE / "make_model.py"), "qwen2.5-0.5b", str(model)], check=True)

    results = run_all(commands(out, model), rounds)
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    text = f"{explain(rounds, load)}\n\n{make_table(results, rows())}\n"
    Path(os.environ.get("BENCH_FILE", out / "table.md")).write_text(text)
    print(text)


if __name__ == "__main__":
    main()
