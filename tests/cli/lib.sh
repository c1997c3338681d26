#!/bin/bash
# Runs one command-line test: lib.sh SCRIPT KVZIP SOURCE_DIR. The script runs in an empty directory with `kvzip` on its path and these helpers.
set -euo pipefail
script=$1
root=$3
sample=$root/samples/smollm2.safetensors # 30 layers, 3 heads, 160 tokens, 64 channels, f16
PATH="$(cd "$(dirname "$2")" && pwd):$PATH"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# expect_status N COMMAND...: runs it, keeps its output in the files `stdout` and `stderr`, and checks the exit status.
expect_status() {
  local want=$1 got=0
  shift
  "$@" >stdout 2>stderr </dev/null || got=$?
  if [ "$got" != "$want" ]; then
    echo "exit status $got instead of $want: $*" >&2
    cat stderr >&2
    exit 1
  fi
}
# expect_in FILE TEXT: the file holds the text.
expect_in() {
  if ! grep -qF -- "$2" "$1"; then
    echo "$1 does not hold '$2':" >&2
    cat "$1" >&2
    exit 1
  fi
}
# Whether --memlimit holds: sanitizers need more addresses than any limit leaves, and without them there is this much.
limits_memory() { (ulimit -v 8000000 && kvzip --version >/dev/null 2>&1); }
source "$script"
