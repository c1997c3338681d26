# Heads or tokens: keys of a real model in both orders of axes settle it, and what has no such order stays open.
cat >write.py <<'END_PY'
import json, random, struct, sys
data = open(sys.argv[1], "rb").read()
size = struct.unpack("<Q", data[:8])[0]
header = json.loads(data[8:8 + size])
def row(role, layer, head, token):  # three layers' heads side by side: nine heads of 64 channels
    at = 8 + size + header[f"layers.{layer * 3 + head // 3}.{role}"]["data_offsets"][0]
    at += ((head % 3) * 160 + token) * 128
    return data[at:at + 128]
H, T = 9, 8
def write(path, order, layers, row, meta=None, stacked=False):
    tensors, out = ({"__metadata__": meta} if meta else {}), b""
    for role in ("key", "value"):
        raws = []
        for l in range(layers):
            inner = ((h, t) for h in range(H) for t in range(T)) if order == "HTD" else ((h, t) for t in range(T) for h in range(H))
            raws.append(b"".join(row(role, l, h, t) for h, t in inner))
        shape = ([H, T] if order == "HTD" else [T, H]) + [64]
        if stacked:
            parts = [(f"{role}_cache", [layers, 1] + shape, b"".join(raws))]
        else:
            parts = [(f"layers.{l}.{role}", shape, raw) for l, raw in enumerate(raws)]
        for name, shape, raw in parts:
            tensors[name] = {"dtype": "F16", "shape": shape, "data_offsets": [len(out), len(out) + len(raw)]}
            out += raw
    text = json.dumps(tensors).encode()
    open(path, "wb").write(struct.pack("<Q", len(text)) + text + out)
write("heads.safetensors", "HTD", 10, row)
write("stacked.safetensors", "HTD", 10, row, stacked=True)
write("theta.safetensors", "HTD", 10, row, {"rope": "post", "rope_theta": "100000"})
write("pre.safetensors", "HTD", 10, row, {"rope": "pre"})
write("stated.safetensors", "HTD", 10, row, {"axes": "THD"})
write("few.safetensors", "HTD", 7, row)
# The same with more heads than tokens in what is written first: 9 tokens of 8 heads.
rows = {(r, l, h, t): row(r, l, h, t) for r in ("key", "value") for l in range(10) for h in range(8) for t in range(9)}
H, T = 8, 9
write("tokens.safetensors", "THD", 10, lambda r, l, h, t: rows[r, l, h, t])
H, T = 9, 8
random.seed(1)
noise = lambda *_: struct.pack("<64e", *(random.gauss(0, 1) for _ in range(64)))
write("random.safetensors", "HTD", 10, noise)
write("values.safetensors", "HTD", 10, lambda r, l, h, t: row("value", l, h, t))
same = struct.pack("<64e", *(i / 8 - 4 for i in range(64)))
write("constant.safetensors", "HTD", 10, lambda *_: same)
write("zero.safetensors", "HTD", 10, lambda *_: bytes(128))
write("nan.safetensors", "HTD", 10, lambda *_: b"\x00\x7e" * 64)
END_PY
python3 write.py "$sample"

settled() { # FILE AXES PATTERN: all are keys and values of these axes, and --why says how that is known
  expect_status 0 kvzip inspect "$1" --why
  expect_in stdout "axes by rotary embedding: turned back, neighbouring keys differ"
  expect_in stdout "% less as $2"
  ! grep -q "ambiguous" stdout
}
open_still() {
  expect_status 0 kvzip inspect "$1" --why
  expect_in stdout "ambiguous, "
  ! grep -q "rotary embedding: turned" stdout
}
settled heads.safetensors HTD
settled theta.safetensors HTD
settled stacked.safetensors LBHTD
settled tokens.safetensors THD
expect_status 0 kvzip compress -q heads.safetensors -o heads.kvz --preset int8 --strict
expect_status 0 kvzip decompress -q heads.kvz -o part.safetensors --tokens 0:2 --layers 3
kvzip inspect part.safetensors >stdout
expect_in stdout "9x2x64"
expect_status 0 kvzip decompress -q <(kvzip compress -q tokens.safetensors -o - --preset int8) -o part.safetensors -f --tokens 0:2 --layers 3
kvzip inspect part.safetensors --layout THD >stdout
expect_in stdout "2x8x64"

for file in random constant zero nan; do open_still $file.safetensors; done
# Where rotation says too little, the means of channels do; what the file says of its axes stands.
for file in values few pre; do
  expect_status 0 kvzip inspect $file.safetensors --why
  expect_in stdout "axes by means of channels: over tokens they keep"
  expect_in stdout "of the energy of keys as HTD"
done
expect_status 0 kvzip inspect stated.safetensors --why
expect_in stdout "stated by the file"

# The same where custom says otherwise: few tokens of many heads, channels before tokens, keys alone so.
cat >turn.py <<'END_PY'
import json, struct, sys
data = open(sys.argv[1], "rb").read()
size = struct.unpack("<Q", data[:8])[0]
header = json.loads(data[8:8 + size])
def head(role, layer, tokens, first=0):  # three heads of [tokens][channels], as lists of halves
    at = 8 + size + header[f"layers.{layer}.{role}"]["data_offsets"][0]
    return [[data[at + (h * 160 + t) * 128:][:128] for t in range(first, first + tokens)] for h in range(3)]
def bhtd(x): return [3, len(x[0]), 64], b"".join(row for h in x for row in h)
def bhdt(x): return [3, 64, len(x[0])], b"".join(row[2 * d:2 * d + 2] for h in x for d in range(64) for row in h)
def bthd(x): return [len(x[0]), 3, 64], b"".join(h[t] for t in range(len(x[0])) for h in x)
def write(path, tokens, of_key, of_value, of_query=None, layers=range(6), first=0):
    tensors, out = {}, b""
    for l in layers:
        for role, turn in (("key", of_key), ("value", of_value), ("query", of_query)):
            if not turn: continue
            shape, raw = turn(head("key" if role == "query" else role, l, tokens, first))
            tensors[f"layers.{l}.{role}"] = {"dtype": "F16", "shape": [1] + shape, "data_offsets": [len(out), len(out) + len(raw)]}
            out += raw
    text = json.dumps(tensors).encode()
    open(path, "wb").write(struct.pack("<Q", len(text)) + text + out)
write("128.safetensors", 128, bhdt, bhdt)
write("both.safetensors", 64, bhdt, bhtd)
write("apart.safetensors", 128, bhdt, bhtd)
write("few.safetensors", 6, bthd, bthd)
write("short.safetensors", 40, bhtd, bhtd)
write("first.safetensors", 50, bthd, bthd)
write("rest.safetensors", 40, bthd, bthd, first=50)
write("all.safetensors", 90, bthd, bthd)
write("low.safetensors", 90, bthd, bthd, layers=range(3))
write("high.safetensors", 90, bthd, bthd, layers=range(3, 6))
write("asks.safetensors", 40, bthd, None, bthd)
write("asks_by_head.safetensors", 40, bhtd, None, bhtd)
END_PY
python3 turn.py "$sample"
axes() { # FILE KEYS VALUES
  kvzip inspect "$1" | awk '$2 == "key" {print $4}' | sort -u >keys.txt
  kvzip inspect "$1" | awk '$2 == "value" {print $4}' | sort -u >values.txt
  [ "$(cat keys.txt values.txt | tr '\n' ' ')" = "$2 $3 " ]
  expect_status 0 kvzip compress -q -f "$1" -o turned.kvz --preset int8 --strict
  expect_status 0 kvzip decompress -q -f turned.kvz -o turned.safetensors
  expect_status 0 kvzip compare "$1" turned.safetensors --max-nrmse 0.02
}
axes 128.safetensors BHDT BHDT
axes both.safetensors BHDT BHTD
axes apart.safetensors BHDT BHTD
axes few.safetensors BTHD BTHD
axes short.safetensors BHTD BHTD

# What the values settle of each chunk they settle of the join, too; of what is joined with a container; and of files of
# queries.
expect_status 0 kvzip compress -q first.safetensors rest.safetensors --join tokens -o joined.kvz --preset lossless --strict
expect_status 0 kvzip compare all.safetensors joined.kvz --max-abs 0
kvzip decompress -q -f joined.kvz -o part.safetensors --tokens 0:30
kvzip inspect part.safetensors >stdout
[ "$(grep -c '1x30x3x64' stdout)" = 12 ]
kvzip compress -q low.safetensors -o low.kvz --preset lossless
expect_status 0 kvzip compress -q low.kvz high.safetensors -o both.kvz --preset lossless --strict
expect_status 0 kvzip compare all.safetensors both.kvz --max-abs 0
kvzip decompress -q -f both.kvz -o part.safetensors --tokens 0:30
kvzip inspect part.safetensors >stdout
[ "$(grep -c '1x30x3x64' stdout)" = 12 ]
expect_status 0 kvzip attend -q short.safetensors --queries asks.safetensors -o outputs.safetensors
expect_status 0 kvzip attend -q short.safetensors --queries asks_by_head.safetensors -o by_head.safetensors
cmp outputs.safetensors by_head.safetensors
