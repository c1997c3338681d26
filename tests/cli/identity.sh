# What says that it belongs to another cache is not mixed; --mix insists.
kvzip synth -o a.safetensors --layers 2 --heads 1 --head-dim 16 --tokens 32 --no-query
for model in one two; do
  kvzip compress -q a.safetensors -o $model.kvz --preset lossless --meta model=$model --meta tokens_hash=ab
done
expect_status 1 kvzip compare one.kvz two.kvz
expect_in stderr "two.kvz: not of the same cache: they differ in model ('one' and 'two') (--mix goes on)"
expect_status 0 kvzip compare one.kvz two.kvz --mix --max-abs 0
# What only one says differs in nothing; other tokens are another cache, but of the same model.
kvzip compress -q a.safetensors -o other.kvz --preset lossless --meta model=one --meta tokens_hash=cd
kvzip compress -q a.safetensors -o none.kvz --preset lossless --meta tokens_hash=ab --meta model=one
expect_status 0 kvzip compare one.kvz none.kvz --max-abs 0
expect_status 1 kvzip compare one.kvz other.kvz
expect_in stderr "tokens ('ab' and 'cd')"
expect_status 0 kvzip decompress other.kvz -o like.safetensors --like one.kvz
expect_status 1 kvzip decompress other.kvz -o unlike.safetensors --like two.kvz
expect_in stderr "they differ in model ('one' and 'two')"
[ ! -e unlike.safetensors ]
expect_status 0 kvzip decompress other.kvz -o unlike.safetensors --like two.kvz --mix
# Fewer tokens fit, other heads and layers do not.
kvzip synth -o short.safetensors --layers 2 --heads 1 --head-dim 16 --tokens 8 --no-query
expect_status 0 kvzip decompress -f one.kvz -o like.safetensors --like short.safetensors --mix
kvzip synth -o wide.safetensors --layers 2 --heads 2 --head-dim 16 --tokens 32 --no-query
expect_status 1 kvzip decompress -f one.kvz -o like.safetensors --like wide.safetensors --mix
expect_in stderr "tensor layers.0.key is F16 [1, 32, 16], and in wide.safetensors it is F16 [2, 32, 16]"
kvzip synth -o few.safetensors --layers 1 --heads 1 --head-dim 16 --tokens 32 --no-query
expect_status 1 kvzip decompress -f one.kvz -o like.safetensors --like few.safetensors --mix
expect_in stderr "tensor layers.1.key is not in few.safetensors"
# Parts of one container.
for layer in 0 1; do
  kvzip decompress -q one.kvz -o $layer.safetensors --layers $layer
  kvzip compress -q $layer.safetensors -o $layer.kvz --preset lossless --meta model=$layer
done
expect_status 1 kvzip compress -q 0.kvz 1.kvz -o both.kvz
expect_in stderr "1.kvz: not of the same cache: they differ in model ('0' and '1')"
expect_status 0 kvzip compress -q 0.kvz 1.kvz -o both.kvz --mix --preset lossless
expect_status 0 kvzip compare a.safetensors both.kvz --max-abs 0 --mix --common
