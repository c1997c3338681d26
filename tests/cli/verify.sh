# verify: sound files, damage named and counted, the worst status of several.
kvzip synth -o a.safetensors --layers 2 --heads 2 --head-dim 32 --tokens 600
kvzip compress -q a.safetensors -o a.kvz
expect_status 0 kvzip verify a.kvz a.safetensors
[ ! -s stdout ]
expect_in stderr "a.kvz: sound"
expect_in stderr "a.safetensors: sound"
expect_status 0 kvzip verify -q a.kvz
[ ! -s stderr ]
expect_status 0 bash -c 'kvzip verify - <a.kvz'

# One flipped bit in the middle of the data.
size=$(stat -c %s a.kvz)
flip() {
  cp a.kvz "$2"
  local byte
  byte=$(od -An -tu1 -j "$1" -N 1 a.kvz | tr -d ' ')
  printf "$(printf '\\%03o' $((byte ^ 16)))" | dd of="$2" bs=1 seek="$1" conv=notrunc status=none
}
flip $((size / 2)) bad.kvz
expect_status 3 kvzip verify bad.kvz
expect_in stderr "bad.kvz"
flip $((size - 3)) tail.kvz
expect_status 3 kvzip verify tail.kvz
flip 20 head.kvz
expect_status 3 kvzip verify head.kvz
head -c $((size / 3)) a.kvz >cut.kvz
expect_status 3 kvzip verify cut.kvz
head -c $((size - 1)) a.kvz >short.kvz
expect_status 3 kvzip verify short.kvz
: >empty.kvz
expect_status 3 kvzip verify empty.kvz

# All are looked at; the highest status is returned.
expect_status 3 kvzip verify bad.kvz a.kvz
expect_in stderr "a.kvz: sound"
expect_status 5 kvzip verify bad.kvz missing.kvz a.kvz
expect_in stderr "missing.kvz"
head -c 1000 a.safetensors >cut.safetensors
expect_status 3 kvzip verify cut.safetensors
expect_status 2 kvzip verify
