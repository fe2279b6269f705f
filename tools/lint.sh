#!/bin/sh
# Checks formatting and warnings in all languages, and that the header is up to date. Goes on after a
# failure; a tool that is not there is a named skip.
set -u
cd "$(dirname "$0")/.." || exit 1
failures=0
skipped=0

check() { # check NAME COMMAND...
    name=$1
    shift
    if "$@"; then
        echo "ok      $name"
    else
        echo "FAILED  $name"
        failures=$((failures + 1))
    fi
}
skip() { # skip NAME WHY
    echo "skipped: $1: $2"
    skipped=$((skipped + 1))
}
has() { command -v "$1" >/dev/null 2>&1; }

features=""
[ "${CUDA:-}" != 1 ] || features="--features cuda"
[ "${HUB:-}" != 1 ] || features="$features --features hub"

clippy() {
    # shellcheck disable=SC2086
    cargo clippy --release --locked --workspace --all-targets $features -- -D warnings
}
clippy_hub() {
    # shellcheck disable=SC2086
    cargo clippy --release --locked --lib --test hub $features --features hub -- -D warnings
}
rustdoc() { # of everything: it is read by those who work on the library
    # shellcheck disable=SC2086
    RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --no-deps --document-private-items $features
}
header() {
    cargo test --release --locked --quiet --test header
}
c_format() {
    clang-format --dry-run --Werror examples/*.c tests/c/*.[ch] tests/c/*.cpp
}
shell_scripts() {
    shellcheck tools/*.sh tests/*.sh .ci/run
}
go_format() {
    unformatted=$(gofmt -l bindings/go)
    [ -z "$unformatted" ] || { echo "not formatted: $unformatted"; return 1; }
}
go_vet() {
    stage=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)/stage
    PKG_CONFIG_PATH=$stage/lib/pkgconfig GOTOOLCHAIN=${GOTOOLCHAIN:-auto} \
        CGO_CPPFLAGS="-DMLXRT_BUILD_KEY=$(echo "$stage" | cksum | cut -d' ' -f1)" sh -c 'cd bindings/go && go vet ./...'
}
trailing_space() {
    ! git grep -nI '[[:space:]]$' -- ':!demo/model' ':!*.supp'
}

if cargo fmt --version >/dev/null 2>&1; then
    check "cargo fmt" cargo fmt --all --check
else
    skip "cargo fmt" "rustup component add rustfmt"
fi
if cargo clippy --version >/dev/null 2>&1; then
    check "cargo clippy" clippy
    check "cargo clippy, with downloads" clippy_hub
else
    skip "cargo clippy" "rustup component add clippy"
fi
check "cargo doc" rustdoc
check "include/mlxrt.h is what \`make header\` writes" header
if has clang-format; then check "clang-format" c_format; else skip clang-format "not installed"; fi
if has shellcheck; then check "shellcheck" shell_scripts; else skip shellcheck "not installed"; fi
if folder=$(sh tools/go.sh); then
    PATH=$folder:$PATH
    check "gofmt" go_format
    if has pkg-config; then check "go vet" go_vet; else skip "go vet" "no pkg-config"; fi
else
    skip "gofmt, go vet" "no Go 1.21 or newer"
fi
if has swift || [ "${SWIFT:-}" = 1 ] || [ -d "${CARGO_TARGET_DIR:-target}/swift-root" ]; then
    check "swift format" sh tools/swift.sh lint
else
    skip "swift format" "no Swift here; \`make lint SWIFT=1\` fetches one"
fi
check "no space at the end of a line" trailing_space

echo "lint: $failures failed, $skipped skipped"
[ "$failures" = 0 ]
