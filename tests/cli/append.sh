# A conversation that grows: each turn costs what is new, and the container is what one of all tokens would be.
kvzip synth -o all.safetensors --layers 2 --heads 2 --head-dim 16 --tokens 96 --no-query
kvzip compress -q all.safetensors -o all.kvz --preset lossless
n=0
for tokens in 0:40 40:41 41:96; do
  n=$((n + 1))
  kvzip decompress -q all.kvz -o $n.safetensors --tokens $tokens
done
expect_status 0 kvzip compress -q 1.safetensors -o grown.kvz --preset lossless
cp grown.kvz first.kvz
expect_status 0 kvzip append grown.kvz 2.safetensors
expect_in stderr "grown.kvz: 40 tokens and 1 more"
cp grown.kvz second.kvz
expect_status 0 kvzip append -q grown.kvz all.safetensors --tokens 41:
cmp -n "$(stat -c %s second.kvz)" second.kvz grown.kvz
expect_status 0 kvzip compare all.safetensors grown.kvz --max-abs 0
expect_status 0 kvzip verify grown.kvz
expect_status 0 kvzip inspect grown.kvz
expect_in stdout "grown: 2 appended behind the first"
expect_status 0 kvzip decompress -q grown.kvz -o part.safetensors --tokens 38:44 --layers 1
kvzip decompress -q all.kvz -o same.safetensors --tokens 38:44 --layers 1
expect_status 0 kvzip compare same.safetensors part.safetensors --max-abs 0
kvzip compress -q grown.kvz -o again.kvz --preset lossless
expect_status 0 kvzip compare all.safetensors again.kvz --max-abs 0
expect_status 1 kvzip cut grown.kvz -o less.kvz --share 0.5
expect_in stderr "others were appended to it"
# Positions that do not follow, another model, pipes, tokens that are there.
expect_status 1 kvzip append first.kvz 3.safetensors
expect_in stderr "its first token is at position 41, and the next one of first.kvz is 40"
kvzip compress -q 1.safetensors -o one.kvz --preset lossless --meta model=one
kvzip compress -q 2.safetensors -o two.kvz --preset lossless --meta model=two
expect_status 1 kvzip append one.kvz two.kvz
expect_in stderr "they differ in model ('one' and 'two')"
# From a pipe, never a part of the tokens for all of them: refused at the end of the first container, or copied.
for command in "decompress - -o piped.safetensors" "decompress - -o piped.safetensors --layers 0 --tokens 0:10" "inspect -" \
  "convert - piped.safetensors" "diff - all.kvz" "diff - 1.kvz" verify; do
  kvzip compress -qf 1.safetensors -o 1.kvz --preset lossless
  expect_status 4 bash -c "cat grown.kvz | kvzip $command"
  expect_in stderr "one that others were appended to is read from a file"
  [ ! -e piped.safetensors ]
done
expect_status 3 bash -c 'cat all.kvz 1.safetensors | kvzip decompress - -o piped.safetensors'
expect_in stderr "something follows the end of the container"
expect_status 4 bash -c 'cat grown.kvz | kvzip inspect'
expect_in stdout "40 tokens; every bit comes back"
expect_status 3 bash -c 'head -c 2000 all.kvz | kvzip inspect'
expect_in stdout "96 tokens; every bit comes back"
expect_in stderr "kvzip: standard input: the input ends too early"
expect_status 0 bash -c 'cat grown.kvz | kvzip recover -o piped.safetensors'
expect_status 0 kvzip compare all.safetensors piped.safetensors --max-abs 0
rm piped.safetensors
# Standard input that is a file is read as one.
expect_status 0 bash -c 'kvzip decompress - -o piped.safetensors <grown.kvz'
expect_status 0 kvzip compare all.safetensors piped.safetensors --max-abs 0
expect_status 0 bash -c 'kvzip inspect <grown.kvz'
expect_in stdout "96 tokens; every bit comes back"
expect_in stdout "grown: 2 appended behind the first"
expect_status 0 bash -c 'kvzip verify <grown.kvz'
expect_status 0 bash -c 'kvzip recover -f -o piped.safetensors <grown.kvz'
expect_status 0 kvzip compare all.safetensors piped.safetensors --max-abs 0
expect_status 0 bash -c 'kvzip compress -q --order token --chunk-tokens 16 --preset lossless all.safetensors -o order.kvz && kvzip compare all.safetensors - --max-abs 0 <order.kvz'
# What was taken of it by another is missing, so the rest is none.
expect_status 4 bash -c '(head -c 100 >/dev/null; kvzip verify) <grown.kvz'
kvzip synth -o 48.safetensors --layers 1 --heads 1 --head-dim 16 --tokens 48
kvzip compress -q 48.safetensors -o 48.kvz --preset lossless
cp 48.kvz copy.kvz
expect_status 1 kvzip append 48.kvz 48.safetensors
expect_in stderr "its first 48 tokens are those of 48.kvz: --tokens 48:"
cmp 48.kvz copy.kvz
kvzip compress -q 48.safetensors -o kv.kvz --preset lossless --tokens 0:40 --role key,value
expect_status 1 kvzip append kv.kvz 48.safetensors --tokens 40:
expect_in stderr "has nothing to go on from"
expect_status 0 kvzip append -q kv.kvz 48.safetensors --tokens 40: --role key,value
expect_status 0 kvzip compare 48.safetensors kv.kvz --common --max-abs 0
# An append that was cut.
head -c -20 grown.kvz >cut.kvz
expect_status 3 kvzip verify cut.kvz
expect_in stderr "of an append that was not finished"
expect_status 0 kvzip inspect cut.kvz
expect_in stdout "of an append that was not finished"
expect_status 0 kvzip decompress -q cut.kvz -o cut.safetensors
kvzip decompress -q second.kvz -o second.safetensors
cmp cut.safetensors second.safetensors
expect_status 0 kvzip append -q cut.kvz 3.safetensors
expect_status 0 kvzip compare all.safetensors cut.kvz --max-abs 0
# What the container was made with has no name here, or not all of it.
printf 'key = quant:bits=8,pack\nvalue = quant:bits=8,pack\n' >mine.txt
kvzip compress -q 1.safetensors -o own.kvz --preset ./mine.txt
expect_status 2 kvzip append own.kvz 2.safetensors
expect_in stderr "give --preset"
expect_status 0 kvzip append -q own.kvz 2.safetensors --preset ./mine.txt
kvzip compress -q 1.safetensors -o own.kvz -f --preset int8 --key quant:bits=4,pack
expect_status 2 kvzip append own.kvz 2.safetensors
expect_in stderr "is not coded as preset int8 does"
# The default, with tables of repeats and chains, in three turns.
kvzip compress -q 1.safetensors -o near.kvz
expect_status 0 kvzip append -q near.kvz 2.safetensors
expect_status 0 kvzip append -q near.kvz 3.safetensors
expect_status 0 kvzip verify near.kvz
expect_status 0 kvzip compare all.safetensors near.kvz --max-nrmse 0.1
