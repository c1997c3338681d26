# --map hadamard=N undoes the rotation of llama.cpp's quantised caches.
cat >write.py <<'END_PY'
import json, math, struct
C, T, L = 128, 5, 2
def value(p, l, t, c): return ((p * 7 + l * 5 + t * 37 + c * 11) % 211 - 100) / 16
def turned(row, n):  # Sylvester's matrix, written out: -1 where the indices have an odd number of bits in common
    return [sum(row[b + j] * (-1) ** bin(i & j).count("1") for j in range(n)) / math.sqrt(n)
            for b in range(0, len(row), n) for i in range(n)]
def rows(p, l, n): return [turned(r, n) if n else r for r in ([value(p, l, t, c) for c in range(C)] for t in range(T))]
def packed(p, l, n, form): return b"".join(struct.pack(f"<{C}{form}", *r) for r in rows(p, l, n))
def safetensors(path, form, dtype, n_k, n_v):
    header, data = {}, b""
    for p, role in enumerate(("key", "value")):
        for l in range(L):
            raw = packed(p, l, (n_k, n_v)[p], form)
            header[f"layers.{l}.{role}"] = {"dtype": dtype, "shape": [T, C], "data_offsets": [len(data), len(data) + len(raw)]}
            data += raw
    text = json.dumps(header).encode()
    open(path, "wb").write(struct.pack("<Q", len(text)) + text + data)
safetensors("plain.safetensors", "f", "F32", 0, 0)
safetensors("turned.safetensors", "f", "F32", 128, 64)
safetensors("turned16.safetensors", "e", "F16", 128, 64)
def slot(path, cut=0):  # a sequence of version 4, which says the blocks
    with open(path, "wb") as f:
        f.write(b"qsgg" + struct.pack("<II", 4, T) + struct.pack(f"<{T}i", *range(T)) + struct.pack("<II", 1, T))
        for t in range(T): f.write(struct.pack("<iIi", t, 1, 0))
        f.write(struct.pack("<IIII", 0, L, 128, 64))
        for p in (0, 1):
            for l in range(L): f.write(struct.pack("<iQ", 0, C * 4) + packed(p, l, (128, 64)[p], "f"))
slot("slot.bin")
END_PY
python3 write.py
undo=(--map '*key=key:TC:hadamard=128' --map '*value=value:TC:hadamard=64')
expect_status 0 kvzip convert turned.safetensors back.safetensors "${undo[@]}"
expect_status 0 kvzip compare plain.safetensors back.safetensors --max-abs 1e-5
expect_status 0 kvzip convert turned16.safetensors back16.safetensors "${undo[@]}"
expect_status 0 kvzip compare plain.safetensors back16.safetensors --common --max-abs 0.02
kvzip inspect back16.safetensors >stdout
expect_in stdout "F16"
# Parts of tokens and channels are those of the whole.
expect_status 0 kvzip compress -q turned.safetensors -o part.kvz --tokens 2:4 --preset lossless "${undo[@]}"
expect_status 0 kvzip compress -q back.safetensors -o part2.kvz --tokens 2:4 --preset lossless --layout TC
expect_status 0 kvzip compare part.kvz part2.kvz --max-abs 0

expect_status 0 kvzip convert slot.bin slot.safetensors "${undo[@]}"
expect_status 0 kvzip compare plain.safetensors slot.safetensors --common --max-abs 1e-5
expect_in slot.safetensors '"llama.cpp.rotated_keys":"0"'
expect_in slot.safetensors '"llama.cpp.rotated_values":"0"'
expect_status 0 kvzip convert slot.bin keys.safetensors --map '*key=key:TC:hadamard=128'
expect_in keys.safetensors '"llama.cpp.rotated_values":"64"'
expect_status 0 kvzip compress -q slot.bin -o slot.kvz --preset lossless "${undo[@]}"
expect_status 0 kvzip decompress -q slot.kvz -o again.bin --to llama
expect_status 0 kvzip inspect again.bin
expect_status 0 kvzip compare plain.safetensors again.bin --common --max-abs 1e-5

expect_status 1 kvzip convert slot.bin x.safetensors --map '*.0.key=key:TC:hadamard=128'
expect_in stderr "holds for all of them"
expect_status 1 kvzip convert slot.bin x.safetensors --map '*key=key:TC:hadamard=256'
expect_in stderr "in runs of 256"
expect_status 2 kvzip convert slot.bin x.safetensors --map '*key=key:TC:hadamard=96'
expect_in stderr "a power of two"
[ ! -e x.safetensors ]
