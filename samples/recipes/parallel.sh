#!/bin/bash
# A container for every dump of a folder with GNU parallel: parallel.sh IN_DIR OUT_DIR [PRESET]
# One job a processor, each with one thread. A container that is newer than its dump and than the preset's name, which
# OUT_DIR/.preset holds, is not made again, so a run that was stopped goes on where it was; failed jobs are tried again.
# (Parallel's own job log goes by the numbers of jobs, which are others' as soon as a dump is added.)
# Exit status: 0 when all are done, else how many are not.
set -euo pipefail
in=$1
out=$2
preset=${3:-kvzip-near}

mkdir -p "$out"
[ "$(cat "$out/.preset" 2>/dev/null)" = "$preset" ] || echo "$preset" >"$out/.preset"
find -L "$in" -maxdepth 1 -name '*.safetensors' -printf '%P\0' | sort -z |
  while IFS= read -r -d '' name; do
    kvz=$out/${name%.*}.kvz
    if [ ! -f "$kvz" ] || [ "$in/$name" -nt "$kvz" ] || [ "$out/.preset" -nt "$kvz" ]; then
      printf '%s\0' "$in/$name"
    fi
  done |
  parallel -0 --will-cite kvzip compress -q -f -j 1 --preset "$preset" {} -o "$out"/{/.}.kvz
