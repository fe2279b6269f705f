#!/bin/sh
# Runs the fuzz targets one after the other: fuzz.sh [SECONDS [TARGET...]]     60 seconds each; all of them
# What they found lies in target/fuzz/TARGET; inputs that broke something in target/fuzz/TARGET-broken-*.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -eq 0 ] || shift
targets=${*:-$(sed -n 's/^name = "fuzz-\(.*\)"/\1/p' fuzz/Cargo.toml)}
target=${CARGO_TARGET_DIR:-target}
work=$target/fuzz
mkdir -p "$work"

RUSTC_WORKSPACE_WRAPPER=$(pwd)/tools/fuzz-rustc.sh cargo build --release --locked -p mlxrt-fuzz

# Cargo would tell its own test programs where MLX lies.
LD_LIBRARY_PATH=${MLX_ROOT:-$(pwd)/$target/mlx/cpu/mlx}/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH

# Of this run alone: another one may go on beside it.
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

seed() { # seed TARGET FOLDER: sound files to begin with
    case $1 in
    config) cp demo/model/config.json "$2" ;;
    # The header and some of the data: enough to be broken in any way.
    safetensors) head -c 16384 demo/model/model.safetensors >"$2/demo" ;;
    tokenizer) cp demo/model/tokenizer.json "$2" ;;
    template) cp fuzz/seeds/template/* "$2" ;;
    *) ;;
    esac
    [ ! -d "fuzz/seeds/$1" ] || cp "fuzz/seeds/$1"/* "$2"
}

failed=0
passed=0
for name in $targets; do
    mkdir -p "$work/$name"
    seed "$name" "$work/$name"
    echo "=== fuzz $name, $seconds s"
    if "$target/release/fuzz-$name" -max_total_time="$seconds" -timeout=30 -rss_limit_mb=4096 -max_len=65536 \
        -seed=1 -print_final_stats=1 -artifact_prefix="$work/$name-broken-" "$work/$name" \
        >"$work/$name.log" 2>&1; then
        passed=$((passed + 1))
        sed -n 's/^stat::number_of_executed_units: */executed /p; s/^stat::average_exec_per_sec: */per second /p' \
            "$work/$name.log"
    else
        failed=$((failed + 1))
        tail -40 "$work/$name.log"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
