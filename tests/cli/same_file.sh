# An output never replaces a file that the command reads, whichever option names it, however it is spelled.
kvzip synth -q -o a.safetensors --layers 2 --heads 2 --head-dim 32 --tokens 64
kvzip synth -q -o q.safetensors --layers 2 --heads 2 --head-dim 32 --tokens 64 --seed 2
kvzip compress -q a.safetensors -o a.kvz --preset int4
kvzip compress -q a.safetensors -o nested.kvz --preset matryoshka
kvzip compress -q a.safetensors -o klt.kvz --key klt:bits=8:basis=tensor,pack --value quant:bits=4,pack
kvzip convert klt.kvz klt.kvzd
mkdir inputs kept
cp a.safetensors q.safetensors a.kvz nested.kvz klt.kvz klt.kvzd inputs
cp klt.kvzd inputs/tables
printf 'quant:bits=4,pack\n' >inputs/pipelines.txt
printf 'key[*] = quant:bits=4,pack\nvalue[*] = quant:bits=4,pack\n' >inputs/own.preset
printf '1%.0s' $(seq 64) >inputs/mask
printf 'a.safetensors\0' >inputs/names
cp inputs/a.kvz inputs/pic.svg
cp inputs/a.safetensors inputs/like
ln inputs/a.kvz inputs/hard.kvz
ln -s a.kvz inputs/soft.kvz
cp -a inputs/. kept

# refused COMMAND...: fails for this reason, and every input is as it was.
refused() {
  (cd inputs && expect_status 1 "$@" && expect_in stderr "input and output are the same file" && rm stdout stderr)
  diff -r inputs kept >&2 || exit 1
}
refused kvzip convert a.safetensors a.safetensors -f
refused kvzip decompress a.kvz -o a.kvz --to safetensors -f
refused kvzip decompress a.kvz -o soft.kvz --to safetensors -f
refused kvzip decompress a.kvz -o hard.kvz --to safetensors -f
refused kvzip decompress a.kvz --like like -o like --to safetensors -f
refused kvzip compress a.safetensors --queries q.safetensors -o q.safetensors -f
refused kvzip compress a.safetensors --queries q.safetensors --target-attention 0.1 -o q.safetensors -f
refused kvzip compress a.safetensors --preset ./own.preset -o own.preset -f
refused kvzip compress --files0-from names -o names -f
refused kvzip prune a.safetensors mask --to safetensors --mask mask -f
refused kvzip prune a.safetensors q.safetensors --queries q.safetensors --keep 8 -f
refused kvzip attend a.safetensors --queries q.safetensors -o q.safetensors -f
refused kvzip cut nested.kvz -o nested.kvz --share 0.5 -f
refused kvzip recover a.kvz -o a.kvz -f
refused kvzip recover a.kvz --tables tables -o tables --to kvz -f
refused kvzip decompress klt.kvz --tables tables -o tables --to safetensors -f
refused kvzip compress a.safetensors --tables tables -o tables --preset int4 -f
refused kvzip convert klt.kvz klt.kvz --to safetensors -f
refused kvzip append a.kvz a.kvz
refused kvzip inspect pic.svg --plot pic.svg -f
refused kvzip inspect a.kvz --original pic.svg --plot pic.svg -f
for option in --report --plot; do
  ln -sf a.safetensors inputs/dump.svg
  ln -sf pipelines.txt inputs/lines.svg
  ln -sf own.preset inputs/own.svg
  ln -sf q.safetensors inputs/q.svg
  cp -a inputs/*.svg kept
  refused kvzip sweep a.safetensors --presets int8 $option dump.svg -f
  refused kvzip sweep a.safetensors --pipelines pipelines.txt $option lines.svg -f
  refused kvzip sweep a.safetensors --presets ./own.preset $option own.svg -f
  refused kvzip sweep a.safetensors --presets int8 --queries q.safetensors $option q.svg -f
done

# Standard input is a file where the shell makes it one.
refused_in() { # FILE COMMAND...
  local status=0
  (cd inputs && "${@:2}" <"$1" >../stdout 2>../stderr) || status=$?
  [ $status = 1 ]
  expect_in stderr "input and output are the same file"
  diff -r inputs kept >&2
}
refused_in a.safetensors kvzip compress - -o a.safetensors -f
refused_in a.safetensors kvzip convert - a.safetensors -f
refused_in a.kvz kvzip decompress -o a.kvz --to safetensors -f
refused_in a.safetensors kvzip convert /dev/stdin a.safetensors -f
refused_in a.kvz kvzip append a.kvz -

# What one file of a batch becomes may be another's input.
mkdir batch
cp a.kvz batch/a.h5.kvz
cp a.kvz batch/a.h5
expect_status 1 kvzip decompress batch/a.h5.kvz batch/a.h5 --to hdf5 -f
expect_in stderr "batch/a.h5: input and output are the same file"
expect_status 1 kvzip decompress batch/a.h5.kvz batch/a.h5 --to hdf5 -f --keep-going
expect_in stderr "2 files: 1 done, 1 failed"
cmp a.kvz batch/a.h5

# The other container that the first tokens are in is read, too; so are tables beside one.
kvzip synth -q -o long.safetensors --layers 2 --heads 2 --head-dim 32 --tokens 600
kvzip compress -q long.safetensors --tokens 0:512 -o one.safetensors.kvz --preset lossless
kvzip decompress -q one.safetensors.kvz
mkdir shared
kvzip compress -q --share-prefix --preset lossless one.safetensors long.safetensors --output-dir shared
expect_status 1 kvzip decompress shared/long.safetensors.kvz -o shared/one.safetensors.kvz --to safetensors -f
expect_in stderr "input and output are the same file"
kvzip decompress -q shared/long.safetensors.kvz -o again.safetensors
cmp again.safetensors long.safetensors

# What is not read may be replaced.
kvzip compress -q a.safetensors -o inputs/q.safetensors -f --preset int4
cmp a.kvz inputs/q.safetensors
