#!/bin/bash
# Installs a build into an empty prefix, then builds and runs programs outside of it: check-consumers.sh BUILD_DIR
# They find kvzip with CMake's find_package, with pkg-config, and as a subdirectory without the tools of the tests; in C++,
# and in C with libkvzip.so.
set -euo pipefail
build=$(realpath "$1")
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sample=$PWD/samples/smollm2.safetensors

cmake --install "$build" --prefix "$work/prefix" >/dev/null
"$work/prefix/bin/kvzip" --version
for page in kvzip.1 kvzip.3 kvz.5 kvzip-pipeline.7; do ls "$work/prefix"/share/man/man*/"$page" >/dev/null; done
# Public headers stand alone and name nothing that is not theirs.
for header in "$work"/prefix/include/kvzip/*.hpp; do
  echo "#include \"kvzip/$(basename "$header")\""
  if grep -HnE '#include *[<"](fmt|nlohmann|hdf5|H5|oneapi|tbb|Eigen|hwy|zstd|codec|formats|src)' "$header" >&2; then exit 1; fi
done >"$work/headers"
while IFS= read -r line; do
  g++ -std=c++20 -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Werror -fsyntax-only -I"$work/prefix/include" -x c++ - <<<"$line"
done <"$work/headers"

configure=(cmake -G Ninja -DCMAKE_BUILD_TYPE=Debug -S tests/consumers/memory)
"${configure[@]}" -B "$work/memory" -DCMAKE_PREFIX_PATH="$work/prefix" >/dev/null
cmake --build "$work/memory" >/dev/null
"$work/memory/tile"
"$work/memory/container" "$sample"

export PKG_CONFIG_PATH
PKG_CONFIG_PATH=$(dirname "$(find "$work/prefix" -name kvzip.pc)")
cp -R tests/consumers/convert "$work/convert"
make -s -C "$work/convert"
(cd "$work" && convert/convert "$sample" out.h5 && convert/convert out.h5 again.safetensors)
"$work/prefix/bin/kvzip" compare "$sample" "$work/again.safetensors" | tail -n 1

# C: strict, with CMake and with pkg-config. libkvzip.so shows the C interface, all of it, and nothing else.
cmake -G Ninja -S tests/consumers/c -B "$work/c" -DCMAKE_PREFIX_PATH="$work/prefix" >/dev/null
cmake --build "$work/c" >/dev/null
"$work/c/arrays" "$work/arrays.kvz"
cc -std=c99 -Wall -Wextra -Wpedantic -Werror $(pkg-config --cflags kvzip-c) -o "$work/arrays" tests/consumers/c/arrays.c \
  $(pkg-config --libs kvzip-c)
# The manual's example: a program of its own, which compresses what its first argument names.
awk '/^\.Sh / { inside = $2 == "EXAMPLES" } /^\.Ed/ { shown = 0 } inside && shown; /^\.Bd -literal/ { shown = 1 }' \
  "$work"/prefix/share/man/man3/kvzip.3 | sed 's/\\e/\\/g; s/\\&//g' >"$work/example.c"
cc -std=c99 -Wall -Wextra -Werror $(pkg-config --cflags kvzip-c) -o "$work/example" "$work/example.c" \
  $(pkg-config --libs kvzip-c)
library=$(find "$work/prefix" -name libkvzip.so)
LD_LIBRARY_PATH=$(dirname "$library") "$work/arrays" "$work/again.kvz"
cmp "$work/arrays.kvz" "$work/again.kvz"
LD_LIBRARY_PATH=$(dirname "$library") "$work/example" "$work/arrays.kvz"
diff <(nm -D --defined-only "$library" | awk '$2 == "T" { sub(/@.*/, "", $3); print $3 } $2 !~ /[TA]/' | sort) \
  <(grep -oE '^KVZIP_API .*' "$work/prefix/include/kvzip/kvzip.h" | grep -oE 'kvzip_[a-z_]+\(' | tr -d '(' | sort)

# As a subdirectory it asks for none of the tool's and the tests' packages. What it would build was built above.
without=(--no-warn-unused-cli)
for package in CLI11 doctest benchmark; do without+=("-DCMAKE_DISABLE_FIND_PACKAGE_$package=ON"); done
"${configure[@]}" -B "$work/subdirectory" -DKVZIP_SOURCE="$PWD" "${without[@]}" >/dev/null
grep -qE '^build tile: .*kvzip/libkvzip-codec.a' "$work/subdirectory/build.ninja"
grep -qE '^build container: .*kvzip/libkvzip.a' "$work/subdirectory/build.ninja"
if grep -E '^build kvzip/(src|tests)/' "$work/subdirectory/build.ninja" >&2; then exit 1; fi
