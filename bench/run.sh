#!/bin/sh
# Prints load time, speed and memory of mlxrt beside mlx-lm's, on the same random weights, in one
# run. Wants the library in target/stage (`make build`). Variables:
#   BENCH_ROUNDS=N  how often each is run (2); each round turns the order round
#   BENCH_ONLY=X    "one" caller or "many" (both), or "cpu": a CPU beside llama.cpp too, which the first run builds
#   BENCH_QUICK=1   many callers or a CPU in a minute or two, to see that it works; its figures mean nothing
#   BENCH_SHAPE=S   the model of many callers, one of make_model.py's (smollm2-135m, on a GPU qwen2.5-0.5b)
#   BENCH_BF16=0    leaves out mlx-lm in bfloat16, which takes minutes on a CPU
#   BENCH_FILE=F    where to write the table besides the terminal (target/bench/table.md)
# Of a CPU (`make bench-cpu`; all of it takes an hour and 25 GB of disk):
#   BENCH_ROUNDS=N  5 if nothing else is said
#   BENCH_SHAPE=S   the models ("llama-3.2-1b qwen2.5-0.5b gemma-3-1b gpt-oss-small")
#   BENCH_BITS=B    their precisions ("4 8 16")
#   BENCH_THREADS=N those of mlxrt and llama.cpp (2)
#   BENCH_MLX_LM=0  leaves out mlx-lm, which takes minutes, and the gradients beside MLX's
#   BENCH_FILE=F    target/bench/cpu.md
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

examples() { # examples NAME...: compiles them
    for name; do set -- "$@" --example "$name"; shift; done
    [ "${CUDA:-}" != 1 ] || set -- "$@" --features cuda
    [ "${HUB:-}" != 1 ] || set -- "$@" --features hub
    (cd "$root" && "${CARGO:-cargo}" build --release --locked "$@")
}
# Alone these get the installed MLX: Python has its own.
ours() { # ours COMMAND ARGUMENT...: what runs batch.rs
    "$@" env "LD_LIBRARY_PATH=$target/stage/lib/mlxrt/mlx/lib" "$target/release/examples/batch"
}

if [ "${BENCH_ONLY:-many}" = many ]; then
    examples batch
    ours "$python" "$root/bench/compare_batch.py" "$out"
fi

if [ "${BENCH_ONLY:-}" = cpu ]; then
    llama=$target/tmp/llama-cpp
    # For this very processor and no GPU: no wheel of another one or with other settings.
    CMAKE_ARGS="-DGGML_NATIVE=ON -DGGML_METAL=OFF" CXXFLAGS="-include $root/bench/tile_config.h" PIP_NO_CACHE_DIR=1 \
        sh "$root/tests/parity/venv.sh" "$llama" "$root/bench/llama_cpp.txt" llama.cpp || {
        echo "bench: llama.cpp cannot be built here, so there is nothing to compare with" >&2
        exit 1
    }
    examples batch kernels gradients
    ours "$python" "$root/bench/compare_cpu.py" "$out" "$llama/bin/python"
fi
