# compare: measures, outputs, limits and their exit status, mismatches.
kvzip synth -o a.safetensors --layers 2 --heads 2 --head-dim 32 --tokens 300
kvzip convert a.safetensors a.h5
expect_status 0 kvzip compare a.safetensors a.h5 --max-abs 0 --min-snr 300 --min-cosine 1
expect_in stdout "exact"
[ ! -s stderr ]

kvzip compress -q a.safetensors -o a.kvz --preset int4
expect_status 0 kvzip compare a.safetensors a.kvz
expect_in stdout "layers.1.value"
expect_in stdout "total"
expect_status 6 kvzip compare a.safetensors a.kvz --max-abs 0.000001
expect_in stderr "misses --max-abs"
expect_status 6 kvzip compare a.safetensors a.kvz --max-rmse 0.000001
expect_status 6 kvzip compare a.safetensors a.kvz --max-nrmse 0.000001
expect_status 6 kvzip compare a.safetensors a.kvz --min-snr 90
expect_status 6 kvzip compare a.safetensors a.kvz --min-cosine 0.9999999
expect_status 0 kvzip compare a.safetensors a.kvz --max-nrmse 0.5 --min-snr 5

# Both sides coded: the same figures as through a file.
kvzip decompress a.kvz -o d.safetensors
expect_status 0 kvzip compare a.kvz d.safetensors --max-abs 0
kvzip compare a.safetensors d.safetensors | awk '$1 != "total" {print $1, $2, $3, $4, $5, $6, $7, $8}' >through_file
kvzip compare a.safetensors a.kvz | awk '$1 != "total" {print $1, $2, $3, $4, $5, $6, $7, $8}' >direct
cmp through_file direct
kvzip compare a.safetensors a.kvz --csv -j 1 >one_thread
kvzip compare a.safetensors a.kvz --csv -j 4 | cmp - one_thread

expect_status 6 kvzip compare a.safetensors a.kvz --json --max-abs 0
expect_in stdout '"schema": 1'
expect_in stdout '"met": false'
expect_in stdout '"cosine_mean":'
if command -v python3 >/dev/null; then
  python3 - stdout <<'PY'
import json, sys
d = json.load(open(sys.argv[1]))
assert d["roles"]["query"]["same"] and d["roles"]["query"]["snr_db"] is None
assert 3 < d["roles"]["key"]["bits_per_value"] < 8
assert 0 < d["roles"]["key"]["nrmse"] < 0.3
assert d["total"]["ratio"] > 1
PY
fi
expect_status 2 kvzip compare a.safetensors a.kvz --json --csv

# Mismatches name the tensor.
kvzip synth -o longer.safetensors --layers 2 --heads 2 --head-dim 32 --tokens 301
expect_status 1 kvzip compare a.safetensors longer.safetensors
expect_in stderr "layers.0.key"
expect_in stderr "301"
kvzip synth -o more.safetensors --layers 3 --heads 2 --head-dim 32 --tokens 300
expect_status 1 kvzip compare --mix a.safetensors more.safetensors
expect_in stderr "second file only"
expect_status 1 kvzip compare --mix more.safetensors a.safetensors
expect_in stderr "--common"
expect_status 0 kvzip compare --mix more.safetensors a.safetensors --common

# Tensors that are not floats count only when there are limits.
kvzip synth -o other.safetensors --layers 2 --heads 2 --head-dim 32 --tokens 300 --seed 9
expect_status 1 kvzip compare a.safetensors other.safetensors
expect_in stderr "they differ in token ids"
expect_status 0 kvzip compare --mix a.safetensors other.safetensors
expect_in stdout "elements differ"
expect_status 6 kvzip compare --mix a.safetensors other.safetensors --max-abs 1e9
expect_in stderr "elements that are not floats differ"

# From a pipe.
expect_status 0 bash -c 'kvzip compare a.safetensors - --max-abs 0 <a.h5'
