# An error names the file that it is of, of all that a command has open, and says what the system said.
kvzip synth -q -o m.safetensors --layers 2 --heads 2 --head-dim 64 --tokens 600
kvzip synth -q -o q.safetensors --layers 2 --heads 2 --head-dim 64 --tokens 600 --seed 2
kvzip compress -q m.safetensors -o m.kvz --preset int8
kvzip compress -q q.safetensors -o q.kvz --preset lossless --role query
kvzip decompress -q m.kvz -o plain.safetensors --role key,value

# damage FILE OUT: three bits flipped amid its frames.
damage() {
  cp "$1" "$2"
  local size at
  size=$(stat -c %s "$1")
  for at in $((size / 2)) $((size / 2 + 1)) $((size / 2 + 2)); do
    printf '%b' "\\x$(printf %02x $(($(od -An -tu1 -j $at -N 1 "$1") ^ 1)))" | dd of="$2" bs=1 seek=$at conv=notrunc status=none
  done
}
damage m.kvz dmg.kvz
damage q.kvz qd.kvz

# says STATUS NAME TEXT COMMAND...: one line, which begins with the file's name and holds the text.
says() {
  expect_status "$1" "${@:4}"
  [ "$(grep -c '^kvzip: ' stderr)" = 1 ] || { cat stderr >&2 && exit 1; }
  grep -q "^kvzip: $2: " stderr || { cat stderr >&2 && exit 1; }
  expect_in stderr "$3"
}
says 3 dmg.kvz "checksum" kvzip compare dmg.kvz m.safetensors
says 3 dmg.kvz "checksum" kvzip compare m.safetensors dmg.kvz
says 3 dmg.kvz "checksum" kvzip compare dmg.kvz m.kvz
says 3 dmg.kvz "checksum" kvzip compare m.kvz dmg.kvz
says 3 dmg.kvz "checksum" kvzip compare m.safetensors dmg.kvz --attention
says 3 qd.kvz "checksum" kvzip attend m.kvz --queries qd.kvz -o x.safetensors
says 3 qd.kvz "checksum" kvzip compress -q m.safetensors --queries qd.kvz -o x.kvz
says 3 qd.kvz "checksum" kvzip prune m.safetensors x.safetensors --keep 100 --queries qd.kvz
says 1 plain.safetensors "recognised as queries" kvzip compress -q m.safetensors --queries plain.safetensors -o x.kvz
says 3 "standard input" "checksum" bash -c 'kvzip decompress - -o x.safetensors <dmg.kvz'
says 3 "standard input" "checksum" bash -c 'cat dmg.kvz | kvzip decompress - -o x.safetensors'
if command -v gnuplot >/dev/null; then
  says 3 dmg.kvz "checksum" kvzip inspect m.kvz --plot q.svg --original dmg.kvz
  [ ! -e q.svg ]
fi

# What a container begins with may be in another one.
mkdir shared
kvzip decompress -q m.kvz -o long.safetensors
kvzip compress -q m.safetensors --tokens 0:400 -o first.safetensors.kvz --preset lossless
kvzip decompress -q first.safetensors.kvz
kvzip compress -q --share-prefix --preset lossless first.safetensors m.safetensors --output-dir shared
damage shared/first.safetensors.kvz base.kvz
mv base.kvz shared/first.safetensors.kvz
says 3 shared/first.safetensors.kvz "checksum" kvzip decompress shared/m.safetensors.kvz -o x.safetensors
says 3 shared/first.safetensors.kvz "checksum" kvzip compare m.safetensors shared/m.safetensors.kvz
[ ! -e x.safetensors ] && [ ! -e x.kvz ]

# The system's reason.
says 5 nope "No such file" kvzip prune m.safetensors x.safetensors --mask nope
says 5 / "Is a directory" kvzip prune m.safetensors x.safetensors --mask /
says 5 nope "No such file" kvzip sweep m.safetensors --pipelines nope
says 5 ./nope "No such file" kvzip compress m.safetensors --preset ./nope -o x.kvz
says 5 nope "No such file" kvzip verify --files0-from nope
says 5 . "Is a directory" kvzip verify --files0-from .
says 5 m.kvz "cannot make this folder: " kvzip sweep m.safetensors --presets int8 --resume m.kvz
printf 'm.kvz\0q.kvz' >names # the last without its zero byte
kvzip verify -q --files0-from names

# A file beside the output is no file in TMPDIR.
mkdir out
expect_status 5 bash -c 'ulimit -f 8; kvzip compress -q m.safetensors --preset int8 --pages 16 -o out/o.kvz'
expect_in stderr "in out: cannot write: "
cp m.kvz out/b.kvz
expect_status 5 bash -c 'ulimit -f 8; kvzip bench --io out/b.kvz'
expect_in stderr "in out: cannot write: "
