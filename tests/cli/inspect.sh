# inspect: tables for people, JSON for scripts, of dumps and containers.
kvzip synth -o a.safetensors --layers 3 --heads 2 --head-dim 32 --tokens 300
expect_status 0 kvzip inspect a.safetensors
[ ! -s stderr ]
expect_in stdout "10 tensors"
expect_in stdout "theta 500000, half layout"
expect_in stdout "2x300x32"
expect_in stdout "token_ids"
expect_status 0 kvzip inspect a.safetensors --json
expect_in stdout '"schema": 1'
expect_in stdout '"kind": "dump"'
expect_in stdout '"recognised": 6'
expect_in stdout '"why":'

kvzip compress -q a.safetensors -o a.kvz --preset gear-2
expect_status 0 kvzip inspect a.kvz
expect_in stdout "preset gear-2"
expect_in stdout "lowrank"
expect_in stdout "factors"
expect_status 0 kvzip inspect a.kvz --json
expect_in stdout '"kind": "kvz"'
expect_in stdout '"preset": "gear-2"'
expect_in stdout '"bits_per_value":'
expect_in stdout '"file_bytes": '"$(stat -c %s a.kvz)"
if command -v python3 >/dev/null; then
  python3 - stdout "$(stat -c %s a.kvz)" <<'PY'
import json, sys
d = json.load(open(sys.argv[1]))
assert d["totals"]["key"]["coded_bytes"] == sum(g["coded_bytes"] for g in d["groups"] if g["role"] == "key")
assert d["totals"]["file"]["source_bytes"] == sum(t["bytes"] for t in d["tensors"])
assert d["totals"]["file"]["file_bytes"] == int(sys.argv[2])
assert all(sum(g["streams"].values()) <= g["coded_bytes"] for g in d["groups"])
PY
fi

# Many tensors: the layers that look alike share a row; -v shows each.
kvzip synth -o many.safetensors --layers 30 --heads 1 --head-dim 4 --tokens 3 --no-query
kvzip inspect many.safetensors >short
expect_in short "layers.#.key (30 tensors)"
expect_in short "0-29"
[ "$(wc -l <short)" -lt 12 ]
[ "$(kvzip inspect -v many.safetensors | wc -l)" -gt 60 ]
kvzip compress -q many.safetensors -o many.kvz
[ "$(kvzip inspect many.kvz | wc -l)" -lt 20 ]

expect_status 1 kvzip inspect a.safetensors --strict --map '*=other:'
expect_status 5 kvzip inspect nowhere.safetensors
echo 'some text' >text
expect_status 4 kvzip inspect text
expect_in stderr "text"
