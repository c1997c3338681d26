#!/bin/bash
# The speed tables of README.md, as `kvzip bench` measures them: speed.sh [KVZIP [BENCH OPTION...]]
# Of each kind of codec one preset or two; PRESETS=all or a list measures others.
# Two dumps: one of the shape of Llama-3.1-8B (made here; TOKENS tokens, 1024 unless set, 131 kB each), and the sample.
set -euo pipefail
kvzip=$(realpath "$(command -v "${1:-kvzip}")")
shift $(($# > 0))
presets=kvzip-near,kvzip-balanced,kvzip-small,near-lossless,lossless,zstd-planes,int8,int4,fp8,mxfp4,kivi-4,gear-4,
presets=${PRESETS:-${presets}cachegen-3,turboquant-4,kvquant-4,uniform-4}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ln -s "$(realpath "$(dirname "$0")/smollm2.safetensors")" "$work/smollm2.safetensors"
"$kvzip" synth -q -o "$work/llama-3.1-8b-shape.safetensors" --layers 32 --heads 8 --head-dim 128 --dtype bf16 --no-query \
  --tokens "${TOKENS:-1024}"
cd "$work"

"$kvzip" bench llama-3.1-8b-shape.safetensors smollm2.safetensors --presets "$presets" --csv "$@" | awk -F, '
  function text(quoted) { gsub(/"/, "", quoted); return quoted }
  function speed(x) { return sprintf(x < 0.0995 ? "%.4f" : x < 0.995 ? "%.3f" : x < 9.95 ? "%.2f" : "%.1f", x) }
  # Columns of the CSV: 7 and 14 median speeds; then, 4 and 5 further on, of zstd -1 and of memcpy, 6 the share.
  function figures(at) { return sprintf("%s | %s | %.1f", speed($at), speed($(at + 4)), 100 * $(at + 5)) }
  function slowest(share, step, most) {
    for (step in share) if (most == "" || share[step] > share[most]) most = step
    return most == "" ? "" : sprintf("%s, %.0f %%", most, 100 * share[most])
  }
  function row() {
    if (name != "") print "| `" name "` | " encode " | " slowest(coding) " | " decode " | " slowest(decoding) " | " ratio " |"
    name = ""
    delete coding
    delete decoding
  }
  NR == 1 { next }
  NR == 2 { printf "kvzip %s (%s), %s of %s, one thread:\n", $27, text($28), $30, text($29) }
  $1 != file {
    row()
    file = $1
    printf "\n%s, %.0f MB:\n\n", text(file), $6 / 1e6
    print "| codec | encode GB/s | x zstd -1 | % memcpy | slowest step | decode GB/s | x zstd -1 | % memcpy | slowest step | ratio |"
    print "|---|---:|---:|---:|---|---:|---:|---:|---|---:|"
  }
  $5 == "" {
    row()
    name = text($2)
    encode = figures(7)
    decode = figures(14)
    ratio = sprintf("%.2f", $22)
  }
  $5 != "" { # of keys and of values
    coding[$5] += $13
    decoding[$5] += $20
  }
  END { row() }'
