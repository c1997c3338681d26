# SPDX-License-Identifier: Apache-2.0
"""Damaged and hostile safetensors and HDF5 files."""

import struct

import h5py
import numpy as np

from edited import flip, read


def dumps():
    """Damaged safetensors and HDF5 files: name with its extension to bytes."""
    bad = {}

    def st(name, text, data=b"", length=None):
        text = text if isinstance(text, bytes) else text.encode()
        bad[f"{name}.safetensors"] = struct.pack("<Q", len(text) if length is None else length) + text + data

    one = '{"dtype":"U8","shape":[2],"data_offsets":[0,2]}'
    st("st-length-long", "{}", length=3)
    st("st-length-most", "{}" + " " * 600, length=100_000_000)
    st("st-length-beyond", "{}" + " " * 600, length=100_000_001)
    st("st-space-first", ' {"a":' + one + "}", b"xy")
    st("st-newline-last", '{"a":' + one + "}\n", b"xy")
    st("st-not-json", '{"a":}')
    st("st-two-objects", "{}{}")
    st("st-bad-utf-8", b'{"\xff":1}')
    st("st-deep", '{"a":{"dtype":"U8","shape":' + "[" * 2000 + "1" + "]" * 2000 + ',"data_offsets":[0,1]}}', b"x")
    st("st-entry-number", '{"a":1}')
    st("st-metadata-number", '{"__metadata__":{"k":1}}')
    st("st-dtype-number", '{"a":{"dtype":1,"shape":[2],"data_offsets":[0,2]}}', b"xy")
    st("st-shape-negative", '{"a":{"dtype":"U8","shape":[-2],"data_offsets":[0,2]}}', b"xy")
    st("st-shape-real", '{"a":{"dtype":"U8","shape":[2.0],"data_offsets":[0,2]}}', b"xy")
    st("st-shape-beyond", '{"a":{"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,2]}}', b"xy")
    st("st-no-dtype", '{"a":{"shape":[2],"data_offsets":[0,2]}}', b"xy")
    st("st-no-shape", '{"a":{"dtype":"U8","data_offsets":[0,2]}}', b"xy")
    st("st-no-offsets", '{"a":{"dtype":"U8","shape":[2]}}', b"xy")
    st("st-name-twice", '{"a":' + one + ',"\\u0061":' + one + "}", b"xy")
    st("st-metadata-twice", '{"__metadata__":{"k":"1","k":"1"}}')
    st("st-backwards", '{"a":{"dtype":"U8","shape":[2],"data_offsets":[2,0]}}', b"xy")
    st("st-size-differs", '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,2]}}', b"xy")
    st(
        "st-hole",
        '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}',
        b"xyz",
    )
    st("st-overlap", '{"a":' + one + ',"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}', b"xyz")
    st("st-data-short", '{"a":' + one + "}", b"x")
    st("st-data-long", '{"a":' + one + "}", b"xyz")
    st("st-elements-overflow", '{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}}')
    st(
        "st-bytes-huge",
        '{"a":{"dtype":"U8","shape":[9223372036854775807],"data_offsets":[0,9223372036854775807]}}',
        b"xy",
    )
    st("st-rank-33", '{"a":{"dtype":"U8","shape":[' + "1," * 32 + '1],"data_offsets":[0,1]}}', b"x")
    st("st-packed-odd", '{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}}', b"xy")

    # h5py's oldest forms, without checksums of their own.
    with h5py.File("base.h5", "w", libver="earliest") as f:
        for name in ("key_0", "value_0"):
            f[name] = np.arange(480, dtype=np.float16).reshape(2, 60, 4)
    base = read("base.h5")
    for name, n in {"magic": 5, "superblock": 40, "half": len(base) // 2, "last": len(base) - 1}.items():
        bad[f"h5-cut-{name}.h5"] = base[:n]
    shape = struct.pack("<QQQ", 2, 60, 4)
    for name, extents in {"longer": (2, 61, 4), "huge": (2, 1 << 60, 4), "beyond": (1 << 62, 60, 4)}.items():
        bad[f"h5-shape-{name}.h5"] = base.replace(shape, struct.pack("<QQQ", *extents))
    bad["h5-zeros.h5"] = base[:200] + bytes(600) + base[800:]
    bad["h5-text-lf.h5"] = base.replace(b"\r\n", b"\n")
    bad["h5-text-utf-8.h5"] = base.decode("latin-1").encode()
    with h5py.File("chunks.h5", "w", libver="earliest") as f:
        f.create_dataset(
            "layers/0/key",
            data=np.arange(480, dtype=np.float16).reshape(2, 60, 4),
            chunks=(1, 60, 4),
            compression="gzip",
            fletcher32=True,
        )
        where = f["layers/0/key"].id.get_chunk_info(1).byte_offset
        length = f["layers/0/key"].id.get_chunk_info(1).size
    chunks = read("chunks.h5")
    bad["h5-fletcher.h5"] = flip(chunks, where + length // 2)
    with h5py.File("chunks.h5", "w", libver="earliest") as f:
        f.create_dataset(
            "layers/0/key",
            data=np.arange(480, dtype=np.float16).reshape(2, 60, 4),
            chunks=(1, 60, 4),
            compression="gzip",
        )
        where = f["layers/0/key"].id.get_chunk_info(1).byte_offset
    chunks = read("chunks.h5")
    bad["h5-deflate.h5"] = chunks[:where] + b"\0\1\2\3" + chunks[where + 4 :]
    with h5py.File("text.h5", "w", libver="earliest") as f:
        f["key_0"] = np.zeros((1, 8, 4), np.float16)
        f.attrs["note"] = "some text on a heap"
    text = read("text.h5")
    heap = text.index(b"GCOL")
    bad["h5-heap-none.h5"] = text[: heap + 8] + bytes(8) + text[heap + 16 :]
    bad["h5-heap-object.h5"] = text[: heap + 24] + b"\xff" * 8 + text[heap + 32 :]
    with h5py.File("deep.h5", "w", libver="latest") as f:
        f["/".join(["g"] * 70) + "/x"] = np.float32(1)
    bad["h5-deep.h5"] = read("deep.h5")
    with h5py.File("sparse.h5", "w", libver="earliest") as f:
        f.create_dataset("layers/0/key", (1 << 20, 1 << 10, 64), np.float16, chunks=(1, 64, 64))
    bad["h5-states-much.h5"] = read("sparse.h5")
    return bad
