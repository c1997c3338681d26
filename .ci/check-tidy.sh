#!/bin/bash
# What clang-tidy says by .clang-tidy: check-tidy.sh [FILE...]; without files of all code, but for tests/bench/main.cpp,
# where it takes how Google Benchmark registers for a leak. Run it before a release: it takes too long for .ci/run.
set -euo pipefail
cd "$(dirname "$0")/.."
.ci/install lint

# A file that is not in the folder by itself, but in one of the sources that unity builds make, has the command of its
# neighbours.
build=build/tidy
.ci/clang-folder "$build" clang++

if [ $# = 0 ]; then
  mapfile -t files < <(sed -n 's/^ *"file": "\(.*\)",\{0,1\}$/\1/p' "$build/compile_commands.json" |
    grep -vE '/cmake_pch\.|/generated/|/tests/bench/main\.cpp$' | sort)
  set -- "${files[@]}" samples/*.cpp
fi
# Of what it counts in system headers nobody wants to know.
failed=0
printf '%s\0' "$@" |
  xargs -0 -n 1 -P "$(nproc)" sh -c 'clang-tidy -p "$1" --quiet "$2" 2>&1' tidy "$build" |
  grep -vE '^[0-9]+ warnings? generated\.$' || failed=${PIPESTATUS[1]}
exit "$failed"
