#!/bin/sh
# Runs Swift on bindings/swift against the library that `make build` staged.
# usage: swift.sh test|lint
#
# Without `swift` on the PATH it brings Debian 13's into a folder of its own: $MLXRT_SWIFT_ROOT, else
# target/swift-root (3.1 GB, a minute or two). That takes Linux, root and debootstrap.
set -eu
cd "$(dirname "$0")/.."
repo=$(pwd)
mkdir -p "${CARGO_TARGET_DIR:-target}"
target=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)
root=${MLXRT_SWIFT_ROOT:-$target/swift-root}

fail() {
    echo "swift.sh: $*" >&2
    exit 1
}

# What runs where Swift is: swift_in REPO TARGET COMMAND prints a command line for sh.
swift_in() {
    case $3 in
    test)
        echo "cd '$1/bindings/swift' && PKG_CONFIG_PATH='$2/stage/lib/pkgconfig' exec swift test" \
            "--scratch-path '$2/swift-build' -Xswiftc -warnings-as-errors" \
            "-Xlinker -rpath -Xlinker '$2/stage/lib'"
        ;;
    lint) echo "cd '$1/bindings/swift' && exec swift format lint --strict --recursive Package.swift Sources Tests Examples" ;;
    esac
}

# Swift does not see that the header of a system library has changed: what it compiled with the old one is
# thrown away.
forget_old_header() {
    now=$(cksum "$target/stage/include/mlxrt.h" 2>/dev/null) || return 0
    [ "$now" = "$(cat "$target/swift-build/header" 2>/dev/null)" ] || rm -rf "$target/swift-build"
    mkdir -p "$target/swift-build"
    echo "$now" >"$target/swift-build/header"
}

# Mounts made here are this process's own and go with it, however it ends.
in_own_mounts() {
    unshare --mount --propagation private sh -euc "$@"
}

fetch_root() {
    [ "$(uname -s)" = Linux ] || fail "no swift on the PATH: install Swift 6 or newer"
    missing=""
    [ "$(id -u)" = 0 ] || missing="$missing root;"
    command -v debootstrap >/dev/null || missing="$missing debootstrap;"
    command -v unshare >/dev/null || missing="$missing unshare (of util-linux);"
    [ -z "$missing" ] || fail "no swift on the PATH, and to bring one in this is missing:${missing%;}"
    [ ! -x "$root/usr/libexec/swift/bin/swift" ] || return 0 # /usr/bin/swift is a link inside the root
    # Nothing of the user's is deleted should the variable name the wrong folder.
    [ ! -e "$root" ] || rmdir "$root" 2>/dev/null || fail "$root is no Swift root and not empty"

    echo "bringing Debian 13's Swift into $root" >&2
    mkdir -p "$(dirname "$root")"
    rm -rf --one-file-system "$root.part"
    log=$root.log
    # shellcheck disable=SC2016 # the inner shell's variable
    {
        in_own_mounts 'exec debootstrap --variant=minbase \
            --include=swiftlang,libc6-dev,libstdc++-14-dev trixie "$1"' sh "$root.part" &&
            touch "$root.part/complete"
    } 2>&1 | tee "$log" | awk '
        /^I: (Retrieving|Extracting|Configuring) / && ++n[$2] % 40 == 0 { print "  " $2 ": " n[$2] " packages"; fflush() }
        /^[EW]: / { print; fflush() }' >&2
    if [ ! -e "$root.part/complete" ]; then
        tail -n 5 "$log" >&2
        fail "debootstrap failed, see $log"
    fi
    rm "$log"
    mv "$root.part" "$root"
}

[ $# = 1 ] || fail "usage: swift.sh test|lint"
case $1 in
test)
    [ -e "$target/stage/lib/pkgconfig/mlxrt.pc" ] || fail "no library in $target/stage: run \`make build\` first"
    forget_old_header
    ;;
lint) ;;
*) fail "usage: swift.sh test|lint" ;;
esac

if command -v swift >/dev/null; then
    exec sh -c "$(swift_in "$repo" "$target" "$1")"
fi

fetch_root
mkdir -p "$root/src" "$root/target"
# shellcheck disable=SC2016 # the inner shell's variables
exec unshare --mount --propagation private sh -euc '
    mount -t proc proc "$1/proc"
    mount --rbind /dev "$1/dev"
    mount --bind "$2" "$1/src"
    mount --bind "$3" "$1/target"
    exec chroot "$1" /usr/bin/env -i HOME=/root PATH=/usr/bin:/bin LANG=C.UTF-8 sh -c "$4"
' sh "$root" "$repo" "$target" "$(swift_in /src /target "$1")"
