# attend: outputs over a stored file are those over the decoded one, whatever the threads, chunks and formats.
kvzip synth -q -o a.safetensors --layers 3 --heads 2 --head-dim 32 --tokens 600
kvzip compress -q a.safetensors -o a.kvz --preset kivi-2 --chunk-tokens 256
kvzip decompress -q a.kvz -o d.safetensors
kvzip decompress -q a.kvz -o cache.safetensors --role key,value
kvzip decompress -q a.kvz -o q.safetensors --role query

expect_status 0 kvzip attend a.kvz -o stored.safetensors
[ ! -s stdout ]
expect_status 0 kvzip attend d.safetensors -o decoded.safetensors
cmp stored.safetensors decoded.safetensors
kvzip attend -q a.kvz -o one.safetensors -j 1
cmp stored.safetensors one.safetensors
kvzip attend -q cache.safetensors --queries q.safetensors -o other.safetensors
cmp stored.safetensors other.safetensors
kvzip compress -q a.safetensors -o short.kvz --preset lossless --chunk-tokens 100
kvzip attend -q short.kvz -o short.safetensors
kvzip attend -q a.safetensors -o exact.safetensors
kvzip compare short.safetensors exact.safetensors --max-abs 0.00001
# Coarse codes move the outputs.
expect_status 6 kvzip compare stored.safetensors exact.safetensors --max-abs 0.00001

expect_status 0 kvzip inspect stored.safetensors
expect_in stdout "layers.0.attention"
expect_in stdout "layers.2.attention"
kvzip attend -q a.kvz -o out.h5
kvzip convert -q out.h5 back.safetensors
kvzip compare stored.safetensors back.safetensors --max-abs 0
kvzip attend -q a.kvz -o out.npz
kvzip compare stored.safetensors out.npz --max-abs 0
kvzip attend -q a.kvz -o - --to safetensors | cmp - stored.safetensors
kvzip attend -q a.kvz -o sharp.safetensors --attention-scale 3
expect_status 6 kvzip compare stored.safetensors sharp.safetensors --max-abs 0.00001

# What cannot be: no queries, queries that do not fit, a container from a pipe, an output that is there.
expect_status 1 kvzip attend cache.safetensors -o x.safetensors
expect_in stderr "no queries"
kvzip synth -q -o b.safetensors --layers 3 --heads 2 --head-dim 16 --tokens 20
expect_status 1 kvzip attend cache.safetensors --queries b.safetensors -o x.safetensors
expect_in stderr "do not fit"
expect_status 1 kvzip attend b.safetensors --queries cache.safetensors -o x.safetensors
expect_in stderr "cache.safetensors: none of its"
got=0
# shellcheck disable=SC2002
cat a.kvz | kvzip attend - -o x.safetensors 2>stderr || got=$?
[ "$got" = 2 ]
expect_status 1 kvzip attend a.kvz -o stored.safetensors
expect_in stderr "stored.safetensors"
expect_status 2 kvzip attend a.kvz -o x.kvz
expect_status 1 kvzip attend a.kvz -o a.kvz --to safetensors -f
head -c 3000 a.kvz >torn.kvz
expect_status 3 kvzip attend torn.kvz -o x.safetensors
[ ! -e x.safetensors ]
