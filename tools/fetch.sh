#!/bin/sh
# Fetches what build.rs would, so that its progress is seen: Cargo hides what a build script prints.
# usage: fetch.sh cpu|cuda TARGET_FOLDER
set -eu
variant=$1
target=$2
here=$(dirname "$0")
[ "$(uname -s)" = Linux ] || exit 0
[ -n "${MLX_ROOT:-}" ] || sh "$here/fetch-mlx.sh" "$variant" "$target/mlx/$variant"
# The same question as in build.rs: is there a libclang for bindgen?
if [ -z "${LIBCLANG_PATH:-}" ] && ! clang --version >/dev/null 2>&1; then
    sh "$here/fetch-mlx.sh" libclang "$target/mlx/libclang"
fi
