# decompress: exact restoration, names and formats of outputs, and selections.
kvzip synth -o a.safetensors --layers 4 --heads 2 --head-dim 32 --tokens 300 --dtype bf16
kvzip compress -q a.safetensors --preset lossless

expect_status 0 kvzip decompress a.safetensors.kvz -f
[ ! -s stdout ]
[ ! -s stderr ]
cp a.safetensors.kvz c.kvz
kvzip synth -o b.safetensors --layers 4 --heads 2 --head-dim 32 --tokens 300 --dtype bf16
cmp a.safetensors b.safetensors

expect_status 0 kvzip decompress c.kvz -o c.safetensors
cmp c.safetensors a.safetensors
expect_status 0 kvzip decompress c.kvz -o odd.bin --to safetensors -j 1
cmp odd.bin a.safetensors
expect_status 0 kvzip decompress c.kvz -o c.h5
expect_status 0 kvzip compare a.safetensors c.h5 --max-abs 0

expect_status 2 kvzip decompress c.kvz
expect_in stderr "-o"
expect_status 2 kvzip decompress c.kvz -o x.unknown
expect_in stderr "--to"
expect_status 2 kvzip decompress c.kvz -o -
expect_in stderr "--to"
expect_status 2 kvzip decompress c.kvz -o x.kvz
expect_status 2 kvzip decompress c.kvz -o x.bin --to nonsense
expect_status 1 kvzip decompress a.safetensors -o x.safetensors
expect_in stderr "convert"
[ ! -e x.safetensors ]

# A part of it, by index.
expect_status 0 kvzip decompress c.kvz -o part.safetensors --layers 1-2 --tokens 100:228 --role key
kvzip inspect part.safetensors --json >part.json
[ "$(grep -c '"name": "layers' part.json)" = 2 ]
expect_in part.json '"layers.1.key"'
expect_in part.json '"layers.2.key"'
grep -q 128 part.json
expect_status 0 kvzip decompress c.kvz -o kv.safetensors --role key,value
kvzip inspect kv.safetensors --json >kv.json
[ "$(grep -c '"name": "layers' kv.json)" = 8 ]
expect_status 0 kvzip compare a.safetensors kv.safetensors --common --max-abs 0
for bad in "--layers x" "--layers 3-1" "--tokens 5" "--tokens a:b" "--role nothing"; do
  # shellcheck disable=SC2086
  expect_status 2 kvzip decompress c.kvz -o x.safetensors $bad
done
expect_status 1 kvzip decompress c.kvz -o x.safetensors --layers 50
