# inspect: tables for people, JSON for scripts, of dumps and containers.
kvzip synth -o a.safetensors --layers 3 --heads 2 --head-dim 32 --tokens 300
expect_status 0 kvzip inspect a.safetensors
[ ! -s stderr ]
expect_in stdout "10 tensors"
expect_in stdout "theta 500000, half layout"
expect_in stdout "2x300x32"
expect_in stdout "token_ids"
expect_status 0 kvzip inspect a.safetensors --json
expect_in stdout '"schema": 1'
expect_in stdout '"kind": "dump"'
expect_in stdout '"recognised": 6'
expect_in stdout '"why":'

kvzip compress -q a.safetensors -o a.kvz --preset gear-2
expect_status 0 kvzip inspect a.kvz
expect_in stdout "preset gear-2"
expect_in stdout "lowrank"
expect_in stdout "factors"
expect_status 0 kvzip inspect a.kvz --json
expect_in stdout '"kind": "kvz"'
expect_in stdout '"preset": "gear-2"'
expect_in stdout '"bits_per_value":'
expect_in stdout '"file_bytes": '"$(stat -c %s a.kvz)"
if command -v python3 >/dev/null; then
  python3 - stdout "$(stat -c %s a.kvz)" <<'PY'
import json, sys
d = json.load(open(sys.argv[1]))
assert d["totals"]["key"]["coded_bytes"] == sum(g["coded_bytes"] for g in d["groups"] if g["role"] == "key")
assert d["totals"]["file"]["source_bytes"] == sum(t["bytes"] for t in d["tensors"])
assert d["totals"]["file"]["file_bytes"] == int(sys.argv[2])
assert all(sum(g["streams"].values()) <= g["coded_bytes"] for g in d["groups"])
PY
fi

# Many tensors: the layers that look alike share a row; -v shows each.
kvzip synth -o many.safetensors --layers 30 --heads 1 --head-dim 4 --tokens 3 --no-query
kvzip inspect many.safetensors >short
expect_in short "layers.#.key (30 tensors)"
expect_in short "0-29"
[ "$(wc -l <short)" -lt 12 ]
[ "$(kvzip inspect -v many.safetensors | wc -l)" -gt 60 ]
kvzip compress -q many.safetensors -o many.kvz
[ "$(kvzip inspect many.kvz | wc -l)" -lt 20 ]

expect_status 1 kvzip inspect a.safetensors --strict --map '*=other:'
expect_status 5 kvzip inspect nowhere.safetensors
echo 'some text' >text
expect_status 4 kvzip inspect text
expect_in stderr "text"

# Where two orders of axes fit none is taken: compress, convert and sweep say so, --why explains, --layout settles it.
kvzip synth -o short.safetensors --layers 2 --heads 8 --head-dim 32 --tokens 4 --no-query
kvzip convert -q short.safetensors s.h5
if command -v python3 >/dev/null; then
  python3 - <<'PY'
import json, random, struct
raw = open("short.safetensors", "rb").read()
n = struct.unpack("<Q", raw[:8])[0]
head = json.loads(raw[8:8 + n])
del head["__metadata__"]
head["ids"] = head.pop("token_ids")
head["ids"]["shape"].append(1)
text = json.dumps(head).encode()
random.seed(1)  # values that do not tell, either
size = len(raw) - 8 - n
noise = struct.pack(f"<{size // 2}e", *(random.gauss(0, 1) for _ in range(size // 2)))
open("open.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + noise)
PY
  expect_status 0 kvzip inspect open.safetensors --why
  expect_in stdout "--layout HTD or --layout THD settles it"
  expect_status 0 kvzip compress open.safetensors -o open.kvz
  expect_in stderr "4 of 4 float tensors stay lossless, as 'layers.0.key'"
  expect_status 0 kvzip compress -q open.safetensors -o open.kvz -f
  [ ! -s stderr ]
  expect_status 0 kvzip convert open.safetensors open.h5
  expect_in stderr "4 of 4 float tensors stay lossless"
  expect_status 1 kvzip compress open.safetensors -o x.kvz --strict
  expect_in stderr "--layout HTD or --layout THD"
  [ ! -e x.kvz ]
  expect_status 0 kvzip compress open.safetensors -o open.kvz -f --strict --layout HTD
  expect_status 1 kvzip sweep open.safetensors --presets int4
  expect_in stderr "--layout HTD or --layout THD"
  expect_status 1 kvzip compress open.safetensors -o x.kvz --strict --map 'layers.{L}.key=key:HTD'
  expect_in stderr "2 of 4 float tensors"
  expect_status 0 kvzip compress open.safetensors -o x.kvz --strict --map '*.key=key:HTD' --map '*.value=other:'
fi
expect_status 2 kvzip inspect a.safetensors --why --json

# What is lost, and how to get at the rest.
expect_status 0 kvzip inspect a.kvz
expect_in stdout "lossy: key, value"
expect_in stdout "to decode: kvzip decompress a.kvz -o a.safetensors"
kvzip compress -q a.safetensors -o "all of it.safetensors.kvz" --preset lossless
expect_status 0 kvzip inspect "all of it.safetensors.kvz"
expect_in stdout "every bit comes back"
bash -c "$(sed -n 's/^to decode: //p' stdout)"
kvzip compare -q a.safetensors "all of it.safetensors" --max-abs 0 >stdout

# A picture of layers; of one file, and never over another.
expect_status 0 kvzip inspect a.kvz --plot rate.svg
[ ! -s stdout ]
expect_in rate.svg "bits per value"
if grep -q nrmse rate.svg; then exit 1; fi
expect_status 0 kvzip inspect a.kvz --plot both.svg --original a.safetensors
expect_in both.svg "error (nrmse)"
expect_status 0 kvzip inspect a.kvz --plot both.png --original a.safetensors
head -c 8 both.png | cmp - <(printf '\x89PNG\r\n\x1a\n')
expect_status 1 kvzip inspect a.kvz --plot rate.svg
expect_status 0 kvzip inspect a.kvz --plot rate.svg -f
expect_status 2 kvzip inspect a.kvz --plot rate.pdf
expect_status 2 kvzip inspect a.safetensors --plot x.svg
expect_status 2 kvzip inspect a.kvz a.kvz --plot x.svg
expect_status 2 kvzip inspect a.kvz --original a.safetensors
status=0
kvzip inspect - --plot x.svg < <(cat a.kvz) 2>stderr || status=$?
[ $status = 2 ]
[ ! -e x.svg ]

# Folders: a dump, or where containers stand in them a line for each; with -r all that is below; JSON a line each.
mkdir -p tree/deep one
cp a.safetensors one/
expect_status 0 kvzip inspect one
expect_in stdout "one: 10 tensors"
cp a.safetensors tree/
cp a.kvz tree/deep/2.kvz
cp many.kvz tree/deep/10.kvz
expect_status 0 kvzip inspect tree/deep
[ "$(awk '{ print $1 }' stdout | tr '\n' ' ')" = "file tree/deep/2.kvz tree/deep/10.kvz " ]
expect_status 0 kvzip inspect a.kvz tree/deep one
[ "$(awk '{ print $1 }' stdout | tr '\n' ' ')" = "file a.kvz tree/deep/2.kvz tree/deep/10.kvz one " ]
expect_status 0 kvzip inspect -r tree
[ "$(awk 'NR > 1 { print $1 }' stdout | sort | tr '\n' ' ')" = "tree/a.safetensors tree/deep/10.kvz tree/deep/2.kvz " ]
cp a.safetensors tree/deep/
expect_status 0 kvzip inspect tree/deep
[ "$(wc -l <stdout)" = 4 ]
echo text >tree/deep/z.h5
expect_status 4 kvzip inspect --json -r tree
[ "$(wc -l <stdout)" = 4 ]
[ "$(grep -c '^{"schema":1,"file":"tree/.*}$' stdout)" = 4 ]
[ "$(grep -c '"kind":"kvz"' stdout)" = 2 ]
expect_in stderr "tree/deep/z.h5"
expect_status 0 kvzip inspect --json a.kvz a.safetensors
[ "$(wc -l <stdout)" = 2 ]
expect_status 2 kvzip inspect --why a.kvz a.safetensors
