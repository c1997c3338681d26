# convert: any reader to any writer.
kvzip synth -o a.safetensors --layers 2 --heads 2 --head-dim 32 --tokens 100 --dtype bf16
expect_status 0 kvzip convert a.safetensors a.h5
[ ! -s stdout ]
[ ! -s stderr ]
expect_status 0 kvzip convert a.h5 b.safetensors
expect_status 0 kvzip compare a.safetensors b.safetensors --max-abs 0
kvzip inspect a.safetensors --json | grep -v '"file"' >one
kvzip inspect b.safetensors --json | grep -v '"file"' >two
cmp one two

kvzip compress -q a.safetensors -o a.kvz --preset lossless
expect_status 0 kvzip convert a.kvz c.safetensors
cmp c.safetensors a.safetensors
expect_status 2 kvzip convert a.safetensors x.kvz
expect_in stderr "kvzip compress"
expect_status 2 kvzip convert a.safetensors x.txt
expect_status 0 kvzip convert a.safetensors odd.bin --to hdf5
expect_status 0 kvzip compare a.safetensors odd.bin --max-abs 0
expect_status 1 kvzip convert a.safetensors a.safetensors -f
expect_in stderr "same file"
ln a.safetensors linked.safetensors
expect_status 1 kvzip convert a.safetensors linked.safetensors -f
cmp a.safetensors b.safetensors
