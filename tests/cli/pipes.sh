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

# What never ends is refused for how it begins, or where its header says that it is over: little or nothing is copied.
mkdir spool
kvzip decompress -q a.kvz -o a.npy --layers 0 --role key
export TMPDIR=$PWD/spool
(
  ulimit -f 40960  # kB; a copy that grew beyond it would be an error of its own
  for endless in /dev/zero '<(yes)'; do
    for command in "4 verify" "3 recover" "4 compress -o x.kvz" "4 inspect" "4 decompress -o x.safetensors" \
      "3 cut -o x.kvz --share 0.5"; do
      expect_status "${command%% *}" timeout 60 bash -c "kvzip ${command#* } $endless"
      grep -q 'not a ' stderr
    done
  done
  expect_status 3 timeout 60 kvzip append /dev/zero a.safetensors
  expect_in stderr "not a .kvz file"
  expect_status 3 timeout 60 kvzip compress a.safetensors -o x.kvz --tables /dev/zero
  expect_in stderr "not a .kvzd file"
  expect_status 1 timeout 60 kvzip plan a.kvz --slo 1 --recompute-ms-per-token 1e6 --bandwidth /dev/zero
  expect_in stderr "a zero byte, so this is not a trace of bandwidth"
  expect_status 1 timeout 60 kvzip plan a.kvz --slo 1 --recompute-ms-per-token 1e6 --bandwidth <(yes)
  expect_in stderr "too long for a trace of bandwidth"
  # Headers that say how long the file is.
  for from in - /dev/stdin; do
    expect_status 3 timeout 60 bash -c "(cat a.safetensors; yes) | kvzip compress $from -o x.kvz"
    expect_in stderr "it goes on behind the $(stat -c %s a.safetensors) bytes that its header tells of"
    expect_status 3 timeout 60 bash -c "(cat a.npy; yes) | kvzip compress $from -o x.kvz"
    expect_in stderr "it goes on behind the $(stat -c %s a.npy) bytes that its header tells of"
  done
  expect_status 1 timeout 60 bash -c "yes | kvzip compress - -o x.kvz --raw kv:2LTHD:bf16:2x2x8x2x16"
  expect_status 1 timeout 60 kvzip compress /dev/zero -o x.kvz --raw kv:2LTHD:bf16:2x2x-x2x16
  expect_in stderr "is a device, of which nobody knows where it ends"
)
[ -z "$(ls -A spool)" ]
[ ! -e x.kvz ] && [ ! -e x.safetensors ]
# Pipes with names that end.
expect_status 0 kvzip verify <(cat a.kvz)
expect_status 0 kvzip recover <(cat a.kvz)
expect_status 0 kvzip compress -q <(cat a.safetensors) -o named.kvz --preset lossless
cmp named.kvz a.kvz
