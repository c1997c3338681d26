# SPDX-License-Identifier: Apache-2.0
"""What make.py compresses: small caches as safetensors and HDF5, and containers taken apart and put together again."""

import json
import struct

import ml_dtypes
import numpy as np
import xxhash
import zstandard

FLOATS = {
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F32": np.float32,
    "F64": np.float64,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
}
PLAIN = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "complex64": "C64",
}


def name_of(array):
    for name, dtype in FLOATS.items():
        if array.dtype == dtype:
            return name
    return PLAIN[array.dtype.name]


def safetensors(path, tensors, metadata=None):
    """tensors: name to an array, or to (dtype name, shape, bytes)."""
    header, data = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, t in tensors.items():
        dtype, shape, raw = t if isinstance(t, tuple) else (name_of(t), t.shape, np.ascontiguousarray(t).tobytes())
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def tile(rng, tokens, channels, key):
    """Tokens x channels: keys with channels of different size and mean that drift along tokens, values near noise."""
    x = rng.standard_normal((tokens, channels))
    if not key:
        return x * (0.5 + rng.random((tokens, 1)))
    for t in range(1, tokens):
        x[t] = 0.9 * x[t - 1] + 0.43 * x[t]
    return x * np.exp(rng.standard_normal(channels)) + 3 * rng.standard_normal(channels)


def cache(seed, layers, heads, dim, tokens, dtype="F16", value_dim=None, names="layers.{}.{}", upcast=False):
    """Keys and values of layers, HTD. Upcast: numbers of half precision in a longer type, as some dumps have them."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for layer in range(layers):
        for role, width in (("key", dim), ("value", value_dim or dim)):
            x = tile(rng, tokens, heads * width, role == "key").reshape(tokens, heads, width).transpose(1, 0, 2)
            tensors[names.format(layer, role)] = (x.astype(np.float16) if upcast else x).astype(FLOATS[dtype])
    return tensors


def specials(dtype, array):
    """The type's odd values, spread over an array: NaN, infinities, zeros, subnormals, limits, and two random NaN."""
    kind = FLOATS[dtype]
    info = np.finfo(kind) if dtype in ("F16", "F32", "F64") else ml_dtypes.finfo(kind)
    odd = np.array(
        [
            np.nan,
            np.inf,
            -np.inf,
            0.0,
            -0.0,
            float(info.max),
            float(info.min),
            float(info.tiny),
            float(info.smallest_subnormal),
            -float(info.smallest_subnormal),
        ]
    ).astype(kind)
    flat = array.reshape(-1).copy()
    flat[3 :: max(1, flat.size // 29)][: odd.size] = odd[: flat[3 :: max(1, flat.size // 29)].size]
    bits = flat.view(f"u{flat.itemsize}")
    if dtype in ("F16", "BF16", "F32", "F64"):  # NaN with a payload and a sign
        bits[1] = {"F16": 0xFD37, "BF16": 0xFFC5, "F32": 0xFFC12345, "F64": 0xFFF8000012345678}[dtype]
        bits[2] = {"F16": 0x7C01, "BF16": 0x7F81, "F32": 0x7F800001, "F64": 0x7FF0000000000001}[dtype]
    return flat.reshape(array.shape)


# Containers in pieces: man/kvz.5 has the layout.
MAGIC, SYNC, END = b"\x89KVZ\r\n\x1a\n", b"KVR\x01", b"\nKVZEND\x89"
HEADER, FRAME, INDEX, LAST, RESULTS = 1, 2, 3, 4, 0x8001


def hash64(data):
    return xxhash.xxh3_64_intdigest(data)


def checked(front):
    return front + struct.pack("<I", hash64(front) & 0xFFFFFFFF)


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def prelude(major=1, minor=0, critical=0, ignorable=0, reserved=0):
    return checked(MAGIC + struct.pack("<HHIIQ", major, minor, critical, ignorable, reserved))


def record(kind, payload, sequence, flags=0, decoded=None):
    decoded = len(payload) if decoded is None else decoded
    return (
        checked(SYNC + struct.pack("<HHQQI", kind, flags, len(payload), decoded, sequence))
        + payload
        + struct.pack("<Q", hash64(payload))
    )


def footer(index_offset, size, reserved=0):
    return checked(struct.pack("<QQQI", index_offset, size, reserved, 0)) + END


def take_apart(data):
    """A list of [type, payload], the header unpacked."""
    at, records = 32, []
    while not records or records[-1][0] != LAST:
        kind, flags, stored, decoded = struct.unpack_from("<HHQQ", data, at + 4)
        payload = data[at + 32 : at + 32 + stored]
        if flags & 1 and kind in (HEADER, INDEX):
            payload = zstandard.ZstdDecompressor().decompress(payload, decoded)
        records.append([kind, payload])
        at += 40 + stored
    return records


def offsets(data):
    """Where each record starts: a list of (type, offset, payload bytes)."""
    at, found = 32, []
    while not found or found[-1][0] != LAST:
        kind, _, stored = struct.unpack_from("<HHQ", data, at + 4)
        found.append((kind, at, stored))
        at += 40 + stored
    return found


def put_together(records, front=None, entries=None, end=None):
    """A container of records [type, payload] or [type, payload, flags, decoded]. A header without flags is packed; the
    index and the end record are made anew, and entries and end are functions that change what they say."""
    out, index, last, hashes = front or prelude(), [], 0, b""
    for i, r in enumerate(records):
        kind, payload, flags, decoded = list(r) + [0, None][len(r) - 2 :]
        if kind == HEADER and len(r) == 2:
            packed = zstandard.ZstdCompressor(19).compress(payload)
            if len(packed) < len(payload) <= 1000 * len(packed):
                payload, flags, decoded = packed, 1, len(payload)
        if kind == FRAME:
            index += [len(out) - last, len(payload)]
            last = len(out) + 40 + len(payload)
        if kind == INDEX:
            index_offset = len(out)
            payload = b"".join(varint(n) for n in (entries or (lambda e: e))(index))
        if kind == LAST:
            payload = struct.pack("<QQQ", *(end or (lambda *n: n))(i + 1, len(index) // 2, hash64(hashes)))
        hashes += struct.pack("<Q", hash64(payload))
        out += record(kind, payload, i, flags, decoded)
    return out + footer(index_offset, len(out) + 40)


def with_header(data, edit, **options):
    """The container with another header: edit changes the JSON object, or returns the text."""
    records = take_apart(data)
    header = json.loads(records[0][1])
    text = edit(header)
    records[0][1] = text if isinstance(text, bytes) else json.dumps(header).encode()
    return put_together(records, **options)
