#!/bin/bash
# A container for every dump of a folder with GNU parallel: parallel.sh IN_DIR OUT_DIR [PRESET]
# One job a processor, each with one thread. What OUT_DIR/.joblog says is done is not done again, so a run that was
# stopped goes on where it was; failed jobs are tried again. Exit status: 0 when all are done, else how many are not.
set -euo pipefail
in=$1
out=$2
preset=${3:-kvzip-near}

mkdir -p "$out"
find -L "$in" -maxdepth 1 -name '*.safetensors' -print0 | sort -z |
  parallel -0 --will-cite --joblog "$out/.joblog" --resume-failed \
    kvzip compress -q -f -j 1 --preset "$preset" {} -o "$out"/{/.}.kvz
