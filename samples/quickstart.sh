#!/bin/bash
# The main job on a real dump: compress with GEAR, decode, compare with the original. quickstart.sh [KVZIP [OUT_DIR]]
# Without KVZIP it installs what is missing (.ci/packages) and builds the tool first.
set -euo pipefail
samples=$(cd "$(dirname "$0")" && pwd)
kvzip=${1:-}
out=${2:-$samples/../build/quickstart}
if [ -z "$kvzip" ]; then
  "$samples/../.ci/build" release kvzip
  kvzip=$samples/../build/release/kvzip
fi
mkdir -p "$out"
ln -sf "$(realpath "$kvzip")" "$samples"/smollm2.safetensors "$samples"/smollm2.h5 "$out"
cd "$out"
PATH=$PWD:$PATH

# show COMMAND: says it, then does it.
show() {
  printf '\n$ %s\n' "$1"
  eval "$1"
}
show "kvzip compress -f smollm2.safetensors -o smollm2.kvz --preset gear-2"
show "kvzip decompress -f smollm2.kvz -o smollm2-decoded.safetensors"
show "kvzip compare smollm2.safetensors smollm2-decoded.safetensors"

# The same from HDF5 to HDF5, and nothing may be lost.
show "kvzip compress -f smollm2.h5 -o smollm2-exact.kvz --preset lossless"
show "kvzip decompress -f smollm2-exact.kvz -o smollm2-exact.h5"
show "kvzip compare smollm2.h5 smollm2-exact.h5 --max-abs 0 | tail -n 1"

printf '\nThe files are in %s\n' "$(realpath --relative-base="$OLDPWD" .)"
