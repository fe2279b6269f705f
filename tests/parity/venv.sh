#!/bin/sh
# Makes a Python environment: venv.sh DEST [REQUIREMENTS NAME], that of the parity tests if nothing else is said.
# Exit code 3 and a line "skipped: NAME: WHY" where that cannot be done here.
set -eu

if [ $# -ne 1 ] && [ $# -ne 3 ]; then
    echo "usage: venv.sh DEST [REQUIREMENTS NAME]" >&2
    exit 2
fi
dest=$1
requirements=${2:-$(dirname "$0")/requirements.txt}
name=${3:-parity}
stamp=$dest/$name-requirements.txt
log=$dest.log

skip() {
    echo "skipped: $name: $1"
    exit 3
}

# Complete already, for these very requirements.
if cmp -s "$requirements" "$stamp"; then
    exit 0
fi

python=${PYTHON:-python3}
command -v "$python" >/dev/null 2>&1 || skip "$python is not installed"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || skip "$python is older than 3.10"
"$python" -c 'import ensurepip, venv' 2>/dev/null || skip "python3-venv is not installed"

mkdir -p "$(dirname "$dest")"
"$python" -m venv "$dest" >"$log" 2>&1 || skip "python3 -m venv failed, see $log"
"$dest/bin/python" -m pip install --quiet --disable-pip-version-check --retries 2 \
    -r "$requirements" >>"$log" 2>&1 || skip "pip could not install the requirements, see $log"
cp "$requirements" "$stamp"
