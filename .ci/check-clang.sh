#!/bin/bash
# Whether other clangs read every source of the build, tests included, without a warning: check-clang.sh CLANG++..., say clang++-19.
# Nothing is built. Run it before a release, with those from 15 to 19; .ci/run builds with 14.
set -euo pipefail
cd "$(dirname "$0")/.."
# std::stable_sort() of libstdc++ 12 calls what libstdc++ itself calls deprecated; clang says so from 18 on.
export CXXFLAGS=-Wno-deprecated-declarations
for cxx in "$@"; do
  build=build/$(basename "$cxx")
  .ci/clang-folder "$build" "$cxx" -DKVZIP_WERROR=ON
  mapfile -t commands < <(sed -n 's/^ *"command": "\(.*\)",$/\1/p' "$build/compile_commands.json" |
    grep -v 'cmake_pch\.hxx\.cxx$' | sed 's/\\"/"/g; s/\\\\/\\/g; s/ -o [^ ]* -c / -fsyntax-only /')
  printf '%s\0' "${commands[@]}" | xargs -0 -n 1 -P "$(nproc)" sh -c 'cd "$1" && eval "$2"' check-clang "$build"
  echo "$cxx: ${#commands[@]} commands, no warning"
done
