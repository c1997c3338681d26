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

# NumPy's archives hold all of a dump; a single array has no place for names and metadata, and says so.
expect_status 0 kvzip convert a.safetensors n.npz
[ ! -s stderr ]
expect_status 0 kvzip convert n.npz d.safetensors
cmp d.safetensors a.safetensors
expect_status 0 kvzip compress -q n.npz -o n.kvz --preset lossless
expect_status 0 kvzip decompress n.kvz -o m.npz
cmp n.npz m.npz
expect_status 0 kvzip convert a.safetensors - --to npz
cmp stdout n.npz
expect_status 4 kvzip convert a.safetensors one.npy
expect_in stderr "a .npy file holds one array, and these are 7"
[ ! -e one.npy ]
expect_status 0 kvzip compress -q a.safetensors -o key.kvz --preset lossless --layers 0 --role key
expect_status 0 kvzip decompress key.kvz -o layers.0.key.npy
expect_in stderr "npy files have no place for"
expect_status 0 kvzip decompress a.kvz -o key.safetensors --layers 0 --role key
expect_status 0 kvzip compare key.safetensors layers.0.key.npy --max-abs 0
expect_status 0 kvzip compress -q layers.0.key.npy -o one.kvz --map 'layers.{L}.key=key:HTD' --strict
# An archive from a pipe, and keys and values as files of their own.
expect_status 0 bash -c 'kvzip compress -q - -o p.kvz --preset lossless <n.npz'
cmp p.kvz n.kvz
expect_status 0 kvzip decompress a.kvz -o value.safetensors --layers 0 --role value
expect_status 0 kvzip convert -q value.safetensors layers.0.value.npy
expect_status 0 kvzip compress -q layers.0.key.npy layers.0.value.npy -o both.kvz --strict

# Chunks of HDF5, lengths up to which it may grow and fill values come back, from a container and from safetensors.
types=$root/tests/golden/hdf5/types.h5
kvzip inspect "$types" --json | grep -v '"file"' >one
expect_in one "chunks=2,3 order=big fill=07000000"
expect_in one "chunks=4 maxshape=*"
kvzip compress -q "$types" -o types.kvz --preset lossless
expect_status 0 kvzip decompress types.kvz -o types.h5
[ ! -s stderr ]
kvzip inspect types.h5 --json | grep -v '"file"' >two
cmp one two
kvzip convert -q "$types" types.safetensors
kvzip convert -q types.safetensors again.h5
kvzip inspect again.h5 --json | grep -v '"file"' >three
expect_in three "chunks=2,3 order=big fill=07000000"
kvzip compare types.h5 again.h5 --max-abs 0 >/dev/null

# A slot of llama.cpp of an unknown version is refused by number.
printf 'qsgg\005\000\000\000\000\000\000\000' >slot.bin
expect_status 4 kvzip convert slot.bin slot.safetensors
expect_in stderr "a llama.cpp sequence of version 5; this kvzip knows 2 to 4"
[ ! -e slot.safetensors ]

# A slot of llama.cpp in blocks of q8_0, two tokens of 32 channels: lossless, it comes back as it was; its values do not.
row='abcdefghijklmnopqrstuvwxyz012345'
{
  printf 'qsgg\003\000\000\000\002\000\000\000\005\000\000\000\006\000\000\000\001\000\000\000\002\000\000\000'
  printf '\000\000\000\000\001\000\000\000\000\000\000\000\001\000\000\000\001\000\000\000\000\000\000\000'
  printf '\000\000\000\000\001\000\000\000'
  printf '\010\000\000\000\042\000\000\000\000\000\000\000\000\070%s\000\070%s' $row $row
  printf '\010\000\000\000\042\000\000\000\000\000\000\000\000\071%s\000\200%s' $row $row
} >blocks.bin
expect_status 0 kvzip compress -q blocks.bin --preset lossless
expect_status 0 kvzip decompress blocks.bin.kvz --to llama -o again.bin
cmp again.bin blocks.bin
expect_status 0 bash -c 'kvzip decompress - --to llama -o - <blocks.bin.kvz'
cmp stdout blocks.bin
expect_status 0 kvzip compare blocks.bin blocks.bin.kvz --max-abs 0
expect_in stdout "key"
expect_status 0 kvzip convert blocks.bin values.safetensors
expect_status 0 kvzip compare values.safetensors blocks.bin.kvz --max-abs 0
# Rows of bytes have no order of tokens: then its values are stored, and a line says so.
expect_status 0 kvzip compress blocks.bin -o ordered.kvz --preset lossless --order token:1
expect_in stderr "its quantised blocks have no order of tokens, so their values are stored"
expect_status 0 kvzip compare values.safetensors ordered.kvz --max-abs 0
expect_status 0 kvzip compress -q blocks.bin -o near.kvz --preset int8
expect_status 0 kvzip decompress near.kvz --to llama -o near.bin
expect_in stderr "llama files have no place for the type q8_0 of 2 tensors, which become F32"
expect_status 0 kvzip inspect near.bin
expect_status 0 kvzip convert -q values.safetensors values.bin --to llama
expect_status 4 kvzip convert a.safetensors nothing.bin --to llama
expect_in stderr "a file of llama.cpp can be made of what was one"
[ ! -e nothing.bin ]
