# Exit codes, one line per error, refusals before anything is touched, nothing half-written.
kvzip synth -o a.safetensors --layers 2 --heads 2 --head-dim 32 --tokens 600
kvzip compress -q a.safetensors -o a.kvz
cp a.safetensors copy.safetensors

one_line() {
  [ ! -s stdout ]
  if [ "$(wc -l <stderr)" != 1 ] || ! grep -q '^kvzip: ' stderr; then
    echo "not one line: $(cat stderr)" >&2
    exit 1
  fi
}
expect_status 2 kvzip
one_line
expect_status 2 kvzip nonsense
one_line
expect_in stderr "nonsense"
expect_status 2 kvzip compress
one_line
expect_status 2 kvzip compress a.safetensors --no-such-option
one_line
expect_status 2 kvzip compress a.safetensors -o x.kvz -j many
one_line
expect_status 5 kvzip compress nowhere.safetensors -o x.kvz
one_line
expect_in stderr "nowhere.safetensors"
expect_status 5 kvzip compress a.safetensors -o no/such/dir/x.kvz
one_line
expect_status 2 kvzip compress .
one_line
expect_status 1 kvzip compress . -o x.kvz # as one dump, of files that have tensors of one name
one_line

# Words of the command line that cannot be meant: layouts and metadata.
expect_status 2 kvzip compress a.safetensors -o x.kvz --layout XYZ
expect_in stderr "--layout XYZ: "
expect_status 2 kvzip inspect a.safetensors --layout HH
for meta in axes=XYZ rope_theta=-1 rope_theta=nan rope=sideways rope_layout=quarter n_layers=0 head_dim=0x40 \
  first_position=-1 'rope_theta[0-1]=0'; do
  expect_status 2 kvzip compress a.safetensors -o x.kvz --meta "$meta"
  one_line
  expect_in stderr "--meta $meta: "
done
[ ! -e x.kvz ]
expect_status 0 kvzip compress -q a.safetensors -o x.kvz --meta rope_theta=1e6 --meta 'rope_theta[0-1]=10000' --meta mine=-1 \
  --meta rope= --meta rope_scaling_type=default --meta head_dim=null --meta sliding_window=-1 --meta axes=HTD
rm x.kvz

# Existing outputs are kept without -f.
echo precious >keep.kvz
expect_status 1 kvzip compress a.safetensors -o keep.kvz
one_line
expect_in stderr "keep.kvz"
expect_in stderr "-f"
[ "$(cat keep.kvz)" = precious ]
expect_status 0 kvzip compress -q a.safetensors -o keep.kvz -f
cmp keep.kvz a.kvz
echo precious >keep.safetensors
expect_status 1 kvzip decompress a.kvz -o keep.safetensors
expect_status 1 kvzip convert a.safetensors keep.safetensors
expect_status 1 kvzip synth -o keep.safetensors --layers 1 --heads 1 --head-dim 8 --tokens 8
[ "$(cat keep.safetensors)" = precious ]

# The input is never the output.
expect_status 1 kvzip compress a.safetensors -o a.safetensors -f
one_line
ln -s a.safetensors sym.safetensors
expect_status 1 kvzip convert a.safetensors sym.safetensors -f
expect_status 1 kvzip decompress a.kvz -o a.kvz --to safetensors -f
cmp a.safetensors copy.safetensors

# What fails leaves nothing: neither the output nor a temporary file.
size=$(stat -c %s a.kvz)
cp a.kvz bad.kvz
printf '\377\377\377\377' | dd of=bad.kvz bs=1 seek=$((size / 2)) conv=notrunc status=none
expect_status 3 kvzip decompress bad.kvz -o out.safetensors
one_line
expect_in stderr "bad.kvz"
echo precious >old.safetensors
expect_status 3 kvzip decompress bad.kvz -o old.safetensors -f
[ "$(cat old.safetensors)" = precious ]
head -c $((size / 2)) a.kvz >cut.kvz
expect_status 3 kvzip decompress cut.kvz -o out.safetensors
one_line
head -c 3000 a.safetensors >cut.safetensors
expect_status 3 kvzip compress cut.safetensors -o out.kvz
one_line
# A folder for temporary files that is none, and what looks like a level and is none.
status=0
TMPDIR=$PWD/nowhere kvzip compress - -o out.kvz < <(cat a.safetensors) >stdout 2>stderr || status=$?
[ $status = 5 ]
one_line
expect_in stderr "TMPDIR"
for word in -0 -10; do
  expect_status 2 kvzip compress $word a.safetensors
  expect_in stderr "levels are -1 to -9"
done
# A senseless pipeline is refused before data is read.
expect_status 2 kvzip compress a.safetensors -o out.kvz --key pack,quant:bits=2
one_line
[ ! -e out.safetensors ]
[ ! -e out.kvz ]
[ ! -e x.kvz ]
if ls -A | grep -q 'kvzip-'; then
  ls -A >&2
  exit 1
fi

# Interrupted: nothing is left either.
kvzip synth -o big.safetensors --layers 64 --heads 8 --head-dim 128 --tokens 16384 2>/dev/null &
pid=$!
sleep 0.3
kill -TERM $pid
wait $pid && exit 1
[ ! -e big.safetensors ]
if ls -A | grep -q 'kvzip-'; then exit 1; fi
