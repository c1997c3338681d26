#!/bin/bash
# Checks the direction of dependencies in what was linked: check-links.sh BUILD_DIR
# An archive may need symbols of the archives to its right only; and kvzip-codec needs no HDF5, TBB or JSON.
set -euo pipefail
cd "$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# As in .ci/check-deps.sh; what shares a line shares a rank.
order='libkvzip_tool
libkvzip_cli
libkvzip_load
libkvzip_sweep
libkvzip_bench
libkvzip_tune libkvzip_request
libkvzip_report libkvzip_prune
libkvzip_measure libkvzip_synth
libkvzip
libkvzip-codec'
failed=0

# symbols OPTION ARCHIVE: names without addresses, weak ones left out: every archive has its own copies of those.
symbols() { nm -P "$1" "$2" 2>/dev/null | awk 'NF >= 2 && $2 ~ /^[TDBRSU]$/ { print $1 }' | sort -u; }
: >"$work/higher"
while read -r line; do
  : >"$work/rank"
  for name in $line; do
    archive=$(find . -name "$name.a" | head -n 1)
    [ -n "$archive" ] || { echo "$name.a is missing" >&2; exit 1; }
    symbols --defined-only "$archive" >"$work/$name.defined"
    cat "$work/$name.defined" >>"$work/rank"
    symbols --undefined-only "$archive" | comm -23 - "$work/$name.defined" >"$work/$name.needed"
    if comm -12 "$work/$name.needed" "$work/higher" | c++filt | grep .; then
      echo "$name needs the above, which only what stands over it has" >&2
      failed=1
    fi
  done
  # Neighbours know nothing of each other.
  for name in $line; do
    for other in $line; do
      [ "$name" != "$other" ] || continue
      if comm -12 "$work/$name.needed" "$work/$other.defined" | c++filt | grep .; then
        echo "$name needs the above, which $other has" >&2
        failed=1
      fi
    done
  done
  sort -u -o "$work/higher" "$work/higher" "$work/rank"
done <<<"$order"

if c++filt <"$work/libkvzip-codec.needed" | grep -E '^H5|^_?tbb::|nlohmann::'; then
  echo "kvzip-codec needs the above" >&2
  failed=1
fi
exit $failed
