#!/bin/sh
# Writes THIRD_PARTY.md: what the library contains or links, and under which licences.
# usage: third-party.sh > THIRD_PARTY.md      needs cargo and python3
set -eu
cd "$(dirname "$0")/.."
cat <<'TEXT'
# What the packages carry

Made by `tools/third-party.sh`. mlxrt itself is MIT OR Apache-2.0.

## Beside the library

`make install` puts these into `lib/mlxrt` and their licence texts into `share/licenses/mlxrt` (Linux). On macOS crate
`mlx-sys` builds MLX into the library.

| what | version | licence |
| --- | --- | --- |
| MLX (PyPI `mlx-cpu` or `mlx-cuda-13`) | 0.32.2 | MIT |
| mlx-c (sources in crate `mlx-sys`) | 0.6.0 | MIT |
| OpenBLAS (PyPI `scipy-openblas32`) | 0.3.34 | BSD-3-Clause |
| LAPACK, reference (in MLX's package) | 3.10 | BSD-3-Clause |
| libgfortran, libquadmath (in MLX's package) | 5, 0 | GPL-3.0 with the GCC Runtime Library Exception, LGPL-2.1 |

libclang (PyPI, Apache-2.0 with LLVM exception) is used to build and is no part of what is installed. CUDA's own
libraries, where the CUDA build is used, are the user's and under NVIDIA's terms.

## Inside the library

| crate | version | licence |
| --- | --- | --- |
TEXT
crates() { # crates [--features NAMES]: a row each
    cargo tree --locked --edges normal --prefix none --target x86_64-unknown-linux-gnu --format '{p}|{l}' "$@" |
        awk '!seen[$0]++' | grep -v '^mlxrt ' | sed 's/ (\*)//; s/ (proc-macro)//' | LC_ALL=C sort -u |
        awk -F'|' '{ split($1, p, " "); sub("^v", "", p[2]); printf "| %s | %s | %s |\n", p[1], p[2], $2 }'
}
crates
cat <<'TEXT'

Built with `HUB=1` (Cargo feature `hub`, off otherwise) it also contains:

| crate | version | licence |
| --- | --- | --- |
TEXT
always=$(mktemp)
crates >"$always"
crates --features hub | grep -vxFf "$always"
rm "$always"
cat <<'TEXT'

## In the tests only

mlx-lm and its requirements (PyPI, `tests/parity/requirements.txt`) are installed into the target folder and not shipped.
The demo model, its text and its questions are the project's own.
TEXT
