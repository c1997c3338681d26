#!/bin/bash
# Every preset on the sample, as the Markdown table of README.md: table.sh [KVZIP [DUMP]]
# Ratio and bits count the whole .kvz file against the whole dump; errors are those of the decoded dump.
set -euo pipefail
kvzip=${1:-kvzip}
dump=${2:-$(dirname "$0")/books.safetensors}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "| preset | ratio | bits/value | K nrmse | V nrmse |"
echo "|---|---:|---:|---:|---:|"
for preset in $("$kvzip" list presets | awk 'NR > 1 { print $1 }'); do
  "$kvzip" compress -q -f "$dump" -o "$work/dump.kvz" --preset "$preset"
  "$kvzip" decompress -q -f "$work/dump.kvz" -o "$work/dump.safetensors"
  # Columns of the CSV: 1 scope, 3 role, 5 values, 8 nrmse.
  "$kvzip" compare "$dump" "$work/dump.safetensors" --csv | awk -F, -v preset="$preset" \
    -v source="$(stat -Lc %s "$dump")" -v coded="$(stat -c %s "$work/dump.kvz")" '
      $1 == "role" && ($3 == "key" || $3 == "value") { values += $5; nrmse[$3] = $8 }
      function error(x) { return x == 0 ? "exact" : sprintf("%.4f", x) }
      END {
        printf "| `%s` | %.2f | %.2f | %s | %s |\n", preset, source / coded, 8 * coded / values,
               error(nrmse["key"]), error(nrmse["value"])
      }'
done
