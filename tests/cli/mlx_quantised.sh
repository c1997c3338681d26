# Quantised prompt caches of MLX: lossless, their arrays come back; lossy, their values do, as an ordinary cache.
cat >write.py <<'END_PY'
import json, struct, sys
bits, group, rows, dim = int(sys.argv[2]), 32, 40, 64
header, data = {"__metadata__": {"0.model": "tiny", "1.0": "QuantizedKVCache", "1.1": "QuantizedKVCache", "2.0": ""}}, b""
values = {}
def add(to, name, dtype, shape, raw):
    global data
    to[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
    data += raw
def half(rows_of, columns, f): return b"".join(struct.pack("<e", f(r, c)) for r in range(rows_of) for c in range(columns))
scale, bias = lambda r, g: 0.125 * (1 + (r + g) % 3), lambda r, g: -0.5 * (r % 5) - g
code = lambda r, i: (7 * r + 5 * i + r * i) % (1 << bits)
n = 2 * rows
j = 1
for l in range(2):
    for h in range(2):
        string = [sum(code(r, i) << (bits * i) for i in range(dim)).to_bytes(dim * bits // 8, "little") for r in range(n)]
        add(header, f"{l}.{h}.0", "U32", [1, 2, rows, dim * bits // 32], b"".join(string))
        add(header, f"{l}.{h}.1", "F16", [1, 2, rows, dim // group], half(n, dim // group, scale))
        add(header, f"{l}.{h}.2", "F16", [1, 2, rows, dim // group], half(n, dim // group, bias))
    for k, v in ((2, 30), (3, group), (4, bits)):
        add(header, f"{l}.{k}", "I32", [], struct.pack("<i", v))
        header["__metadata__"].update({f"2.{j}.0": f"{l}.{k}", f"2.{j}.1": "scalar"})
        j += 1
def save(path, header):
    text = json.dumps(header).encode()
    open(path, "wb").write(struct.pack("<Q", len(text)) + text + data)
save(sys.argv[1], header)
# What it stands for: the ordinary cache.
data, plain = b"", {"__metadata__": {"0.model": "tiny", "1.0": "KVCache", "1.1": "KVCache", "2.0": "", "2.1.0": "0.2",
                                     "2.1.1": "scalar", "2.2.0": "1.2", "2.2.1": "scalar"}}
for l in range(2):
    for h in range(2):
        add(plain, f"{l}.{h}", "F16", [1, 2, rows, dim],
            half(n, dim, lambda r, i: scale(r, i // group) * code(r, i) + bias(r, i // group)))
    add(plain, f"{l}.2", "I32", [], struct.pack("<i", 30))
save(sys.argv[3], plain)
END_PY
cat >same.py <<'END_PY'
import json, struct, sys
def read(path):
    file = open(path, "rb").read()
    size = struct.unpack("<Q", file[:8])[0]
    header = json.loads(file[8:8 + size])
    body = file[8 + size:]
    return header.pop("__metadata__"), {k: (v["dtype"], v["shape"], body[slice(*v["data_offsets"])]) for k, v in header.items()}
sys.exit(read(sys.argv[1]) != read(sys.argv[2]))
END_PY
for bits in 2 3 4 8; do
  python3 write.py quantised.safetensors $bits plain.safetensors
  expect_status 0 kvzip compress quantised.safetensors -o whole.kvz -f --preset lossless
  if grep -q "read as their values" stderr; then exit 1; fi
  expect_status 0 kvzip decompress -q whole.kvz -o again.safetensors -f
  python3 same.py again.safetensors quantised.safetensors
  expect_status 0 kvzip compare quantised.safetensors whole.kvz --max-abs 0
  expect_status 0 kvzip convert -q quantised.safetensors again.h5 -f
  expect_status 0 kvzip convert -q again.h5 again.safetensors -f
  python3 same.py again.safetensors quantised.safetensors
  # With a selection, and with loss, the values are stored.
  expect_status 0 kvzip compress quantised.safetensors -o values.kvz -f --preset lossless --role key,value,other
  expect_in stderr "quantised caches of MLX, 2 of $bits bits in groups of 32, are read as their values"
  expect_status 0 kvzip decompress -q values.kvz -o values.safetensors -f
  python3 same.py values.safetensors plain.safetensors
  expect_status 0 kvzip compare quantised.safetensors plain.safetensors --max-abs 0
  expect_status 0 kvzip compress quantised.safetensors -o near.kvz -f --preset int8
  expect_in stderr "come back as ordinary ones"
  expect_status 0 kvzip compare quantised.safetensors near.kvz --max-nrmse 0.02
  expect_status 0 kvzip compare plain.safetensors near.kvz --max-nrmse 0.02
done
# Positions are those of the offset, which moves along.
expect_status 0 kvzip compress -q quantised.safetensors -o part.kvz --tokens 10:35
expect_status 0 kvzip decompress -q part.kvz -o part.safetensors
expect_status 0 kvzip compress -q plain.safetensors -o other.kvz --tokens 10:35
expect_status 0 kvzip decompress -q other.kvz -o other.safetensors
python3 same.py part.safetensors other.safetensors

# What does not agree stays as it is: eight bits are said of codes of four.
python3 write.py quantised.safetensors 4 plain.safetensors
python3 - <<'END_PY'
import json, struct
file = open("quantised.safetensors", "rb").read()
size = struct.unpack("<Q", file[:8])[0]
at = 8 + size + json.loads(file[8:8 + size])["0.4"]["data_offsets"][0]
open("odd.safetensors", "wb").write(file[:at] + struct.pack("<i", 8) + file[at + 4:])
END_PY
expect_status 0 kvzip compress odd.safetensors -o odd.kvz --preset int8
expect_in stderr "quantised caches of MLX, 1, stay as they are: their arrays do not fit each other"
expect_in stderr "quantised caches of MLX, 1 of 4 bits in groups of 32, are read as their values"
expect_status 0 kvzip decompress -q odd.kvz -o odd.again.safetensors
expect_status 0 kvzip inspect odd.safetensors
expect_in stdout "0.0.0"
expect_in stdout "1.0 "
