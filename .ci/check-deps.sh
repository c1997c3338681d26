#!/bin/bash
# Checks the direction of includes, left to right: src (commands), src/cli, src/load, src/sweep, src/bench, src/tune and
# src/request, src/report and src/prune, src/measure and src/synth, formats, codec, include/kvzip; that each library stays in its place;
# and that tests name each limit.
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
    rank["include"] = 0; rank["kvzip"] = 0; rank["codec"] = 1; rank["formats"] = 2
    rank["src/measure"] = 3; rank["src/synth"] = 3; rank["src/report"] = 4; rank["src/prune"] = 4; rank["src/tune"] = 5; rank["src/request"] = 5
    rank["src/bench"] = 6; rank["src/sweep"] = 7; rank["src/load"] = 8; rank["src/cli"] = 9; rank["src"] = 10
    # What the tool knows of the library beside its public headers: README.md says why.
    split("codec/fail.hpp codec/limits.hpp codec/nearest.hpp codec/number.hpp codec/portable_math.hpp codec/split.hpp codec/splitmix64.hpp " \
      "formats/file.hpp formats/parallel.hpp formats/text.hpp formats/json_fields.hpp formats/json_limits.hpp " \
      "formats/attribute_text.hpp formats/format_table.hpp formats/hdf5/hdf5.hpp formats/join.hpp formats/left_out.hpp " \
      "formats/selection.hpp formats/token_positions.hpp formats/row_places.hpp formats/token_windows.hpp formats/used_rows.hpp formats/borrowed_reader.hpp formats/query_set.hpp " \
      "formats/kvz/kvz.hpp formats/kvz/kvz_pages.hpp formats/kvz/kvz_plan.hpp formats/kvz/kvz_records.hpp " \
      "formats/kvz/kvz_fit.hpp formats/kvz/kvz_results.hpp formats/kvz/kvz_tables.hpp formats/kvz/tile_saliency.hpp formats/kvz/tile_walk.hpp " \
      "codec/kernels/attention.hpp codec/kernels/instruction_set.hpp codec/pipeline.hpp codec/stage_clock.hpp codec/buffer.hpp " \
      "formats/head_rows.hpp formats/parts.hpp formats/ggml_values.hpp formats/mlx_cache.hpp formats/mlx_quantised.hpp formats/identity.hpp formats/kvz/kvz_growth.hpp formats/kvz/kvz_segments.hpp formats/raw.hpp formats/tensor_views.hpp formats/folder.hpp formats/token_join.hpp formats/settle_axes.hpp formats/model_info.hpp formats/collection.hpp", list, " ")
    for (i in list) inner[list[i]] = 1
    rank["samples"] = 11; rank["tests"] = 12
  }
  # place(PATH): the folder that has a rank.
  function place(path) {
    if (match(path, /^src\/[a-z]+\//)) return substr(path, 1, RLENGTH - 1)
    sub(/\/.*/, "", path)
    return path
  }
  {
    from = place($1)
    to = substr($2, 2)
    to = to ~ /\// ? place(to) : from # no folder: a neighbour
    if ($2 ~ /^"/ && !(to in rank)) bad("no folder of this name")
    if ($2 ~ /^"/ && rank[to] > rank[from]) bad(from " may not know " to)
    if (from ~ /^src/ && to ~ /^(codec|formats)$/ && $2 ~ /^"/ && !(substr($2, 2) in inner)) {
      bad("not public, and not among the inner headers that the tool may use")
    }
    keep("CLI/", "src/cli/|src/cmd_|src/main.cpp|src/commands.hpp")
    keep("(hdf5|H5[A-Z]*(public|pubconf)?|hdf5_hl)[.]h", "formats/hdf5/")
    keep("H5PLextern", "formats/hdf5_filter/h5z_plugin.cpp")
    keep("nlohmann/", "formats/|src/|tests/")
    keep("(zstd|zdict)", "codec/coders/zstd.cpp|src/bench/bench_peers.cpp") # bench measures zstd itself, contexts reused
    keep("zlib", "codec/coders/deflate.cpp|formats/hdf5/hdf5_chunks.cpp|formats/zip.cpp|tests/contract/reference_deflate_test.cpp")
    keep("(oneapi|tbb)/", "formats/walk.cpp|formats/parallel.cpp")
    keep("doctest", "tests/")
    keep("xxh", "formats/kvz/kvz_records.cpp|formats/hdf5_filter/h5z_chunk.cpp")
    keep("hwy/", "codec/kernels/|tests/bench/limits.cpp") # limits of each instruction set
    keep("benchmark/", "tests/bench/")
    keep("Eigen/", "codec/")
  }
  END { exit status }' <<<"$includes"

# Options are words of the tool: the library gives hints (kvzip/error.hpp), which the tool turns into options.
if grep -rnE '"[^"]*--[a-z]' include codec formats --include='*.[ch]pp' | grep -vE '^[^:]+:[0-9]+:[[:space:]]*//'; then
  echo "these lines of the library name options of the tool" >&2
  exit 1
fi

# Each limit is tested at its edge, under its name.
limits=$(grep -oE '\bk[A-Z][A-Za-z0-9]* =' codec/limits.hpp | cut -d ' ' -f 1 | sort -u)
tested=$(grep -rhoE '\blimits::k[A-Z][A-Za-z0-9]*\b' tests | cut -d : -f 3 | sort -u)
if untested=$(comm -23 <(echo "$limits") <(echo "$tested")) && [[ -n $untested ]]; then
  echo "codec/limits.hpp: no test names" $untested >&2
  exit 1
fi
