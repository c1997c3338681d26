# Words and exit statuses where a command line is nearly right.
kvzip synth -q -o m.safetensors --layers 2 --heads 2 --head-dim 32 --tokens 600
kvzip compress -q m.safetensors -o m.kvz --preset int8
cp m.kvz m2.kvz

# A batch cannot name its outputs, but their format; and by their names the other commands know what they hold.
expect_status 2 kvzip decompress m.kvz m2.kvz --output-dir out
expect_in stderr "give the format with --to"
expect_status 2 kvzip decompress m.kvz
expect_in stderr "give the output with -o, as m.safetensors"
kvzip decompress -q m.kvz m2.kvz --output-dir out --to safetensors
[ "$(ls out)" = "$(printf 'm.safetensors\nm2.safetensors')" ]
kvzip compress -q -r out --output-dir again --preset int8
cmp again/m2.safetensors.kvz m.kvz
kvzip decompress -q m.kvz --to hdf5
kvzip inspect m.h5 >/dev/null
cp m.kvz named.h5.kvz
kvzip decompress -q named.h5.kvz
cmp named.h5 m.h5
kvzip decompress -q named.h5.kvz --to npz # a name tells what a file holds
kvzip inspect named.h5.npz >/dev/null
cp m.kvz bare
kvzip decompress -q bare --to npz
kvzip inspect bare.npz >/dev/null

# What is no container has no other name that would help.
expect_status 1 kvzip -d m.safetensors
expect_in stderr "kvzip: m.safetensors: not a .kvz container; 'kvzip convert' copies between other formats"
tar cf some.tar m.safetensors
expect_status 4 kvzip -d some.tar
expect_in stderr "some.tar: looks like a tar archive"
expect_status 5 kvzip -d nope
expect_in stderr "No such file"
expect_status 5 kvzip decompress nope m.kvz --keep-going --to safetensors -f # each by itself
expect_in stderr "2 files: 1 done, 1 failed"

# One output of several inputs.
expect_status 2 kvzip decompress m.kvz m2.kvz -c
expect_in stderr "-c (or -o -) writes the output of one container"
expect_status 2 kvzip decompress m.kvz m2.kvz -o x.h5
expect_in stderr "-o names the output of one container"

# Levels, which other compressors take there.
kvzip decompress -9 m.kvz -f -q --to safetensors
kvzip decompress -qf9 m.kvz --to safetensors
kvzip verify -q -1 m.kvz
expect_status 1 kvzip decompress m.kvz --tokens -9: --layers 99 -o x.h5 # a value stays one
expect_in stderr "the selection leaves nothing"

# Standard input: a copy of it can be cut, what reads twice takes a file.
kvzip compress -q m.safetensors -o nested.kvz --preset matryoshka
kvzip cut -q nested.kvz -o cut.kvz --share 0.5
kvzip cut -q - -o piped.kvz --share 0.5 < <(cat nested.kvz)
cmp cut.kvz piped.kvz
kvzip cut - -o piped.kvz -f --share 0.5 <nested.kvz 2>stderr
cmp cut.kvz piped.kvz
expect_in stderr "standard input: "
once() { # COMMAND...: with a container that comes from a pipe
  local status=0
  "$@" < <(cat m.kvz) >stdout 2>stderr || status=$?
  [ $status = 2 ] || { echo "exit status $status: $*" >&2 && cat stderr >&2 && exit 1; }
  expect_in stderr "pipe"
}
once kvzip sweep - --presets int8
once kvzip bench - --presets int8
once kvzip bench --io -
once kvzip compress - --pages 16 -o x.kvz
once kvzip prune - x.h5 --keep 8
once kvzip compare - m.safetensors --attention
kvzip sweep - --presets int8 -q <m.safetensors >/dev/null
# A file on standard input can be read as often as any.
for command in "sweep - --presets int8" "compress - --pages 16 -o x.kvz -f" "prune - x.h5 --keep 8" \
  "compare - m.safetensors --attention"; do
  # shellcheck disable=SC2086
  kvzip $command <m.kvz >stdout 2>stderr || { echo "$command" >&2 && cat stderr >&2 && exit 1; }
done
rm x.kvz x.h5

# Nobody types a container. script(1) gives a terminal.
if script --version 2>/dev/null | grep -q util-linux; then
  for command in "verify -" "plan - --bandwidth /dev/null --slo 1 --recompute-ms-per-token 1" "compress -" \
    "cut - -o x.kvz --share 0.5" "recover -" "inspect -" "decompress - -o x.h5"; do
    [ "$(timeout 20 script -qec "kvzip $command" typescript </dev/null >said 2>&1 || echo $?)" = 1 ]
    expect_in said "standard input: is a terminal: name a file or redirect it"
  done
fi

# What is saved is a share of all tokens, those of the base, too.
kvzip synth -q -f -o m.safetensors --layers 2 --heads 2 --head-dim 32 --tokens 600 --no-query
kvzip compress -q m.safetensors --tokens 0:599 -o first.safetensors.kvz --preset lossless
kvzip decompress -q first.safetensors.kvz
kvzip compress -q --share-prefix --preset lossless first.safetensors m.safetensors --output-dir shared
rm shared/first.safetensors.kvz
expect_status 0 kvzip recover shared/m.safetensors.kvz -o rest.safetensors
expect_in stderr "its first 599 tokens are in first.safetensors.kvz, which is not read here"
expect_in stderr "0.56 % of its values are in rest.safetensors" # 256 of a token and 600 identifiers, of 154200
expect_status 0 kvzip recover shared/m.safetensors.kvz --json
grep -q '"tokens": 599' stdout && grep -q '"values": 153344' stdout # 2 layers, keys and values, 2 heads of 32
