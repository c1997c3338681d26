#!/bin/bash
# Checks the direction of includes, src -> formats -> codec -> include/kvzip, and that each library stays in its place.
set -euo pipefail
cd "$(dirname "$0")/.."

# "FILE INCLUDED" for every include line; INCLUDED keeps its quote or bracket.
includes=$(grep -rHE '^[[:space:]]*#[[:space:]]*include' --include='*.[ch]pp' --include='*.h' \
  include codec formats src tests samples | sed -E 's/^([^:]*):[^"<]*(["<][^">]*).*/\1 \2/')

awk '
  function bad(why) { print $1 " includes " substr($2, 2) ": " why; status = 1 }
  # keep(LIBRARY, PLACES): headers like LIBRARY are included from files like PLACES only.
  function keep(library, places) {
    if ($2 !~ "^[\"<]" library || $1 ~ "^(" places ")") return
    gsub(/[|]/, " or ", places)
    bad("only " places " may")
  }
  BEGIN {
    rank["include"] = 0; rank["kvzip"] = 0; rank["codec"] = 1; rank["formats"] = 2; rank["src"] = 3
    rank["samples"] = 4; rank["tests"] = 5
  }
  {
    from = $1; sub(/\/.*/, "", from)
    to = substr($2, 2)
    to = to ~ /\// ? substr(to, 1, index(to, "/") - 1) : from # no folder: a neighbour
    if ($2 ~ /^"/ && !(to in rank)) bad("no folder of this name")
    if ($2 ~ /^"/ && rank[to] > rank[from]) bad(from " may not know " to)
    keep("CLI/", "src/")
    keep("(hdf5|H5[A-Z]*(public|pubconf)?|hdf5_hl)[.]h", "formats/hdf5")
    keep("nlohmann/", "formats/|src/|tests/")
    keep("(zstd|zdict)", "codec/coders/zstd.cpp|src/bench_peers.cpp") # bench measures zstd itself, contexts reused
    keep("zlib", "codec/coders/deflate.cpp|formats/hdf5_chunks.cpp|tests/contract/reference_deflate_test.cpp")
    keep("(oneapi|tbb)/", "formats/transcode.cpp|formats/parallel.cpp")
    keep("doctest", "tests/")
    keep("xxh", "formats/kvz_records.cpp")
    keep("hwy/", "codec/kernels/|tests/bench/limits.cpp") # limits of each instruction set
    keep("benchmark/", "tests/bench/")
    keep("Eigen/", "codec/")
  }
  END { exit status }' <<<"$includes"
