# Dumps that begin with the same tokens store them once.
kvzip synth -o all.safetensors --layers 2 --heads 2 --head-dim 16 --tokens 96 --no-query
kvzip synth -o other.safetensors --layers 2 --heads 2 --head-dim 16 --tokens 64 --no-query --seed 9
kvzip compress -q all.safetensors -o all.kvz --preset lossless
kvzip decompress -q all.kvz -o a.safetensors --tokens 0:40
kvzip decompress -q all.kvz -o b.safetensors --tokens 0:70
cp all.safetensors c.safetensors
inputs=(a.safetensors b.safetensors c.safetensors other.safetensors)
for preset in lossless kvzip-near kivi-2; do
  expect_status 0 kvzip compress "${inputs[@]}" --output-dir $preset --share-prefix --chunk-tokens 16 --preset $preset
  expect_in stderr "40 tokens of"
  expect_in stderr "70 tokens of"
  expect_in stderr "; 110 tokens, "
  expect_in stderr "stored once"
  expect_status 0 kvzip verify $preset/*.kvz
  expect_status 0 kvzip decompress -q $preset/c.safetensors.kvz -o c-$preset.safetensors
  expect_status 0 kvzip decompress -qf $preset/c.safetensors.kvz -o part.safetensors --tokens 8:24
  expect_status 0 kvzip decompress -qf $preset/a.safetensors.kvz -o same.safetensors --tokens 8:24
  expect_status 0 kvzip compare same.safetensors part.safetensors --max-abs 0
done
expect_status 0 kvzip compare all.safetensors c-lossless.safetensors --max-abs 0
expect_status 0 kvzip compare other.safetensors lossless/other.safetensors.kvz --max-abs 0
expect_status 0 kvzip inspect lossless/c.safetensors.kvz
expect_in stdout "shared: its first 70 tokens are those of b.safetensors.kvz"
expect_status 0 kvzip compress a.safetensors b.safetensors --output-dir json --share-prefix --chunk-tokens 16 --json
expect_in stdout '"shared_tokens":40'
# Too few tokens in common for a frame.
expect_status 0 kvzip compress a.safetensors b.safetensors --output-dir few --share-prefix
if grep -q shared stderr; then exit 1; fi
# A pipe, and commands that take no such container.
expect_status 4 bash -c 'kvzip decompress - -o piped.safetensors <lossless/b.safetensors.kvz'
expect_in stderr "not from a pipe"
# What such a container holds itself can be saved without the other.
mkdir alone
cp lossless/b.safetensors.kvz alone/b.kvz
for saved in saved.kvz saved.safetensors; do
  expect_status 0 kvzip recover alone/b.kvz -o $saved
  expect_in stderr "alone/b.kvz: its first 40 tokens are in a.safetensors.kvz, which is not read here"
  expect_in stderr "43.46 % of its values are in $saved"
  expect_status 0 kvzip decompress -qf all.kvz -o own.safetensors --tokens 40:70
  expect_status 0 kvzip compare own.safetensors $saved --max-abs 0
done
expect_status 0 kvzip verify saved.kvz
expect_status 0 kvzip recover alone/b.kvz --json
expect_in stdout '"base"'
expect_status 4 bash -c 'kvzip verify - <lossless/b.safetensors.kvz'
expect_status 0 kvzip inspect alone/b.kvz
expect_in stdout "shared: its first 40 tokens are those of a.safetensors.kvz"
expect_in stdout "2x30x16"
expect_in stderr "shown are the tokens that it holds itself"
expect_status 0 kvzip inspect alone/b.kvz a.safetensors
expect_in stdout "alone/b.kvz"
expect_status 5 kvzip decompress alone/b.kvz -o x.safetensors
expect_status 4 kvzip cut lossless/b.safetensors.kvz -o less.kvz --share 0.5
expect_status 4 kvzip append lossless/b.safetensors.kvz other.safetensors --preset lossless --mix
expect_in stderr "nothing is appended"
# The base was written again, has another name, or is not there.
cp -r lossless changed
kvzip compress -qf other.safetensors -o changed/a.safetensors.kvz
expect_status 3 kvzip decompress changed/b.safetensors.kvz -o x.safetensors
expect_in stderr "changed/a.safetensors.kvz: it has changed"
expect_status 3 kvzip verify changed/c.safetensors.kvz
rm changed/a.safetensors.kvz
expect_status 5 kvzip decompress changed/c.safetensors.kvz -o x.safetensors
expect_in stderr "a.safetensors.kvz"
[ ! -e x.safetensors ]
# A base that grows stays the base: what was appended since is not looked at, finished or not.
cp -r lossless grows
size=$(stat -c %s grows/a.safetensors.kvz)
for turn in 1 2; do
  expect_status 0 kvzip append -q grows/a.safetensors.kvz all.safetensors --tokens $((20 + 20 * turn)):$((40 + 20 * turn)) \
    --preset lossless --chunk-tokens 16
  expect_status 0 kvzip verify grows/*.kvz
  for one in b c; do expect_status 0 kvzip compare $one.safetensors grows/$one.safetensors.kvz --max-abs 0; done
done
cp grows/a.safetensors.kvz grown.kvz
tar cf grown.tar -C grows a.safetensors.kvz b.safetensors.kvz c.safetensors.kvz
expect_status 0 kvzip verify grown.tar
for cut in 1 41 2000; do
  head -c -$cut grown.kvz >grows/a.safetensors.kvz
  expect_status 0 kvzip compare b.safetensors grows/b.safetensors.kvz --max-abs 0
done
head -c $((size + 7)) grown.kvz >grows/a.safetensors.kvz
expect_status 0 kvzip verify grows/b.safetensors.kvz
# But not what only looks like it.
(cat lossless/a.safetensors.kvz && head -c 3000 all.safetensors) >grows/a.safetensors.kvz
expect_status 3 kvzip decompress grows/b.safetensors.kvz -o x.safetensors
expect_in stderr "grows/a.safetensors.kvz: it has changed"
(cat lossless/a.safetensors.kvz lossless/other.safetensors.kvz) >grows/a.safetensors.kvz
expect_status 3 kvzip decompress grows/b.safetensors.kvz -o x.safetensors
head -c -3000 lossless/a.safetensors.kvz >grows/a.safetensors.kvz
expect_status 3 kvzip decompress grows/b.safetensors.kvz -o x.safetensors
kvzip compress -qf other.safetensors -o grows/a.safetensors.kvz --preset lossless --tokens 0:40
expect_status 0 kvzip append -q --mix grows/a.safetensors.kvz other.safetensors --tokens 40:
expect_status 3 kvzip decompress grows/b.safetensors.kvz -o x.safetensors
cp grown.kvz grows/a.safetensors.kvz
printf '\377' | dd of=grows/a.safetensors.kvz bs=1 seek=$((size - 60)) conv=notrunc status=none
expect_status 3 kvzip decompress grows/b.safetensors.kvz -o x.safetensors
[ ! -e x.safetensors ]
# -o names a folder, made or not; a file holds an element once, for one tensor.
expect_status 2 kvzip compress a.safetensors b.safetensors -o one.kvz --share-prefix
expect_in stderr "one.kvz is one file; give a folder, as -o one/"
expect_status 2 kvzip compress a.safetensors b.safetensors -o a.safetensors --share-prefix
expect_status 2 kvzip compress a.safetensors b.safetensors -o - --share-prefix
for folder in named named/again/; do
  expect_status 0 kvzip compress "${inputs[@]}" -o $folder --share-prefix --chunk-tokens 16 --preset lossless
done
diff -r lossless named --exclude again
diff -r lossless named/again
# Files at a time: a base is ready before those that need it.
expect_status 0 kvzip compress "${inputs[@]}" -o jobs --share-prefix --chunk-tokens 16 --preset lossless --jobs 3
expect_in stderr "; 110 tokens, "
diff -r lossless jobs
# A pipe gives its bytes once: it shares nothing, whichever it is.
kvzip compress - -q --share-prefix --preset lossless --chunk-tokens 16 <a.safetensors | cmp - lossless/a.safetensors.kvz
mkfifo pipe.safetensors
cat a.safetensors >pipe.safetensors &
expect_status 0 timeout 60 kvzip compress pipe.safetensors b.safetensors -o of-pipe --share-prefix --chunk-tokens 16 --preset lossless
wait
if grep -q "shared with" stderr; then exit 1; fi
expect_status 0 kvzip compare a.safetensors of-pipe/pipe.safetensors.kvz --max-abs 0
# A base that fails is none.
mkdir -p failing/a.safetensors.kvz
for jobs in 1 3; do
  expect_status 5 kvzip compress "${inputs[@]}" -o failing --share-prefix --chunk-tokens 16 --preset lossless --jobs $jobs \
    --keep-going -f
  expect_in stderr "a.safetensors.kvz"
  if grep -q "shared with a.safetensors" stderr; then exit 1; fi
  expect_status 0 kvzip compare b.safetensors failing/b.safetensors.kvz --max-abs 0
  expect_status 0 kvzip compare c.safetensors failing/c.safetensors.kvz --max-abs 0
done
# Inputs go when all are read.
for jobs in 1 2; do
  mkdir -p gone
  cp a.safetensors b.safetensors c.safetensors gone
  expect_status 0 kvzip compress gone/*.safetensors -o gone-packed --share-prefix --chunk-tokens 16 --preset lossless --rm \
    --jobs $jobs
  [ -z "$(ls gone)" ]
  expect_status 0 kvzip compare c.safetensors gone-packed/c.safetensors.kvz --max-abs 0
  rm -r gone-packed
done
# Targets are each container's own; attention looks at what another one stores.
expect_status 0 kvzip compress a.safetensors b.safetensors c.safetensors -o bounded --share-prefix --chunk-tokens 16 \
  --max-error 0.01
expect_in stderr "; 110 tokens, "
for one in a b c; do
  expect_status 0 kvzip compare $one.safetensors bounded/$one.safetensors.kvz --max-abs 0.01
done
expect_status 2 kvzip compress a.safetensors b.safetensors --share-prefix --target-attention 0.1
expect_in stderr "shared tokens"
expect_status 2 kvzip compress a.safetensors b.safetensors --share-prefix --order token

# A name that is a pipe is not waited for.
cp -r lossless piped
rm piped/a.safetensors.kvz
mkfifo piped/a.safetensors.kvz
expect_status 5 timeout 20 kvzip decompress piped/b.safetensors.kvz -o x.safetensors

# Dumps that begin alike, each with one token more: as many bases behind one another as are allowed, and no more.
mkdir chain
for n in $(seq 20 39); do kvzip decompress -q all.kvz -o chain/$n.safetensors --tokens 0:$n; done
expect_status 0 kvzip compress chain/*.safetensors --output-dir chained --share-prefix --chunk-tokens 4 --preset lossless
for n in 20 30 39; do
  expect_status 0 kvzip compare chain/$n.safetensors chained/$n.safetensors.kvz --max-abs 0
done
expect_status 0 kvzip verify chained/*.kvz

# More tokens than are compared at a time.
kvzip synth -q -o long.safetensors --layers 2 --heads 1 --head-dim 8 --tokens 900 --no-query
kvzip compress -q long.safetensors -o long.kvz --preset lossless
kvzip decompress -q long.kvz -o front.safetensors --tokens 0:700
expect_status 0 kvzip compress front.safetensors long.safetensors --output-dir longer --share-prefix --preset int8
expect_in stderr "700 tokens of"
expect_status 0 kvzip compare long.safetensors longer/long.safetensors.kvz --max-nrmse 0.05

# Without the option nothing changes.
kvzip compress -q b.safetensors -o alone.kvz --preset int8
kvzip compress -q other.safetensors b.safetensors --output-dir none --share-prefix --preset int8
cmp alone.kvz none/b.safetensors.kvz
