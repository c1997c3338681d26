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
os.makedirs("prompt", exist_ok=True)
for layer in range(12):
    safetensors(f"prompt/model.layers.{layer}.self_attn.attn.safetensors",
                {"kv_cache": ("F16", [2, 32, 2, 16], halves(2 * 32 * 2 * 16, layer))})
# LMCache's file connector: length, format 1 (2LTC), bf16, four extents.
os.makedirs("chunks", exist_ok=True)
raw = halves(2 * 3 * 8 * 16, 5)
with open("chunks/vllm@model@1@0@abc@bfloat16.data", "wb") as f:
    f.write(struct.pack("<iiiiiii", len(raw), 1, 3, 2, 3, 8, 16) + raw)
# Its GPUDirect backend: a safetensors header of 4096 bytes with keys of its own.
text = json.dumps({"kvcache": {"dtype": "BF16", "shape": [8, 2, 32], "data_offsets": [0, 1024], "fmt": 2,
                               "__metadata__": {"lmcache_version": "1"}}}).encode().ljust(4088)
with open("gds.kvcache.safetensors", "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text + halves(512, 3))
os.makedirs("empty/.hidden", exist_ok=True)
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

expect_status 0 kvzip inspect gds.kvcache.safetensors
expect_in stdout "stated by LMCache's fmt 2"

expect_status 1 kvzip inspect empty
expect_in stderr "no file in this folder is called like a dump"

# vLLM from 0.26 on: keys and values of a head side by side, which --map says; and bf16 kept in integers.
cat >later.py <<'END'
from write import halves, safetensors
import struct
for layer in range(2):
    safetensors(f"side.{layer}.safetensors", {f"layers.{layer}.slab": ("F16", [32, 2, 32], halves(32 * 2 * 32, layer))})
bits = b"".join(struct.pack("<f", (i % 97 - 48) / 8)[2:] for i in range(2 * 32 * 16))
safetensors("bits.safetensors", {"k_buffer": ("U16", [2, 32, 16], bits), "place": ("I64", [32], bytes(256))})
open("page.bin", "wb").write(halves(2 * 3 * 8 * 2 * 16, 9))
END
python3 later.py
expect_status 0 kvzip compress -q side.0.safetensors side.1.safetensors -o side.kvz --preset lossless --map '*=kv:THD:halves'
kvzip inspect side.kvz --json >side.json
expect_in side.json '"recognised": 4'
kvzip inspect side.kvz >stdout
expect_in stdout "layers.1.slab.value"
expect_status 0 kvzip convert bits.safetensors typed.safetensors \
  --map 'k_*=key:HTD:dtype=bf16:layer=3' --map 'place=other:name=positions'
expect_status 0 kvzip inspect typed.safetensors
expect_in stdout "layers.3.k_buffer"
expect_in stdout "BF16"
expect_in stdout "positions"
expect_status 2 kvzip prune bits.safetensors x.npz --keep 4 --map 'k_*=key:HTD:dtype=bf16'
expect_in stderr "this command reads tensors as they are"
expect_status 2 kvzip inspect bits.safetensors --map 'k_*=key:HTD:dtype=int'
expect_in stderr "'dtype=int' is none of"

# Pages that say nothing.
expect_status 4 kvzip inspect page.bin
expect_in stderr "have to be told what they are"
expect_status 0 kvzip inspect page.bin --raw kv:2LTHD:f16:2x3x-x2x16
expect_in stdout "2x3x8x2x16"
expect_status 0 kvzip compress -q page.bin -o page.kvz --preset lossless --raw kv:2LTHD:f16:2x3x-x2x16
kvzip decompress -q page.kvz -o page.npy
tail -c 3072 page.npy | cmp - page.bin
expect_status 1 kvzip inspect page.bin --raw kv:2LTHD:f16:2x3x-x5x16
expect_status 2 kvzip inspect page.bin --raw kv:2LTHD
