#!/bin/sh
# Installs what `cargo build --release` made, with MLX and its libraries, into a folder that can be moved.
# usage: install.sh PREFIX     DESTDIR goes before PREFIX; CUDA=1, MLX_ROOT and STATIC=1 as in the Makefile
#
#   lib/libmlxrt.so -> libmlxrt.so.0 -> libmlxrt.so.0.1.0, which looks for MLX in lib/mlxrt/mlx/lib
#   lib/mlxrt/      MLX as its wheel lays it out: mlx/lib/libmlx.so finds ../../mlx_*.libs
#   include/mlxrt.h, lib/pkgconfig/mlxrt.pc, lib/cmake/mlxrt/, share/licenses/mlxrt/
set -eu
[ $# = 1 ] || { echo "usage: install.sh PREFIX" >&2; exit 2; }
# A relative DESTDIR or PREFIX is the caller's, so it is resolved before the folder changes.
case ${DESTDIR:-} in "" | /*) dest=${DESTDIR:-} ;; *) dest=$PWD/$DESTDIR ;; esac
case $1 in /*) prefix=$dest$1 ;; *) prefix=$dest$PWD/$1 ;; esac
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
built=$target/release
lib=$prefix/lib

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
major=${version%%.*}
minor=${version#*.}
minor=${minor%%.*}

file() { # file FROM TO [MODE]: a new file each time, so that programs that run on the old one go on
    mkdir -p "$(dirname "$2")"
    cp "$1" "$2.new"
    chmod "${3:-644}" "$2.new"
    mv "$2.new" "$2"
}
folder() { # folder FROM TO
    mkdir -p "$2"
    rm -rf "$2"
    cp -RL "$1" "$2"
    find "$2" -type d -exec chmod 755 {} +
    find "$2" -type f -exec chmod 644 {} +
}
fill() { # fill TEMPLATE TO: puts values in place of @NAME@
    mkdir -p "$(dirname "$2")"
    sed -e "s|@VERSION@|$version|g" -e "s|@MAJOR@|$major|g" -e "s|@MINOR@|$minor|g" \
        -e "s|@LIBRARY@|$library|g" -e "s|@SONAME@|$soname|g" \
        -e "s|@LINK_FLAGS@|$link_flags|g" -e "s|@LINK_OPTIONS@|$link_flags|g" \
        -e 's|"[ ]*-Wl|"-Wl|' "$1" >"$2"
    chmod 644 "$2"
}
not_built() {
    echo "install.sh: $1 does not exist: run \`make\` first" >&2
    exit 1
}

link_flags=""
if [ "$(uname -s)" = Darwin ]; then
    # Not run yet on a Mac. MLX is inside the library there, its compiled Metal kernels lie beside it.
    [ -e "$built/libmlxrt.dylib" ] || not_built "$built/libmlxrt.dylib"
    library=libmlxrt.$major.dylib
    soname=@rpath/$library
    file "$built/libmlxrt.dylib" "$lib/$library" 755
    install_name_tool -id "$soname" "$lib/$library"
    ln -sf "$library" "$lib/libmlxrt.dylib"
    metallib=$(find "$built/build" -name mlx.metallib -print | head -n 1)
    [ -z "$metallib" ] || file "$metallib" "$lib/mlx.metallib"
else
    [ -e "$built/libmlxrt.so" ] || not_built "$built/libmlxrt.so"
    library=libmlxrt.so.$version
    soname=libmlxrt.so.$major
    file "$built/libmlxrt.so" "$lib/$library" 755
    ln -sf "$library" "$lib/$soname"
    ln -sf "$soname" "$lib/libmlxrt.so"

    variant=cpu
    if [ "${CUDA:-}" = 1 ]; then
        variant=cuda
        # MLX's CUDA build needs the driver, which the machine that links may lack.
        link_flags=" -Wl,--allow-shlib-undefined"
    fi
    mlx=${MLX_ROOT:-$target/mlx/$variant/mlx}
    [ -e "$mlx/lib/libmlx.so" ] || not_built "$mlx/lib/libmlx.so"
    rm -rf "$lib/mlxrt"
    folder "$mlx/lib" "$lib/mlxrt/mlx/lib"
    for libs in "$mlx"/../mlx_*.libs; do
        [ ! -d "$libs" ] || folder "$libs" "$lib/mlxrt/$(basename "$libs")"
    done
    # The licences that the wheels carry: MLX's, OpenBLAS's, libgfortran's.
    for info in "$mlx"/../*.dist-info; do
        [ ! -d "$info/licenses" ] ||
            folder "$info/licenses" "$prefix/share/licenses/mlxrt/$(basename "$info" .dist-info)"
    done
fi

if [ "${STATIC:-}" = 1 ]; then # a program then links -lmlx -lstdc++ too: pkg-config --static says how
    file "$built/libmlxrt.a" "$lib/libmlxrt.a"
fi
file include/mlxrt.h "$prefix/include/mlxrt.h"
for licence in LICENSE* THIRD_PARTY.md; do
    [ ! -e "$licence" ] || file "$licence" "$prefix/share/licenses/mlxrt/$licence"
done
fill cmake/mlxrt.pc.in "$lib/pkgconfig/mlxrt.pc"
fill cmake/mlxrtConfig.cmake.in "$lib/cmake/mlxrt/mlxrtConfig.cmake"
fill cmake/mlxrtConfigVersion.cmake.in "$lib/cmake/mlxrt/mlxrtConfigVersion.cmake"
echo "installed mlxrt $version into $prefix" >&2
