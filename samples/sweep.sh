#!/bin/bash
# Every preset on the sample, as the table of README.md, and its plot: sweep.sh [KVZIP [PLOT.svg]]
# Bytes are whole containers of keys and values. The first 120 of 160 tokens are decoded; the queries of the other 40,
# and those of another text that follows the same 120 tokens, attend to them.
set -euo pipefail
kvzip=$(realpath "$(command -v "${1:-kvzip}")")
plot=${2:+$(realpath "$2")}
cd "$(dirname "$0")"

"$kvzip" sweep smollm2.safetensors --queries smollm2-queries.safetensors --queries2 smollm2-queries2.safetensors \
  --presets all --csv -q ${plot:+--plot "$plot" -f} | tr -d '"' | awk -F, '
  NR == 1 { for (i = 1; i <= NF; ++i) at[$i] = i; next }
  function error(column) { return $at[column] == 0 ? "exact" : sprintf("%.2g", $at[column]) }
  BEGIN {
    print "| preset | | ratio | bits/value | K nrmse | V nrmse | attention | KL | attention, other text |"
    print "|---|---|---:|---:|---:|---:|---:|---:|---:|"
  }
  $at["scope"] == "file" {
    printf "| `%s` | %s | %.2f | %.2f | %s | %s | %s | %s | %s |\n", $at["setting"], $at["pareto"] == 1 ? "*" : "",
           $at["ratio"], $at["bits_per_value"], error("key_nrmse"), error("value_nrmse"),
           error("attention_output_nrmse"), error("attention_kl"), error("attention2_output_nrmse")
  }'
