# Layers with attention of their own: their keys are turned back by their own theta, and what the file says of them stays.
kvzip synth -o all.safetensors --layers 6 --heads 2 --head-dim 64 --tokens 400 --query-heads 2 --rope-theta 1000000 -q
kvzip synth -o local.safetensors --layers 6 --heads 2 --head-dim 64 --tokens 400 --query-heads 2 --rope-theta 10000 -q
mixed=(--meta local_layers=0-2,4 --meta rope_theta_local=10000 --meta sliding_window=128)

expect_status 0 kvzip compress all.safetensors -o plain.kvz --preset uniform-3
expect_status 0 kvzip compress all.safetensors -o mixed.kvz --preset uniform-3 "${mixed[@]}"
expect_status 0 kvzip inspect mixed.kvz
expect_in stdout "layers 0-2 4: theta 10000, attention to 128 tokens"
expect_in stdout "theta=1000000"
expect_in stdout "theta=10000"
expect_status 0 kvzip inspect mixed.kvz --json
expect_in stdout '"window": 128'
# The same bytes, whatever way it is said.
expect_status 0 kvzip compress all.safetensors -o named.kvz --preset uniform-3 \
  --meta 'rope_theta[0-2,4]=10000' --meta 'sliding_window[0-2,4]=128'
for file in mixed named; do kvzip decompress -q $file.kvz -o $file.safetensors; done
expect_status 0 kvzip compare mixed.safetensors named.safetensors --max-abs 0

# A layer that says the theta it was rotated with takes fewer bytes than one that says another.
size() { kvzip compress "$1" -o - --layers "$2" --role key --preset uniform-3 "${@:3}" 2>size.err | wc -c; }
[ "$(size local.safetensors 1 --meta rope_theta_local=10000 --meta local_layers=0-2,4 --meta rope_theta=1000000)" -lt \
  "$(size local.safetensors 1 --meta rope_theta=1000000)" ]

# Windows are measured: a query sees 128 tokens. What was said stays with the container.
kvzip compress -q all.safetensors -o said.kvz --preset lossless "${mixed[@]}"
kvzip compress -q all.safetensors -o coded.kvz --preset int4
expect_status 0 kvzip compare all.safetensors coded.kvz --attention --csv
cp stdout whole.csv
expect_status 0 kvzip compare said.kvz coded.kvz --attention --csv
layer() { awk -F, -v n="$2" '$1 == "layer" && $2 == "attention" && $3 == n' "$1"; }
[ -n "$(layer whole.csv 3)" ]
[ "$(layer whole.csv 3)" = "$(layer stdout 3)" ]
[ "$(layer whole.csv 4)" != "$(layer stdout 4)" ]
