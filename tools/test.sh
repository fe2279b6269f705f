#!/bin/sh
# Runs every test there is, goes on after a failing suite, and ends with what was skipped and a count.
# usage: test.sh [SUITE]...      suites: rust c valgrind go swift package hub; none: all of these
#                                aarch64 and sanitize: the kernels under qemu, and under AddressSanitizer
#
# A suite says `skipped: NAME: WHY` for what it leaves out. Its counts are read from the closing lines of
# Cargo, ctest, Go and Swift, or from a line `N passed, N failed`. A suite that ends badly without having
# counted a failure, or that ran nothing and skipped nothing, is a failure.
set -u
cd "$(dirname "$0")/.." || exit 1
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target/test"
target=$(cd "$target" && pwd)
logs=$target/test
stage=$target/stage
features=""
[ "${CUDA:-}" != 1 ] || features="--features cuda"
[ "${HUB:-}" != 1 ] || features="$features --features hub"
suites=${*:-rust c valgrind go swift package hub}
passed=0
failed=0
# Of this run alone: another one may go on beside it.
notes=$(mktemp -d)
trap 'rm -rf "$notes"' EXIT
: >"$notes/skipped"
: >"$notes/failed"

# Nothing may hang for ever; ctest and Go have limits of their own for each test.
limit=""
! command -v timeout >/dev/null || limit="timeout --kill-after=30 2400"
processors=$(getconf _NPROCESSORS_ONLN || echo 2)

skip() { # skip NAME WHY
    echo "skipped: $1: $2"
}

run_rust() {
    # shellcheck disable=SC2086 # several words or none
    $limit cargo test --release --locked --no-fail-fast $features -- --show-output
}

configure_c() {
    {
        cmake -S tests/c -B "$target/ctest" -DCMAKE_PREFIX_PATH="$stage" \
            -DMLXRT_TEST_MODEL="${MLXRT_TEST_MODEL:-$(pwd)/demo/model}" &&
            cmake --build "$target/ctest" --parallel "$processors"
    } >"$logs/cmake" 2>&1 && return
    cat "$logs/cmake"
    return 1
}
ctest_and_skips() { # ctest ARGUMENTS, then the skipped lines that it hides
    ctest --test-dir "$target/ctest" --output-on-failure "$@"
    status=$?
    sed -n '/^skipped: /p' "$target/ctest/Testing/Temporary/LastTest.log"
    return $status
}
run_c() {
    command -v ctest >/dev/null || { skip c "no cmake"; return 0; }
    configure_c && ctest_and_skips -LE valgrind
}
run_valgrind() {
    command -v ctest >/dev/null || { skip valgrind "no cmake"; return 0; }
    valgrind -q true >/dev/null 2>&1 || { skip valgrind "no valgrind"; return 0; }
    configure_c && ctest_and_skips -L valgrind --parallel "$processors"
}

run_go() {
    command -v pkg-config >/dev/null || { skip go "no pkg-config"; return 0; }
    folder=$(sh tools/go.sh) || { skip go "no Go 1.21 or newer"; return 0; }
    (
        PATH=$folder:$PATH
        export GOTOOLCHAIN="${GOTOOLCHAIN:-auto}"
        export PKG_CONFIG_PATH="$stage/lib/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}"
        # Go's build cache knows neither what pkg-config says nor the header: both must change its key.
        key=$({ echo "$stage"; cat "$stage/include/mlxrt.h"; } | cksum | cut -d' ' -f1)
        export CGO_CPPFLAGS="-DMLXRT_BUILD_KEY=$key"
        # As a user's program finds a library that lies in no folder of the system's.
        export LD_LIBRARY_PATH="$stage/lib" DYLD_LIBRARY_PATH="$stage/lib"
        cd bindings/go && go test -race -v -timeout 15m ./...
    )
}

run_swift() {
    if [ "${SWIFT:-}" != 1 ] && ! command -v swift >/dev/null; then
        skip swift "no Swift here; \`make test SWIFT=1\` fetches one"
        return 0
    fi
    # shellcheck disable=SC2086
    $limit sh tools/swift.sh test
}

run_package() {
    # shellcheck disable=SC2086
    $limit sh tests/package.sh
}

# Last: it compiles the library once more, with downloads.
run_hub() {
    # shellcheck disable=SC2086
    $limit cargo test --release --locked $features --features hub --test hub -- --show-output
}

# Not among all suites: it compiles everything for another processor.
run_aarch64() {
    triple=aarch64-unknown-linux-gnu
    root=/usr/aarch64-linux-gnu
    [ "$(uname -sm)" != "Linux aarch64" ] || { skip aarch64 "this is one: suite rust"; return 0; }
    for program in qemu-aarch64 aarch64-linux-gnu-g++; do
        command -v $program >/dev/null && continue
        skip aarch64 "no $program; \`sh tools/setup.sh aarch64\` installs it"
        return 0
    done
    [ -d "$(rustc --print target-libdir --target $triple)" ] ||
        { skip aarch64 "no Rust for it; \`rustup target add $triple\` installs it"; return 0; }
    (
        # That one is of this machine.
        unset MLX_ROOT
        export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
        # OpenBLAS multiplies wrongly with the SVE of some versions of qemu; pointer authentication is slow.
        export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -cpu max,sve=off,pauth=off -L $root"
        export BINDGEN_EXTRA_CLANG_ARGS_aarch64_unknown_linux_gnu="-I$root/include"
        $limit cargo test --release --locked --target $triple --lib kernels -- --show-output
    )
}

run_sanitize() {
    [ "$(uname -s)" = Linux ] || { skip sanitize "the kernels are Linux's"; return 0; }
    # What MLX and its threads keep until the end isn't lost.
    # shellcheck disable=SC2086 # several words or none
    ASAN_OPTIONS=detect_leaks=0 RUSTC_WORKSPACE_WRAPPER=$(pwd)/tools/asan-rustc.sh \
        $limit cargo test --release --locked $features --lib kernels -- --show-output
}

count() { # count LOG: prints "PASSED FAILED" from the closing lines
    awk '
        /^test result: / { # Cargo
            for (i = 1; i < NF; i++) {
                if ($(i + 1) ~ /^passed;?$/) p += $i
                if ($(i + 1) ~ /^failed;?$/) f += $i
            }
        }
        /^[0-9]+% tests passed, [0-9]+ tests failed out of [0-9]+/ { f += $4; p += $NF - $4 } # ctest
        /^--- PASS: / { p++ } # Go, top-level tests
        /^--- FAIL: / { f++ }
        /^.*Test run with [0-9]+ tests? .*(passed|failed) after/ { # Swift Testing
            for (i = 1; i < NF; i++) if ($i == "with") { run = $(i + 1); break }
            swift += run
        }
        /^.*Test [^ ].* failed after [0-9.]+ seconds/ && !/Test run with/ { sf++ }
        /^[ \t]*Executed [0-9]+ tests?, with / { xn = $2; for (i = 1; i < NF; i++) if ($(i + 1) ~ /^failure/) xf = $i }
        /^([A-Za-z]+: )?[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$/ { # a plain count
            for (i = 1; i < NF; i++) {
                if ($(i + 1) ~ /^passed/) p += $i
                if ($(i + 1) ~ /^failed/) f += $i
            }
        }
        END { print p + (swift - sf) + (xn - xf), f + sf + xf }
    ' "$1"
}

skips() { # skips LOG: every skipped line, and what Cargo and Go say in their own way
    awk '
        /^[ \t]*([A-Za-z0-9_.]+:[0-9]+: )?skipped: / { sub(/^.*skipped: /, "skipped: "); print; said = 1; next }
        /^test .* \.\.\. ignored/ {
            why = $0
            if (sub(/^.*ignored, /, "", why) == 0) why = "ignored"
            print "skipped: " $2 ": " why
        }
        /^--- SKIP: / {
            if (!said) { sub(/^[ \t]*[^ ]+:[0-9]+: /, "", last); print "skipped: " $3 ": " last }
            said = 0
        }
        /^=== RUN/ { said = 0 }
        { last = $0 }
    ' "$1" | sort -u
}

suite() {
    log=$logs/$1.log
    printf '\n=== %s\n' "$1"
    { "run_$1" 2>&1; echo $? >"$notes/status"; } | tee "$log"
    status=$(cat "$notes/status")
    skips "$log" >"$notes/skips"
    cat "$notes/skips" >>"$notes/skipped"
    # shellcheck disable=SC2046 # two numbers
    set -- "$1" $(count "$log")
    if [ "$status" != 0 ] && [ "$3" = 0 ]; then
        set -- "$1" "$2" 1
    elif [ "$2" = 0 ] && [ "$3" = 0 ] && [ ! -s "$notes/skips" ]; then
        echo "$1 ran no test"
        set -- "$1" 0 1
    fi
    passed=$((passed + $2))
    failed=$((failed + $3))
    [ "$3" = 0 ] || echo "failed: $1: $3, see $log" >>"$notes/failed"
}

printf '=== build\n'
# shellcheck disable=SC2086
if cargo build --release --locked $features && DESTDIR='' sh tools/install.sh "$stage"; then
    for name in $suites; do
        suite "$name"
    done
else
    echo "failed: build: nothing was tested" >>"$notes/failed"
    failed=1
fi

printf '\n=== summary\n'
sort -u "$notes/skipped"
cat "$notes/failed"
echo "$passed passed, $failed failed, $(sort -u "$notes/skipped" | grep -c .) skipped"
[ "$failed" = 0 ]
