#!/bin/sh
# Prints load time, speed and memory of mlxrt beside mlx-lm's, on the same random weights, in one
# run. Wants the library in target/stage (`make build`). Variables:
#   BENCH_ROUNDS=N  how often each is run (2); each round turns the order round
#   BENCH_ONLY=X    "one" caller or "many" (both)
#   BENCH_QUICK=1   many callers in a minute or two, to see that it works; its figures mean nothing
#   BENCH_SHAPE=S   the model of many callers, one of make_model.py's (smollm2-135m, on a GPU qwen2.5-0.5b)
#   BENCH_BF16=0    leaves out mlx-lm in bfloat16, which takes minutes on a CPU
#   BENCH_FILE=F    where to write the table besides the terminal (target/bench/table.md)
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
case $target in /*) ;; *) target=$root/$target ;; esac
venv=$target/tmp/venv # the parity tests use it too
out=$target/bench
mkdir -p "$out" "$target/tmp"

if [ ! -f "$target/stage/lib/pkgconfig/mlxrt.pc" ]; then
    echo "bench: $target/stage is empty, run \`make build\` first" >&2
    exit 1
fi
PKG_CONFIG_PATH=$target/stage/lib/pkgconfig
export PKG_CONFIG_PATH

sh "$root/tests/parity/venv.sh" "$venv" || {
    echo "bench: mlx-lm cannot be installed here, so there is nothing to compare with" >&2
    exit 1
}

PYTHONDONTWRITEBYTECODE=1
export PYTHONDONTWRITEBYTECODE
python=$venv/bin/python

if [ "${BENCH_ONLY:-one}" = one ]; then
    # shellcheck disable=SC2046 # several flags
    "${CC:-cc}" -std=c11 -O2 -Wall -Wextra -Werror "$root/bench/bench.c" -o "$out/bench" \
        $(pkg-config --cflags --libs mlxrt) "-Wl,-rpath,$(pkg-config --variable=libdir mlxrt)"
    "$python" "$root/bench/compare.py" "$out"
fi

if [ "${BENCH_ONLY:-many}" = many ]; then
    features=""
    [ "${CUDA:-}" != 1 ] || features="--features cuda"
    [ "${HUB:-}" != 1 ] || features="$features --features hub"
    # shellcheck disable=SC2086 # several words or none
    (cd "$root" && "${CARGO:-cargo}" build --release --locked --example batch $features)
    # Alone this program gets the installed MLX: Python has its own.
    "$python" "$root/bench/compare_batch.py" "$out" env "LD_LIBRARY_PATH=$target/stage/lib/mlxrt/mlx/lib" \
        "$target/release/examples/batch"
fi
