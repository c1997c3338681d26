# A cache that is saved as several files: a folder is one dump, and layers may be in the files' names only.
cat >write.py <<'END'
import json, os, struct, sys
def safetensors(path, tensors):
    header, data = {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)
def halves(n, seed):
    return b"".join(struct.pack("<e", ((i * 37 + seed * 11) % 101 - 50) / 16) for i in range(n))
# vLLM's connector: a folder for each prompt, a file for each layer, the tensor of each called kv_cache.
os.makedirs("prompt")
for layer in range(12):
    safetensors(f"prompt/model.layers.{layer}.self_attn.attn.safetensors",
                {"kv_cache": ("F16", [2, 32, 2, 16], halves(2 * 32 * 2 * 16, layer))})
# LMCache's file connector: length, format 1 (2LTC), bf16, four extents.
os.makedirs("chunks")
raw = halves(2 * 3 * 8 * 16, 5)
with open("chunks/vllm@model@1@0@abc@bfloat16.data", "wb") as f:
    f.write(struct.pack("<iiiiiii", len(raw), 1, 3, 2, 3, 8, 16) + raw)
os.makedirs("empty/.hidden")
open("empty/config.json", "w").write("{}")
END
python3 write.py
expect_status 0 kvzip inspect prompt
expect_in stdout "model.layers.11.self_attn.attn.kv_cache"
expect_in stdout "12 of them keys or values"
expect_status 0 kvzip compress prompt -o prompt.kvz --preset lossless
expect_status 0 kvzip compare prompt prompt.kvz --max-abs 0
expect_status 0 kvzip decompress -q prompt.kvz -o one.safetensors --layers 10
kvzip inspect one.safetensors >stdout
expect_in stdout "model.layers.10.self_attn.attn.kv_cache"
# Each file by itself with -r.
expect_status 2 kvzip compress prompt
expect_in stderr "prompt is a folder: -r takes the files in it"
expect_status 0 kvzip compress -q -r prompt --output-dir packed --preset int8
[ "$(find packed -name '*.kvz' | wc -l)" = 12 ]
expect_status 2 kvzip compress prompt -o gone.kvz --rm
[ -e prompt/model.layers.0.self_attn.attn.safetensors ]

expect_status 0 kvzip inspect chunks
expect_in stdout "stated by LMCache's fmt 1"
expect_status 0 kvzip compress -q chunks/*.data -o chunk.kvz --preset lossless
kvzip decompress -q chunk.kvz -o chunk.safetensors
expect_status 0 kvzip compare chunks chunk.safetensors --max-abs 0

expect_status 1 kvzip inspect empty
expect_in stderr "no file in this folder is called like a dump"
