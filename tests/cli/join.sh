# compress of several inputs: all tensors together, as if they had come in one file.
kvzip synth -o whole.safetensors --layers 4 --heads 2 --head-dim 32 --tokens 300 --seed 1
kvzip compress -q whole.safetensors -o whole.kvz --preset int8 # which looks at nothing beside the values
kvzip compress -q whole.safetensors -o low.kvz --layers 0-1 --preset lossless
kvzip compress -q whole.safetensors -o high.kvz --layers 2-3 --preset lossless
kvzip decompress -q low.kvz -o low.safetensors
kvzip decompress -q high.kvz -o high.h5

# Files of layers, of any format, and a container among them.
expect_status 0 kvzip compress low.safetensors high.h5 -o joined.kvz --preset int8
expect_in stderr "low.safetensors and 1 more: "
expect_status 0 kvzip compare whole.kvz joined.kvz --common --max-abs 0
kvzip compress -q low.kvz high.kvz -o two.kvz -j 1 --preset int8
kvzip compress -q low.kvz high.kvz -o many.kvz -j 5 --preset int8
cmp two.kvz many.kvz
expect_status 0 kvzip compare whole.kvz two.kvz --common --max-abs 0
kvzip inspect two.kvz --json >two.json
expect_in two.json '"recognised": 8'
kvzip compress -q low.kvz high.kvz -o part.kvz --layers 1-2
kvzip inspect part.kvz --json >part.json
expect_in part.json '"recognised": 4'

# What cannot be one dump, and what has no name.
expect_status 0 kvzip compress low.safetensors high.h5 # each by itself
[ -e low.safetensors.kvz ]
[ -e high.h5.kvz ]
expect_status 1 kvzip compress low.safetensors whole.safetensors -o x.kvz
expect_in stderr "is both in low.safetensors and in whole.safetensors"
expect_status 5 kvzip compress low.safetensors missing.h5 -o x.kvz
expect_in stderr "missing.h5"
expect_status 1 kvzip compress low.kvz high.kvz -o high.kvz -f
expect_in stderr "same file"
[ ! -e x.kvz ]
