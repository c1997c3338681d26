# decompress: exact restoration, names and formats of outputs, and selections.
kvzip synth -o a.safetensors --layers 4 --heads 2 --head-dim 32 --tokens 300 --dtype bf16
kvzip compress -q a.safetensors --preset lossless

expect_status 0 kvzip decompress a.safetensors.kvz -f
[ ! -s stdout ]
[ ! -s stderr ]
cp a.safetensors.kvz c.kvz
kvzip synth -o b.safetensors --layers 4 --heads 2 --head-dim 32 --tokens 300 --dtype bf16
cmp a.safetensors b.safetensors

expect_status 0 kvzip decompress c.kvz -o c.safetensors
cmp c.safetensors a.safetensors
expect_status 0 kvzip decompress c.kvz -o odd.bin --to safetensors -j 1
cmp odd.bin a.safetensors
expect_status 0 kvzip decompress c.kvz -o c.h5
expect_status 0 kvzip compare a.safetensors c.h5 --max-abs 0

expect_status 2 kvzip decompress c.kvz
expect_in stderr "-o"
expect_status 2 kvzip decompress c.kvz -o x.unknown
expect_in stderr "--to"
expect_status 2 kvzip decompress c.kvz -o -
expect_in stderr "--to"
expect_status 2 kvzip decompress c.kvz -o x.kvz
expect_status 2 kvzip decompress c.kvz -o x.bin --to nonsense
expect_status 1 kvzip decompress a.safetensors -o x.safetensors
expect_in stderr "convert"
[ ! -e x.safetensors ]

# A part of it, by index.
expect_status 0 kvzip decompress c.kvz -o part.safetensors --layers 1-2 --tokens 100:228 --role key
kvzip inspect part.safetensors --json >part.json
[ "$(grep -c '"name": "layers' part.json)" = 2 ]
expect_in part.json '"layers.1.key"'
expect_in part.json '"layers.2.key"'
grep -q 128 part.json
expect_status 0 kvzip decompress c.kvz -o kv.safetensors --role key,value
kvzip inspect kv.safetensors --json >kv.json
[ "$(grep -c '"name": "layers' kv.json)" = 8 ]
expect_status 0 kvzip compare a.safetensors kv.safetensors --common --max-abs 0
for bad in "--layers x" "--layers 3-1" "--tokens 5" "--tokens a:b" "--role nothing"; do
  # shellcheck disable=SC2086
  expect_status 2 kvzip decompress c.kvz -o x.safetensors $bad
done
expect_status 1 kvzip decompress c.kvz -o x.safetensors --layers 50

# Layers of different length: tokens are positions, of which a sliding window has the last. Padding is named.
if command -v python3 >/dev/null; then
  python3 - <<'PY'
import json, struct
def save(name, tensors):
    head, data = {}, b""
    for key, (shape, values) in tensors.items():
        raw = struct.pack(f"<{len(values)}f", *values)
        head[key] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(head).encode()
    open(name, "wb").write(struct.pack("<Q", len(text)) + text + data)
def layer(number, first, end, padding=0):
    rows = [float(t + 1) for t in range(first, end)] + [0.0] * padding
    shape = [1, 1, end - first + padding, 4]
    return {f"layers.{number}.{kind}": (shape, [v for v in rows for _ in range(4)]) for kind in ("keys", "values")}
save("window.safetensors", {**layer(0, 0, 100), **layer(1, 80, 100)})
save("padded.safetensors", {**layer(0, 0, 100, 28), **layer(1, 0, 100, 28)})
PY
  kvzip compress -q window.safetensors -o window.kvz --preset lossless
  expect_status 0 kvzip decompress window.kvz -o cut.safetensors --tokens 90:95
  expect_in stderr "layers 1 hold 20 tokens, taken for the last of 100, 80 to 99"
  python3 - <<'PY'
import json, struct
raw = open("cut.safetensors", "rb").read()
n = struct.unpack("<Q", raw[:8])[0]
head = json.loads(raw[8:8 + n])
for number in (0, 1):
    entry = head[f"layers.{number}.keys"]
    begin, end = entry["data_offsets"]
    values = struct.unpack(f"<{(end - begin) // 4}f", raw[8 + n + begin:8 + n + end])
    assert entry["shape"] == [1, 1, 5, 4] and list(values[::4]) == [91.0, 92.0, 93.0, 94.0, 95.0], values
PY
  expect_status 0 kvzip decompress window.kvz -o cut.safetensors -f --tokens 10:40
  expect_in stderr "and have none of those asked for"
  [ "$(kvzip inspect cut.safetensors | grep -c 'layers.1')" = 0 ]
  expect_status 0 kvzip compress padded.safetensors -o padded.kvz --preset kivi-2
  expect_in stderr "tokens 100 to 127 are zero in every layer"
  expect_in stderr "--tokens 0:100 leaves it out"
  expect_status 0 kvzip compress padded.safetensors -o padded.kvz -f --preset kivi-2 --tokens 0:100
  [ "$(grep -c 'are zero' stderr)" = 0 ]

  # Padding is no token: those before it decode to what they do without it, with a window and without one, and it takes
  # next to nothing.
  for preset in kivi-2 int8 kvzip-near lossless; do
    kvzip compress -qf padded.safetensors -o padded.kvz --preset $preset
    kvzip compress -qf padded.safetensors -o alone.kvz --preset $preset --tokens 0:100
    kvzip decompress -qf padded.kvz -o some.safetensors --tokens 0:100
    kvzip compare alone.kvz some.safetensors --max-abs 0
    kvzip decompress -qf padded.kvz -o rest.safetensors --tokens 100:128
    python3 -c 'raw = open("rest.safetensors", "rb").read(); assert not any(raw[-4 * 28 * 4 * 4:])'
    [ $(($(stat -c %s padded.kvz) - $(stat -c %s alone.kvz))) -lt 200 ]
    # A container says the same of its values as the dump.
    kvzip compress -qf padded.safetensors -o exact.kvz --preset lossless
    kvzip compress -qf exact.kvz -o again.kvz --preset $preset
    kvzip compare padded.kvz again.kvz --max-abs 0
    [ "$(stat -c %s padded.kvz)" = "$(stat -c %s again.kvz)" ]
  done
  kvzip inspect padded.kvz --json | grep -q 'rows=used'
  kvzip append -q padded.kvz alone.kvz
  expect_status 0 kvzip verify padded.kvz

  # No recent token either.
  expect_status 0 kvzip prune padded.safetensors kept.safetensors --policy streaming --keep 10
  expect_in stderr "tokens 100 to 127 are padding, and go"
  kvzip prune -q alone.kvz wanted.safetensors --policy streaming --keep 10
  kvzip compare kept.safetensors wanted.safetensors --max-abs 0
fi

# The last tokens, as many as asked for.
kvzip decompress -q c.kvz -o last.safetensors --tokens -10:
kvzip decompress -q c.kvz -o same.safetensors --tokens 290:
cmp last.safetensors same.safetensors
kvzip decompress -q c.kvz -o last.safetensors --tokens -1000: -f
kvzip decompress -q c.kvz -o same.safetensors --tokens 0: -f
cmp last.safetensors same.safetensors
for wrong in -10 -0: -10:20 -:; do expect_status 2 kvzip decompress c.kvz -o x.safetensors --tokens $wrong; done
