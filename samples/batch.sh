#!/bin/bash
# Compresses every dump of a folder: batch.sh IN_DIR OUT_DIR [PRESET [MAX_NRMSE]]
# What is done is skipped, so a run that was stopped goes on where it was. A result further from its dump than MAX_NRMSE
# (rmse over rms, of all keys and of all values) is thrown away, and the dump is coded without loss instead.
# Exit status: the worst of all files, as kvzip(1) counts them.
set -euo pipefail
in=$1
out=$2
preset=${3:-near-lossless}
limit=${4:-0.05}
worst=0

# compress_checked DUMP PART
compress_checked() {
  local status=0
  kvzip compress -q -f "$1" -o "$2" --preset "$preset" || return
  kvzip compare -q "$1" "$2" --max-nrmse "$limit" >/dev/null || status=$?
  [ $status = 6 ] || return $status
  kvzip compress -q -f "$1" -o "$2" --preset lossless
}

while IFS= read -r -d '' name; do
  dump=$in/$name
  kvz=$out/$name.kvz
  [ ! -e "$kvz" ] || continue
  mkdir -p "$(dirname "$kvz")"
  status=0
  compress_checked "$dump" "$kvz.part" </dev/null || status=$?
  if [ $status = 0 ]; then
    mv "$kvz.part" "$kvz"
    echo "$name: $(stat -Lc %s "$dump") -> $(stat -c %s "$kvz") bytes"
  else
    rm -f "$kvz.part"
    worst=$((status > worst ? status : worst))
  fi
done < <(find -L "$in" -type f \( -name '*.safetensors' -o -name '*.h5' -o -name '*.hdf5' \) -printf '%P\0' | sort -z)
exit $worst
