#!/bin/sh
# What users get: exported names, the way MLX is found, and that an installed folder can be moved anywhere
# and still serves pkg-config and CMake. Prints a line for each test and a count.
set -u
cd "$(dirname "$0")/.." || exit 1
target=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
model=$PWD/demo/model
passed=0
failed=0

check() { # check NAME FUNCTION
    if output=$("$2" 2>&1); then
        passed=$((passed + 1))
        echo "ok      $1"
    else
        failed=$((failed + 1))
        echo "FAILED  $1"
        echo "$output" | sed 's/^/        /'
    fi
}
skip() { # skip NAME WHY
    echo "skipped: $1: $2"
}
has() { command -v "$1" >/dev/null 2>&1; }
expect() { # expect TEXT PATTERN
    echo "$1" | grep -q -- "$2" || { echo "no '$2' in:"; echo "$1"; return 1; }
}

if [ "$(uname -s)" != Linux ]; then
    skip package "written for ELF libraries"
    exit 0
fi
library=$target/release/libmlxrt.so

only_our_names() {
    others=$(nm -D --defined-only "$library" | awk '{ print $NF }' | grep -v '^mlxrt_')
    [ -z "$others" ] || { echo "exported too:"; echo "$others" | head -n 20; return 1; }
}
every_name_of_the_header() {
    nm -D --defined-only "$library" | awk '{ print $NF }' | sort >"$work/exported"
    sed -n 's/^\(mlxrt_status\|void\|const char \*\|uint32_t\) *\**\(mlxrt_[a-z_0-9]*\)(.*/\2/p' \
        include/mlxrt.h | sort >"$work/declared"
    [ "$(wc -l <"$work/declared")" -gt 20 ] || { echo "no functions found in the header"; return 1; }
    diff "$work/declared" "$work/exported"
}
dynamic_section() {
    section=$(readelf -d "$library")
    # shellcheck disable=SC2016 # the loader's variable, not the shell's
    expect "$section" 'SONAME.*\[libmlxrt\.so\.[0-9]*\]' &&
        expect "$section" 'RUNPATH.*\[$ORIGIN/mlxrt/mlx/lib\]' &&
        expect "$section" 'NEEDED.*\[libmlx\.so\]' || return 1
    absolute=$(echo "$section" | grep '\[.*/' | grep -v ORIGIN/mlxrt/mlx/lib)
    [ -z "$absolute" ] || { echo "a path of this machine:"; echo "$absolute"; return 1; }
}
no_executable_stack() {
    ! readelf -lW "$library" | grep -q 'GNU_STACK.*RWE'
}

# Installed in one place, used in another; the name with a space finds forgotten quotes.
install_and_move() {
    DESTDIR='' sh tools/install.sh "$work/first place" && mv "$work/first place" "$work/second place"
}
nothing_points_back() {
    ! grep -rIl "first place\|$PWD" "$work/second place/lib/pkgconfig" "$work/second place/lib/cmake" &&
        [ -z "$(find "$work/second place" -lname '/*')" ]
}
layout() {
    (
        cd "$work/second place" &&
            [ "$(readlink lib/libmlxrt.so)" = libmlxrt.so.0 ] &&
            [ -e lib/libmlxrt.so.0 ] && [ -e lib/mlxrt/mlx/lib/libmlx.so ] &&
            [ -e include/mlxrt.h ] && [ -n "$(find share/licenses/mlxrt -type f)" ]
    ) || { find "$work/second place" | sort; return 1; }
}
says_paris() { # says_paris PROGRAM: without any help from the environment
    answer=$(env -u LD_LIBRARY_PATH "$1" "$model" "What is the capital of France?") && expect "$answer" Paris
}
by_pkg_config() {
    export PKG_CONFIG_PATH="$work/second place/lib/pkgconfig"
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
    expect "$(pkg-config --modversion mlxrt)" "^$version\$" || return 1
    # eval, since pkg-config escapes the space.
    (eval "set -- $(pkg-config --cflags --libs mlxrt)" &&
        cc -std=c11 -Wall -Werror examples/hello.c -o "$work/hello" "$@" \
            -Wl,-rpath,"$work/second place/lib") &&
        says_paris "$work/hello"
}
readme_program() { # as it stands there: it loads demo/model of the current folder
    awk '/^```c$/ { on = 1; next } /^```$/ { if (on) exit } on' README.md >"$work/readme.c" || return 1
    place="$work/second place"
    cc -std=c11 -Wall -Wextra -Werror "$work/readme.c" -o "$work/readme" -I"$place/include" \
        -L"$place/lib" -lmlxrt -Wl,-rpath,"$place/lib" && says_paris "$work/readme"
}
by_cmake() {
    cmake -S examples -B "$work/build" -DCMAKE_PREFIX_PATH="$work/second place" &&
        cmake --build "$work/build" && says_paris "$work/build/hello"
}
cmake_refuses_another_version() {
    mkdir -p "$work/newer" && cat >"$work/newer/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.16)
project(newer C)
find_package(mlxrt 7.0 REQUIRED)
END
    ! output=$(cmake -S "$work/newer" -B "$work/newer/build" -DCMAKE_PREFIX_PATH="$work/second place" 2>&1) &&
        expect "$output" 'version: 0\.'
}
destdir() {
    DESTDIR="$work/dest" sh tools/install.sh /opt/mlxrt && [ -e "$work/dest/opt/mlxrt/lib/libmlxrt.so" ] &&
        ! grep -rI "$work" "$work/dest/opt/mlxrt/lib/pkgconfig" "$work/dest/opt/mlxrt/lib/cmake"
}
static_library() {
    STATIC=1 DESTDIR='' sh tools/install.sh "$work/static" || return 1
    lib=$work/static/lib
    cc -std=c11 examples/hello.c -o "$work/hello_static" -I"$work/static/include" "$lib/libmlxrt.a" \
        -L"$lib/mlxrt/mlx/lib" -lmlx -lstdc++ -lm -lpthread -ldl -Wl,-rpath,"$lib/mlxrt/mlx/lib" &&
        says_paris "$work/hello_static"
}

if has readelf && has nm; then
    check "only mlxrt_ names are exported" only_our_names
    check "every function of the header is exported" every_name_of_the_header
    check "SONAME, RUNPATH and no path of this machine" dynamic_section
    check "the stack is not executable" no_executable_stack
else
    skip "exported names and the dynamic section" "no readelf and nm (binutils)"
fi
check "the installed folder can be moved" install_and_move
check "the layout" layout
check "no file or link in it names where it was" nothing_points_back
if has pkg-config; then
    check "a program by pkg-config" by_pkg_config
else
    skip "a program by pkg-config" "no pkg-config"
fi
if has cmake; then
    check "a program by CMake" by_cmake
    check "CMake refuses a version that is not there" cmake_refuses_another_version
else
    skip "a program by CMake" "no cmake"
fi
check "the README's C program" readme_program
check "DESTDIR" destdir
check "the static library" static_library

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
