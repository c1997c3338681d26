# A cut prompt cache of MLX says how many of its rows count.
cat >write.py <<'END_PY'
import json, struct
header, data = {"__metadata__": {"0.model": "tiny", "1.0": "KVCache", "1.1": "KVCache", "2": "", "2.0.0": "0.2", "2.0.1": "scalar",
                                 "2.1.0": "1.2", "2.1.1": "scalar"}}, b""
for l in range(2):
    for i in range(3):
        shape, dtype = ([1, 2, 16, 8], "F16") if i < 2 else ([], "I32")
        raw = bytes(j % 60 for j in range(512)) if i < 2 else struct.pack("<i", 10)
        header[f"{l}.{i}"] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
text = json.dumps(header).encode()
open("cache.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + data)
END_PY
cat >offset.py <<'END_PY'
import json, struct, sys
data = open(sys.argv[1], "rb").read()
size = struct.unpack("<Q", data[:8])[0]
header = json.loads(data[8:8 + size])
print(*(struct.unpack_from("<i", data, 8 + size + header[f"{l}.2"]["data_offsets"][0])[0] for l in range(2)))
END_PY
python3 write.py
offsets_after() { # TOKENS OFFSETS: of the cut dump, and of the cut container
  expect_status 0 kvzip compress -q cache.safetensors -o part.kvz -f --preset lossless --tokens "$1"
  expect_status 0 kvzip decompress -q part.kvz -o part.safetensors -f
  [ "$(python3 offset.py part.safetensors)" = "$2" ]
  expect_status 0 kvzip decompress -q whole.kvz -o part.safetensors -f --tokens "$1"
  [ "$(python3 offset.py part.safetensors)" = "$2" ]
}
kvzip compress -q cache.safetensors -o whole.kvz --preset lossless
expect_status 0 kvzip decompress -q whole.kvz -o same.safetensors
[ "$(python3 offset.py same.safetensors)" = "10 10" ]
offsets_after 0:6 "6 6"
offsets_after 0:16 "10 10"
offsets_after 4:12 "6 6"
offsets_after 12:16 "0 0"

# A part that lacks arrays is none that mlx-lm goes on from, and a line says so.
expect_status 0 kvzip compress cache.safetensors -o part.kvz -f --preset lossless --layers 1
expect_in stderr "2 of 6 arrays of a prompt cache of MLX"
expect_status 0 kvzip decompress whole.kvz -o part.safetensors -f --role key
expect_in stderr "2 of 6 arrays of a prompt cache of MLX"
expect_status 0 kvzip decompress whole.kvz -o part.safetensors -f --tokens 0:6
[ ! -s stderr ]

# In the order of tokens, segments are parts of the cache; its offset is that of the whole all the same.
sed -e 's/\[1, 2, 16, 8\]/[1, 2, 600, 8]/; s/range(512)/range(19200)/; s/struct.pack("<i", 10)/struct.pack("<i", 500)/' write.py >long.py
python3 long.py
kvzip compress -q cache.safetensors -o order.kvz --preset lossless --order token:256
expect_status 0 kvzip decompress -q order.kvz -o order.safetensors
[ "$(python3 offset.py order.safetensors)" = "500 500" ]
offsets_after_order() {
  expect_status 0 kvzip decompress -q order.kvz -o part.safetensors -f --tokens "$1"
  [ "$(python3 offset.py part.safetensors)" = "$2" ]
}
offsets_after_order 100:300 "200 200"
offsets_after_order -50: "50 50"
