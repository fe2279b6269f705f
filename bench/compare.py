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


def cell(results: list[Result], figure: Callable[[Result], float | None]) -> float | None:
    values = [value for value in map(figure, results) if value is not None]
    return statistics.median(values) if values else None


def number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def make_table(results: dict[str, list[Result]]) -> str:
    names = list(results)
    ours, *others = names
    heads = [f"{name} ({results[name][0]['dtype']})" for name in names]
    lines = [["", *heads, *(f"mlxrt / {name}" for name in others)]]
    for title, figure in rows():
        values = {name: cell(results[name], figure) for name in names}
        ratios = [
            f"{values[ours] / values[name]:.2f}" if values[ours] and values[name] else "-"
            for name in others
        ]
        lines.append([title, *(number(values[name]) for name in names), *ratios])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths)) + " |" for line in lines]
    text.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(text)


def main() -> None:
    out = Path(sys.argv[1])
    rounds = int(os.environ.get("BENCH_ROUNDS", "2"))
    model = out / "qwen2.5-0.5b-shape-4bit"
    subprocess.run([sys.executable, str(HERE / "make_model.py"), str(model)], check=True)

    results = run_all(commands(out, model), rounds)
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    table = (
        f"Qwen2.5-0.5B shape, random weights, 4-bit in groups of 64; {platform.system()} "
        f"{platform.machine()}, {os.cpu_count()} CPUs; median of {rounds} round(s), "
        f"{DECODE} tokens decoded.\n\n{make_table(results)}\n"
    )
    Path(os.environ.get("BENCH_FILE", out / "table.md")).write_text(table)
    print(table)


if __name__ == "__main__":
    main()
