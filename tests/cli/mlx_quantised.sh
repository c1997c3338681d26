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
  expect_in stdout "0.0     key"
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
# A container that keeps the arrays is read as its values, too.
python3 write.py quantised.safetensors 4 plain.safetensors
expect_status 0 kvzip compress -q quantised.safetensors -o whole.kvz -f --preset lossless
expect_status 0 kvzip compress -q whole.kvz -o same.kvz --preset lossless
cmp whole.kvz same.kvz
expect_status 0 kvzip compress whole.kvz -o near.kvz -f --preset int8
expect_in stderr "are read as their values and come back as ordinary ones; 'kvzip decompress' of the whole container gives"
expect_status 0 kvzip compress -q quantised.safetensors -o near.dump.kvz -f --preset int8
cmp near.kvz near.dump.kvz
expect_status 0 kvzip compare whole.kvz plain.safetensors --max-abs 0
expect_status 0 kvzip compare plain.safetensors whole.kvz --max-abs 0
expect_status 0 kvzip decompress whole.kvz -o cut.safetensors --tokens 10:35
expect_in stderr "are read as their values"
expect_status 0 kvzip compress -q plain.safetensors -o cut.kvz --preset lossless --tokens 10:35
expect_status 0 kvzip decompress -q cut.kvz -o plain_cut.safetensors
python3 same.py cut.safetensors plain_cut.safetensors
expect_status 0 kvzip inspect whole.kvz
expect_in stdout "0.0.0 " # as it is stored
expect_in stderr "are read as their values"
expect_status 0 kvzip inspect whole.kvz --why
expect_in stdout "0.0 (F16 1x2x40x64): key BHTD of layer 0"
expect_status 0 kvzip inspect quantised.safetensors
expect_in stdout "0.0     key    0      BHTD"
expect_status 1 kvzip diff whole.kvz near.kvz
expect_in stdout "0.0.0"
expect_status 0 kvzip verify whole.kvz quantised.safetensors
expect_in stderr "sound (18 tensors)"
for input in quantised.safetensors whole.kvz; do
  expect_status 0 kvzip sweep -q $input --presets int8 --json
  python3 -c 'import json; s = json.load(open("stdout"))["dumps"][0]["settings"][0]; print(s["bits_per_value"])' >$input.bits
done
cmp quantised.safetensors.bits whole.kvz.bits
# What comes through a pipe is given out as it comes.
kvzip decompress -q - -o piped.safetensors < <(cat whole.kvz)
python3 same.py piped.safetensors quantised.safetensors
# What mlx-lm would not load is refused, with what to do.
expect_status 1 kvzip prune quantised.safetensors pruned.safetensors --keep 20 --policy streaming
expect_in stderr "'kvzip compress --tokens A:B' takes those of a range"
expect_status 1 kvzip prune whole.kvz pruned.safetensors --keep 20 --policy streaming
kvzip synth -q -o queries.safetensors --layers 1 --heads 1 --head-dim 64 --tokens 40
expect_status 1 kvzip compress quantised.safetensors queries.safetensors -o joined.kvz --mix
expect_in stderr "compress it by itself; --queries takes queries from another file"

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

# In a CacheList, as mlx-lm from 0.32 on and 0.31 save it: one of a layer's two caches is quantised.
cat >list.py <<'END_PY'
import json, struct, sys
now = sys.argv[1] == "now"
def rows(f): return b"".join(struct.pack("<e", f(r, c)) for r in range(8) for c in range(64))
def save(path, quantised):
    header, data = {}, b""
    def add(name, dtype, shape, raw):
        nonlocal data
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    kinds = ["KVCache", "QuantizedKVCache" if quantised else "KVCache"]
    texts = {"1.0": "CacheList", "2.0": ""} if now else {"2.0": "CacheList", "1.model": "tiny"}
    scalars = []
    for j, kind in enumerate(kinds):
        name = f"0.{j}.0" if now else f"0.{j}"
        for h in range(2):
            if kind == "KVCache":
                add(f"{name}.{h}", "F16", [1, 1, 8, 64], rows(lambda r, c: 0.5 * ((r * c + c) % 16) - (r % 3)))
                continue
            string = [sum(((r * c + c) % 16) << (4 * c) for c in range(64)).to_bytes(32, "little") for r in range(8)]
            add(f"{name}.{h}.0", "U32", [1, 1, 8, 8], b"".join(string))
            add(f"{name}.{h}.1", "F16", [1, 1, 8, 1], struct.pack("<e", 0.5) * 8)
            add(f"{name}.{h}.2", "F16", [1, 1, 8, 1], b"".join(struct.pack("<e", -(r % 3)) for r in range(8)))
        numbers = [8, 64, 4] if kind != "KVCache" else [8]
        if now:
            for k, value in enumerate(numbers): add(f"{name}.{k + 2}", "I32", [], struct.pack("<i", value))
            add(f"0.{j}.1", "I32", [len(kind)], struct.pack(f"<{len(kind)}i", *map(ord, kind)))
            scalars += [(f"{name}.{k + 2}", "scalar") for k in range(len(numbers))] + [(f"0.{j}.1", "string")]
        else:
            texts[f"0.0.0.{j}"] = kind
            if kind == "KVCache": texts[f"0.0.1.{j}"] = ""
            else: texts.update({f"0.0.1.{j}.{k}": str(value) for k, value in enumerate(numbers)})
    for at, pair in enumerate(scalars): texts.update({f"2.{at + 1}.{k}": pair[k] for k in range(2)})
    header["__metadata__"] = texts
    text = json.dumps(header).encode()
    open(path, "wb").write(struct.pack("<Q", len(text)) + text + data)
save("list.safetensors", True)
save("plain_list.safetensors", False)
END_PY
for version in now before; do
  python3 list.py $version
  expect_status 0 kvzip compress -q list.safetensors -o list.kvz -f --preset lossless
  expect_status 0 kvzip decompress -q list.kvz -o again.safetensors -f
  python3 same.py again.safetensors list.safetensors
  for input in list.safetensors list.kvz; do
    expect_status 0 kvzip compress -q $input -o values.kvz -f --preset lossless --role key,value,other
    expect_status 0 kvzip decompress -q values.kvz -o values.safetensors -f
    python3 same.py values.safetensors plain_list.safetensors
    expect_status 0 kvzip compress -q $input -o near.kvz -f --preset int8
    expect_status 0 kvzip compare plain_list.safetensors near.kvz --max-nrmse 0.02
  done
done
# To 0.30 a list says neither of what classes its caches are nor where they begin: that is for the user to say.
python3 - <<'END_PY'
import json, struct
header, data = {"__metadata__": {"0.0": "", "2.0": "CacheList"}}, b""
for k in range(4):
    header[f"0.{k}"] = {"dtype": "F16", "shape": [1, 2, 20, 64], "data_offsets": [k * 5120, (k + 1) * 5120]}
text = json.dumps(header).encode()
open("old.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + bytes(range(60)) * 341 + bytes(20))
END_PY
expect_status 0 kvzip compress old.safetensors -o old.kvz
expect_in stderr "4 of 4 float tensors stay lossless"
expect_in stderr "does not say of what classes its caches are"
expect_status 0 kvzip inspect old.safetensors --map '{L}.0=key:BHTD' --map '{L}.1=value:BHTD'
expect_in stdout "2 of them keys or values"
