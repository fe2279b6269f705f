#!/bin/sh
# Installs what a fresh Debian or Ubuntu lacks, or names all of it in one message.
# usage: setup.sh GROUP...     groups: build, test, lint, swift, aarch64
# Without what `build` needs it fails. What the other groups lack costs their tests, which name it.
set -u
here=$(cd "$(dirname "$0")" && pwd)

required="" # Debian packages, and the same for people
wanted=""
names="" # a line each

need() { # need LIST PACKAGES NAME: notes that NAME is missing
    case $1 in required) required="$required $2" ;; *) wanted="$wanted $2" ;; esac
    names="$names  $3
"
}
has() { command -v "$1" >/dev/null 2>&1; }

linux() { [ "$(uname -s)" = Linux ]; }

needs_of_build() {
    has c++ || has g++ || need required g++ "a C++20 compiler: g++ 12 or newer"
    has make || need required make "make"
    if linux; then
        python3 -m pip --version >/dev/null 2>&1 ||
            need required "python3 python3-pip" "python3 with pip, which fetches MLX"
        has nm || need required binutils "nm"
    else
        has cmake || need required cmake "cmake, which builds MLX on macOS"
    fi
}
needs_of_tests() {
    has ctest || need wanted cmake "cmake with ctest, for the C tests"
    needs_of_go
    python3 -c 'import venv, ensurepip' >/dev/null 2>&1 ||
        need wanted python3-venv "Python's venv, for the comparison with mlx-lm"
    if linux; then
        has readelf || need wanted binutils "readelf, for the packaging tests"
        # Debian's valgrind cannot start a program without libc6-dbg.
        valgrind -q true >/dev/null 2>&1 || need wanted "valgrind libc6-dbg" "valgrind, for the C tests"
    fi
}
needs_of_go() {
    has pkg-config || need wanted pkg-config "pkg-config, for Go and the packaging tests"
}
needs_of_lint() {
    needs_of_go
    has clang-format || need wanted clang-format "clang-format"
    has shellcheck || need wanted shellcheck "shellcheck"
}
needs_of_swift() {
    has swift || has debootstrap || need wanted debootstrap "debootstrap, which brings a Swift toolchain"
}
needs_of_aarch64() {
    has qemu-aarch64 || need wanted qemu-user "qemu-aarch64, which runs the kernels' tests"
    has aarch64-linux-gnu-g++ ||
        need wanted "g++-aarch64-linux-gnu libc6-dev-arm64-cross" "a C++ compiler for aarch64"
}

for group; do
    case $group in
    build) needs_of_build ;;
    test) needs_of_build; needs_of_tests ;;
    lint) needs_of_lint ;;
    swift) needs_of_swift ;;
    aarch64) needs_of_build; needs_of_aarch64 ;;
    *) echo "setup.sh: unknown group '$group' (build, test, lint, swift or aarch64)" >&2; exit 2 ;;
    esac
done

# No package: Debian's and Ubuntu's Rust is too old.
rust=yes
has cargo || rust=no

# shellcheck disable=SC2086 # a list of words
packages=$(printf '%s\n' $required $wanted | sort -u | tr '\n' ' ')
install() {
    root=""
    [ "$(id -u)" = 0 ] || root="sudo -n"
    has apt-get || return 1
    [ -z "$root" ] || sudo -n true 2>/dev/null || return 1
    echo "installing $packages"
    # shellcheck disable=SC2086 # lists of words
    $root apt-get update -qq &&
        $root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $packages
}
if [ -n "$required$wanted" ] && install >&2; then
    required=""
    wanted=""
    names=""
fi
if [ -n "$required$wanted" ] || [ $rust = no ]; then
    {
        [ $rust = yes ] || names="$names  Rust 1.89 or newer (cargo is not on the PATH), which rustup installs
"
        echo "setup.sh: missing here:"
        printf %s "$names" | awk '!said[$0]++'
        if [ -n "$required$wanted" ]; then
            manager="sudo apt-get install"
            ! has brew || manager="brew install"
            echo "install it with: $manager $packages"
        fi
    } >&2
    if [ -n "$required" ] || [ $rust = no ]; then
        exit 1
    fi
fi

case " $* " in
*" test "* | *" lint "*) sh "$here/go.sh" >/dev/null || echo "setup.sh: no Go, so its tests are skipped" >&2 ;;
esac
case " $* " in
*" aarch64 "*)
    rustup target add aarch64-unknown-linux-gnu >/dev/null 2>&1 ||
        echo "setup.sh: no Rust for aarch64 (rustup target add aarch64-unknown-linux-gnu), so its tests are skipped" >&2
    ;;
esac
