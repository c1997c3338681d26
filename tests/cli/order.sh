# --order token: all layers of some tokens together, in a file that decodes to what one in the order of layers does.
kvzip synth -q -o a.safetensors --layers 3 --heads 2 --head-dim 32 --tokens 700 --no-query
kvzip compress -q a.safetensors -o layer.kvz --preset int8
expect_status 0 kvzip compress a.safetensors -o token.kvz --preset int8 --order token:256
expect_in stderr "3 containers of tokens"
kvzip decompress -q layer.kvz -o layer.safetensors
kvzip decompress -q token.kvz -o token.safetensors
cmp layer.safetensors token.safetensors
expect_status 0 kvzip verify token.kvz
expect_status 0 kvzip inspect token.kvz
expect_in stdout "2 appended behind the first"
# Its front is the container of the first tokens.
kvzip compress -q a.safetensors -o front.kvz --preset int8 --tokens :256
cmp -n "$(stat -c %s front.kvz)" front.kvz token.kvz
# Rounded up to whole frames; one of all is the container in the order of layers, which is the default.
kvzip compress -q -f a.safetensors -o again.kvz --preset int8 --order token:100
cmp again.kvz token.kvz
for order in layer token token:700 token:100000; do
  kvzip compress -q -f a.safetensors -o again.kvz --preset int8 --order $order
  cmp again.kvz layer.kvz
done
kvzip compress -q -f a.safetensors -o again.kvz --order token:256 # frames of 2048 tokens
kvzip compress -q -f a.safetensors -o same.kvz
cmp again.kvz same.kvz
# Standard output, batches, a part of the input, a dump from a pipe, --rm, any number of threads.
kvzip compress -q a.safetensors -o - --preset int8 --order token:256 | cmp - token.kvz
kvzip compress -q - -o - --preset int8 --order token:256 -j 1 <a.safetensors | cmp - token.kvz
cp a.safetensors b.safetensors
expect_status 0 kvzip compress -q a.safetensors b.safetensors --output-dir out --preset int8 --order token:256
cmp out/b.safetensors.kvz token.kvz
expect_status 0 kvzip compress -q b.safetensors --rm --preset int8 --order token:256
cmp b.safetensors.kvz token.kvz
[ ! -e b.safetensors ]
expect_status 0 kvzip compress -q a.safetensors -o part.kvz --preset lossless --order token:256 --tokens 100:612 --layers 1
kvzip decompress -q part.kvz -o part.safetensors
kvzip compress -q a.safetensors -o part-layer.kvz --preset lossless --tokens 100:612 --layers 1
kvzip decompress -q part-layer.kvz -o part-layer.safetensors
cmp part.safetensors part-layer.safetensors
# It grows, and becomes a plain one again.
kvzip compress -q a.safetensors -o grows.kvz --preset lossless --order token:256 --tokens :600
expect_status 0 kvzip append -q grows.kvz a.safetensors --tokens 600:
expect_status 0 kvzip compare a.safetensors grows.kvz --max-abs 0
kvzip compress -q -f token.kvz -o again.kvz --preset lossless
expect_status 0 kvzip compare token.kvz again.kvz --max-abs 0
# What HDF5 holds beside tensors, and what has no tokens, comes back as it was.
kvzip compress -q "$root/samples/smollm2.h5" -o h5.kvz --preset lossless --chunk-tokens 16 --order token:16
expect_status 0 kvzip decompress -q h5.kvz -o h5.h5
kvzip compare "$root/samples/smollm2.h5" h5.h5 --max-abs 0
# What cannot be.
expect_status 1 kvzip compress -q a.safetensors -o token.kvz --preset int8 --order token:256
expect_in stderr "exists already"
expect_status 2 kvzip compress a.safetensors -o x.kvz --order rows
expect_in stderr "expected layer, token, or token:N"
expect_status 2 kvzip compress a.safetensors -o x.kvz --order token:0
expect_status 2 kvzip compress a.safetensors -o x.kvz --order token --target-ratio 4
expect_in stderr "not with --order token"
expect_status 2 kvzip compress a.safetensors -o x.kvz --order token --pages 16
expect_status 2 bash -c 'cat token.kvz | kvzip compress - -o x.kvz --order token'
expect_status 4 bash -c 'cat token.kvz | kvzip decompress - -o x.safetensors'
[ ! -e x.safetensors ]
kvzip synth -q -o ring.safetensors --layers 2 --heads 2 --head-dim 32 --tokens 100 --no-query
kvzip compress -q ring.safetensors -o one.kvz --layers 0 --preset lossless
kvzip compress -q ring.safetensors -o two.kvz --layers 1 --tokens 40: --preset lossless
expect_status 1 kvzip compress one.kvz two.kvz --mix -o x.kvz --preset lossless --order token:32
expect_in stderr "they cannot stand in the order of tokens"
[ ! -e x.kvz ]
