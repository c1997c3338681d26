# recover: what is left of cut and damaged containers, as dump, container and JSON; verify names the same from a pipe.
kvzip synth -o a.safetensors --layers 2 --heads 1 --head-dim 32 --tokens 512
kvzip compress -q a.safetensors -o a.kvz --preset int8 --chunk-tokens 64 --role key,value
expect_status 0 kvzip decompress a.kvz -o whole.safetensors

expect_status 0 kvzip recover a.kvz
[ ! -s stdout ]
expect_in stderr "100 % of its values can be read"
head -c $(($(stat -c %s a.kvz) * 5 / 8)) a.kvz >cut.kvz
expect_status 3 kvzip recover cut.kvz --json -o rest.safetensors
expect_in stdout '"why": "its record is gone"'
expect_in stderr "layers.1.value, tokens 0-511"
expect_in stderr "it was cut"
expect_status 6 kvzip compare whole.safetensors rest.safetensors --max-abs 0
expect_status 1 kvzip recover cut.kvz -o rest.safetensors
expect_in stderr "exists"
expect_status 3 kvzip recover cut.kvz -q -f -o rest.safetensors

# As a container it is sound again; frames are copied, not coded anew.
expect_status 3 kvzip recover cut.kvz -o rest.kvz
expect_status 0 kvzip verify rest.kvz
expect_status 0 kvzip decompress rest.kvz -o again.safetensors
cmp again.safetensors rest.safetensors
# The keys and values of layer 0 come first, and have all come back.
kvzip decompress -q a.kvz -o whole0.safetensors --layers 0
kvzip decompress -q rest.kvz -o rest0.safetensors --layers 0
cmp whole0.safetensors rest0.safetensors
kvzip inspect rest.kvz --json >rest.json
expect_in rest.json '"recovered"'

# From a pipe, and named by verify with the place in the file.
expect_status 3 bash -c 'kvzip recover - <cut.kvz'
expect_in stderr "standard input: lost: layers.1.value, tokens 0-511"
expect_status 3 bash -c 'cat cut.kvz | kvzip verify'
expect_in stderr "layers.1.value, tokens 0-511 (byte "
cp a.kvz bad.kvz
printf '\377\377\377\377' | dd of=bad.kvz bs=1 seek=$(($(stat -c %s a.kvz) / 2)) conv=notrunc status=none
expect_status 3 kvzip verify bad.kvz
cp stderr by_name
expect_status 3 bash -c 'cat bad.kvz | kvzip verify'
[ "$(cut -d: -f3- by_name | head -n 1)" = "$(cut -d: -f3- stderr | head -n 1)" ]
expect_in stderr "its checksum does not match"

# Nothing to be had: no output.
head -c 100 a.kvz >head.kvz
expect_status 3 kvzip recover head.kvz -o none.safetensors
[ ! -e none.safetensors ]
expect_status 3 kvzip recover a.safetensors -o none.safetensors
[ ! -e none.safetensors ]
expect_status 2 kvzip recover cut.kvz -o x.unknown
expect_status 2 bash -c 'kvzip recover cut.kvz --json -o - --to kvz'
