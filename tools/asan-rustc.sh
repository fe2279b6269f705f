#!/bin/sh
# Cargo calls this in place of rustc for this project's own crates: it adds AddressSanitizer, which a stable compiler
# has too for those that ask for it so. What the crates depend on stays as it is, and compiled.
rustc=$1
shift
case " $* " in
*" --crate-name build_script_build "*) exec "$rustc" "$@" ;;
esac
RUSTC_BOOTSTRAP=1 exec "$rustc" "$@" -Zsanitizer=address
