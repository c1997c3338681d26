# Pipes: every place where '-' can stand.
kvzip synth -o a.safetensors --layers 2 --heads 2 --head-dim 32 --tokens 600
kvzip compress -q a.safetensors -o a.kvz --preset lossless

cat a.safetensors | kvzip compress -q - -o - --preset lossless | kvzip decompress - -o out.safetensors
cmp out.safetensors a.safetensors
cat a.safetensors | kvzip compress -q - -o - --preset lossless | kvzip decompress - -o - --to safetensors | cmp - a.safetensors
# The same container through a pipe and through a file.
kvzip compress -q - --preset lossless <a.safetensors | cmp - a.kvz
kvzip decompress a.kvz -o - --to hdf5 | cat >a.h5
kvzip compare a.safetensors a.h5 --max-abs 0 >/dev/null
cat a.h5 | kvzip convert - - --to safetensors >b.safetensors
kvzip compare a.safetensors b.safetensors --max-abs 0 >/dev/null
cat a.kvz | kvzip verify -q -
# Who reads only a part of its input may leave before the writer is done.
kvzip inspect - < <(cat a.kvz) | grep lossless >/dev/null
kvzip inspect - < <(cat a.safetensors) | grep layers.1.key >/dev/null
kvzip decompress - -o part.safetensors --layers 1 --role value < <(cat a.kvz)
kvzip decompress a.kvz -o whole.safetensors --layers 1 --role value
cmp part.safetensors whole.safetensors

# Nothing but the data goes to standard output, and the summary is one line.
kvzip compress a.safetensors -o - 2>err | cmp - <(kvzip compress -q a.safetensors -o -)
[ "$(wc -l <err)" = 1 ]

# A reader that goes away ends the writer with one line and no signal.
{ kvzip synth -o - --to safetensors --layers 8 --heads 4 --head-dim 64 --tokens 4000 2>err || echo $? >status; } | head -c 100 >/dev/null
[ "$(cat status)" = 5 ]
[ "$(wc -l <err)" = 1 ]

# A cut pipe is an error, and leaves no output.
size=$(stat -c %s a.kvz)
expect_status 3 bash -c "head -c $((size / 2)) a.kvz | kvzip decompress - -o cut.safetensors"
[ ! -e cut.safetensors ]
expect_status 3 bash -c "head -c 5000 a.safetensors | kvzip compress - -o cut.kvz"
[ ! -e cut.kvz ]
expect_status 3 kvzip decompress - -o cut.safetensors
expect_status 2 kvzip compare - -
