# Chunks and pages of one context as one dump: --join tokens, and what a kvzip.json says of files that say nothing.
cat >write.py <<'END_PY'
import json, os, struct
L, T, C, P = 3, 24, 16, 8
def half(p, l, t, c):
    return struct.pack("<e", ((p * 977 + l * 131 + t * 37 + c * 11) % 211 - 100) / 16)
def block(begin, end):  # [2, L, T, C]
    return b"".join(half(p, l, t, c) for p in (0, 1) for l in range(L) for t in range(begin, end) for c in range(C))
def safetensors(path, tensors, meta=None):
    header, data = {}, b""
    if meta: header["__metadata__"] = meta
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    open(path, "wb").write(struct.pack("<Q", len(text)) + text + data)
for folder in ("fs", "gds", "pages", "told", "steps", "gap", "layers"):
    os.makedirs(folder, exist_ok=True)
chunks = [("9f3e", 0, 8), ("01bc", 8, 16), ("77aa", 16, 22)]  # the last is shorter, and hashes are no order
for name, begin, end in chunks:
    raw = block(begin, end)
    with open(f"fs/vllm@model@1@0@{name}@half.data", "wb") as f:
        f.write(struct.pack("<iiiiiii", len(raw), 1, 1, 2, L, end - begin, C) + raw)
    text = json.dumps({"kvcache": {"dtype": "F16", "shape": [2, L, end - begin, C], "data_offsets": [0, len(raw)],
                                   "fmt": 1}}).encode().ljust(4088)
    open(f"gds/{name}.kvcache.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + raw)
raw = block(0, 22)
safetensors("whole.safetensors", {"kv_cache": ("F16", [2, L, 22, C], raw)}, {"axes": "2LTC"})
safetensors("gds.safetensors", {"kvcache": ("F16", [2, L, 22, C], raw)}, {"axes": "2LTC"})
for i in range(11):
    page = block(i * 2, i * 2 + 2)
    open(f"pages/page_{i}.bin", "wb").write(page)
    open(f"told/{i * 7919 % 11:x}c.bin", "wb").write(page)
json.dump({"raw": f"kv:2LTC:f16:2x{L}x-x{C}", "files": [f"{i * 7919 % 11:x}c.bin" for i in range(11)],
           "metadata": {"model": "tiny"}}, open("told/kvzip.json", "w"))
meta = {"model": "tiny"}
for i in range(3):
    ids = struct.pack("<8q", *range(i * 8, i * 8 + 8))
    k = b"".join(half(0, h, t, c) for h in (0, 1) for t in range(i * 8, i * 8 + 8) for c in range(C))
    safetensors(f"steps/part-{i:02}.safetensors", {"layers.0.key": ("F16", [2, 8, C], k), "token_ids": ("I64", [8], ids),
                "scale": ("F32", [1], struct.pack("<f", 2))}, {"model": "tiny", "axes": "HTD", "first_position": str(i * 8)})
    safetensors(f"layers/model.layers.{i}.attn.safetensors", {"kv_cache": ("F16", [2, 8, 2, C], k + k)})
k = b"".join(half(0, h, t, c) for h in (0, 1) for t in range(24) for c in range(C))
safetensors("steps.safetensors", {"layers.0.key": ("F16", [2, 24, C], k), "token_ids": ("I64", [24], struct.pack("<24q", *range(24))),
            "scale": ("F32", [1], struct.pack("<f", 2))}, {"model": "tiny", "axes": "HTD", "first_position": "0"})
for i in (0, 1, 3):
    open(f"gap/page_{i}.bin", "wb").write(block(i * 2, i * 2 + 2))
END_PY
python3 write.py

# LMCache: hashes say no order, so that it has to be given.
expect_status 1 kvzip inspect fs
expect_in stderr "is both in"
expect_in stderr "--join tokens"
expect_status 1 kvzip inspect fs --join tokens
expect_in stderr "do not say which tokens come first"
fs=(fs/*@9f3e@* fs/*@01bc@* fs/*@77aa@*)
expect_status 0 kvzip compress -q "${fs[@]}" --join tokens -o fs.kvz --preset lossless
expect_status 0 kvzip compare whole.safetensors fs.kvz --max-abs 0
kvzip decompress -q fs.kvz -o fs.safetensors
expect_status 0 kvzip inspect fs.safetensors
expect_in stdout "2x3x22x16"
expect_status 0 kvzip compress -q gds/9f3e* gds/01bc* gds/77aa* --join tokens -o gds.kvz --preset lossless
expect_status 0 kvzip compare gds.safetensors gds.kvz --max-abs 0
kvzip compress -q "${fs[@]}" --join tokens -o one.kvz -j 1 --preset int8
kvzip compress -q "${fs[@]}" --join tokens -o many.kvz -j 5 --preset int8
cmp one.kvz many.kvz
printf '{"files": ["%s", "%s", "%s"]}' "${fs[0]#fs/}" "${fs[1]#fs/}" "${fs[2]#fs/}" >fs/kvzip.json
expect_status 0 kvzip compare whole.safetensors fs --max-abs 0

# Pages, whose names count them or a kvzip.json lists.
raw=kv:2LTC:f16:2x3x-x16
expect_status 0 kvzip compress -q pages --raw $raw --join tokens -o pages.kvz --preset lossless
expect_status 0 kvzip compare whole.safetensors pages.kvz --max-abs 0
expect_status 0 kvzip convert pages pages.safetensors --raw $raw --join tokens
expect_status 0 kvzip compare whole.safetensors pages.safetensors --max-abs 0
expect_status 0 kvzip inspect told
expect_in stdout "model: tiny"
expect_status 0 kvzip compare whole.safetensors told --max-abs 0
expect_status 0 kvzip inspect told/0c.bin
expect_in stdout "2x3x2x16"
printf '{"raw": "%s"}' $raw >pages/kvzip.json
expect_status 0 kvzip compare whole.safetensors pages --max-abs 0
cp pages/page_3.bin alone.bin
expect_status 4 kvzip inspect alone.bin
expect_in stderr "kvzip.json"
cp pages/kvzip.json alone.bin.kvzip.json
expect_status 0 kvzip inspect alone.bin
expect_status 1 kvzip inspect gap --raw $raw --join tokens
expect_in stderr "the numbers 1 and 3"

# Lists of tokens grow with the tokens, positions must follow, and what has no tokens must be the same.
expect_status 0 kvzip convert steps joined.safetensors --join tokens
cmp joined.safetensors steps.safetensors || expect_status 0 kvzip compare joined.safetensors steps.safetensors --max-abs 0
kvzip inspect joined.safetensors >stdout
expect_in stdout "2x24x16"
expect_status 1 kvzip compress steps/part-00.safetensors steps/part-02.safetensors --join tokens -o x.kvz
expect_in stderr "its first token is at position 16, and the one before ends at 8"
expect_status 0 kvzip compress -q steps/part-00.safetensors steps/part-02.safetensors --join tokens --mix -o x.kvz

# What is refused.
expect_status 1 kvzip inspect layers --join tokens
expect_in stderr "its name says that it is a layer"
expect_status 1 kvzip compress fs.kvz gds.kvz --join tokens -o y.kvz
expect_in stderr "kvzip append"
expect_status 2 kvzip compress pages/page_0.bin pages/page_1.bin --join tokens
expect_in stderr "name it with -o"
expect_status 2 kvzip compress pages --join layers -o y.kvz
for bad in '[]' '{"raw": 1}' '{"raw": "kv:THD:f16:2x2x2"}' '{"files": ["../whole.safetensors"]}' '{"files": []}' \
  '{"order": []}' '{"raw": "kv:2LTC:f16:2x3x-x16", "metadata": {"axes": "THD"}}' '{"raw":'; do
  echo "$bad" >told/kvzip.json
  got=0
  kvzip inspect told >stdout 2>stderr || got=$?
  [ $got = 1 ] || [ $got = 3 ] || { echo "$bad: $got" >&2; exit 1; }
  expect_in stderr "kvzip.json"
done
