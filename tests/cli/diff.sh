# diff: settings of two containers, layers that differ alike on one line, and exit statuses as diff has them.
kvzip synth -o a.safetensors --layers 3 --heads 1 --head-dim 32 --tokens 64
kvzip compress -q a.safetensors -o a.kvz --preset int8
kvzip synth -o other.safetensors --layers 3 --heads 1 --head-dim 32 --tokens 64 --seed 5
kvzip compress -q other.safetensors -o same.kvz --preset int8
printf 'chunk = 32\nkey[1-2] = quant:bits=4,pack\nkey = quant:bits=8,pack\nvalue = planes,pack\n' >rules.txt
kvzip compress -q a.safetensors -o b.kvz --preset ./rules.txt --meta run=7

expect_status 0 kvzip diff a.kvz a.kvz
[ ! -s stdout ]
expect_status 1 kvzip diff a.kvz b.kvz
expect_in stdout "--- a.kvz"
expect_in stdout "- int8"
expect_in stdout "attribute run"
expect_in stdout "+ 7"
expect_in stdout "layers.#.key, layers 1-2"
expect_in stdout "quant:bits=4,pack, chunks of 32 tokens"
expect_in stdout "layers.#.value, layers 0-2"
expect_status 1 kvzip diff a.kvz b.kvz --json
expect_in stdout '"setting": "preset"'
expect_status 1 bash -c 'kvzip diff - b.kvz <a.kvz'
expect_in stdout "--- standard input"
expect_status 2 kvzip diff a.kvz a.safetensors
expect_status 2 kvzip diff a.kvz
expect_status 5 kvzip diff a.kvz missing.kvz
