#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the HDF5 files beside it with h5py: python3 make.py. tests/unit/hdf5_test.cpp knows what is in them."""
import os

import h5py
import numpy as np

os.chdir(os.path.dirname(os.path.abspath(__file__)))
rng = np.arange(8 * 6 * 4, dtype=np.float32).reshape(8, 6, 4) / 16 - 3
bf16_bits = (np.arange(24, dtype=np.uint16) + 0x3F80).reshape(6, 4)

with h5py.File("types.h5", "w") as f:
    f["f16"] = rng.astype(np.float16)
    f.create_dataset("f16_chunked", data=rng.astype(np.float16), chunks=(3, 4, 4), compression="gzip", shuffle=True,
                     fletcher32=True)
    f["f32_big_endian"] = rng.astype(">f4")
    f["f64"] = rng.astype(np.float64)
    f["bool"] = np.array([[True, False], [False, True]])
    f["ids"] = np.arange(-3, 5, dtype=np.int64)
    f["i16_big_endian"] = np.arange(-3, 5, dtype=">i2")
    f["complex"] = (np.arange(3) + 1j * np.arange(3, 6)).astype(np.complex64)
    f["complex_big_endian"] = (np.arange(3) + 1j * np.arange(3, 6)).astype(">c8")
    f["scalar"] = np.float32(2.5)
    f["empty"] = np.zeros((0, 4), np.float16)
    f.create_dataset("never_written", (5, 3), np.float32)
    partly = f.create_dataset("partly_written", (6, 5), ">i4", chunks=(2, 3), compression="gzip", fillvalue=7)
    partly[2:4, 1:4] = np.arange(6).reshape(2, 3)
    f.create_dataset("growing", data=np.arange(5, dtype=np.int32), maxshape=(None,), chunks=(4,))
    for name, fields, bias in (("bf16_float", (15, 7, 8, 0, 7), 127), ("e5m2_float", (7, 2, 5, 0, 2), 15),
                               ("e4m3_float", (7, 3, 4, 0, 3), 7)):
        size = (fields[0] + 1) // 8
        t = h5py.h5t.IEEE_F32LE.copy()
        t.set_fields(*fields)
        t.set_size(size)
        t.set_ebias(bias)
        d = h5py.h5d.create(f.id, name.encode(), t, h5py.h5s.create_simple((4,)))
        d.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([1.0, -2.0, 0.5, 1.75], np.float32))

with h5py.File("hints.h5", "w") as f:
    f["bf16_u16"] = bf16_bits
    f["bf16_u16"].attrs["dtype"] = "bfloat16"
    f["bf16_u16_big_endian"] = bf16_bits.astype(">u2")
    f["bf16_u16_big_endian"].attrs["torch_dtype"] = np.bytes_("torch.bfloat16")
    f["bf16_opaque"] = bf16_bits.view("|V2")
    f["bf16_opaque"].attrs["kvzip.dtype"] = "BF16"
    f["f8_u8"] = np.arange(256, dtype=np.uint8)
    f["f8_u8"].attrs["dtype"] = "float8_e4m3fn"
    f["f8_opaque"] = np.arange(4, dtype=np.uint8).view("|V1")
    f["f8_opaque"].attrs["dtype"] = "F8_E5M2"
    f["plain_u8"] = np.arange(4, dtype=np.uint8)
    f["plain_u8"].attrs["dtype"] = "uint8"

with h5py.File("structure.h5", "w", track_order=True) as f:
    f.attrs["model"] = "tiny"
    f.attrs["beta"] = np.float64(0.5)
    f.attrs["alpha"] = np.array([1, 2, 3], np.int32)
    layers = f.create_group("layers", track_order=True)
    for layer in (10, 2):
        g = layers.create_group(str(layer), track_order=True)
        for name in ("v", "k"):
            g[name] = np.full((2, 3), layer, np.float16)
            g[name].attrs["axes"] = "TD"
    layers.attrs["names"] = np.array(["é", "", "ccc"], dtype=h5py.string_dtype())
    layers.attrs["fixed"] = np.array([b"ab", b"c"], "S4")
    layers.attrs["flag"] = np.bool_(True)
    layers.attrs["half"] = np.float16(1.5)
    layers.attrs["big"] = np.array([[1, 2], [3, 4]], ">u4")
    layers.attrs["nothing"] = h5py.Empty(np.float32)
    layers.attrs["reference"] = layers.ref
    f.create_group("hollow/inner")
    f["first"] = np.arange(3, dtype=np.int8)
    f["first"].make_scale("x")
    layers["2/k"].dims[1].attach_scale(f["first"])

with h5py.File("by_name.h5", "w") as f:
    for name in ("layers.2", "layers.10", "b/z", "b/a", "a"):
        f[name] = np.zeros(2, np.uint8)

with h5py.File("links.h5", "w") as f:
    f["a/data"] = np.arange(4, dtype=np.float32)
    f["b"] = h5py.SoftLink("/a/data")
    f["c"] = h5py.SoftLink("/nowhere")
    f["d"] = f["a/data"]
    f["a/loop"] = f["/"]
    f["a/type"] = np.dtype("<f4")

with h5py.File("external_link.h5", "w") as f:
    f["a"] = np.arange(4, dtype=np.float32)
    f["b"] = h5py.ExternalLink("links.h5", "/a/data")
with h5py.File("virtual.h5", "w") as f:
    layout = h5py.VirtualLayout((4,), np.float32)
    layout[:] = h5py.VirtualSource("links.h5", "a/data", (4,))
    f.create_virtual_dataset("v", layout)
with h5py.File("external_data.h5", "w") as f:
    f.create_dataset("e", (4,), np.float32, external=[("types.h5", 0, 16)])
with h5py.File("lzf.h5", "w") as f:
    f.create_dataset("x/packed", data=np.zeros(64, np.float16), compression="lzf")
with h5py.File("strings.h5", "w") as f:
    f["text"] = ["one", "two"]
with h5py.File("compound.h5", "w") as f:
    f["pair"] = np.zeros(2, [("a", "<f4"), ("b", "<i4")])
with h5py.File("opaque.h5", "w") as f:
    f["bits"] = bf16_bits.view("|V2")
with h5py.File("no_shape.h5", "w") as f:
    f["nothing"] = h5py.Empty(np.float32)

with h5py.File("small.h5", "w") as f:
    f["k"] = np.arange(12, dtype=np.float16).reshape(3, 4)
    f["k"].attrs["axes"] = np.bytes_("TD")
with h5py.File("small_latest.h5", "w", libver="latest") as f:
    f.create_dataset("g/k", data=np.arange(64, dtype=np.float16).reshape(8, 8), chunks=(4, 8), compression="gzip")
    f.attrs["n"] = np.int32(3)
    f.attrs["model"] = np.bytes_("tiny")
with h5py.File("small_string.h5", "w", libver="latest") as f:
    f.attrs["model"] = "tiny"

# One dataset with two names, of which the first says nothing; what no dump holds.
with h5py.File("names.h5", "w") as f:
    key = f.create_dataset("layers/0/key", data=np.array([[1, 2]], dtype="f2"))
    key.attrs["note"] = "kept"
    f["layers/0/value"] = np.array([[3, 4]], dtype="f2")
    f["alias"] = key
    f["soft"] = h5py.SoftLink("/layers/0/key")
    f["prompt"] = "the text"
    f.attrs["latin"] = np.bytes_(b"caf\xe9")

# With h5py 3.16 or later, on HDF5 2.0: a layout message of version 5.
with h5py.File("layout5.h5", "w", libver="latest") as f:
    f.create_dataset("k", data=np.ones((2, 8, 4), "f2"), chunks=(1, 4, 4), compression="gzip")

# What is beside tensors that are chunked, filtered, big-endian, never written, and after a user block.
with h5py.File("beside.h5", "w") as f:
    f.create_dataset("layers.0.key", data=np.arange(64, dtype="f2").reshape(2, 8, 4), chunks=(1, 4, 4),
                     compression="gzip", fillvalue=3)
    f.create_dataset("layers.0.value", data=np.arange(64, dtype=">f2").reshape(2, 8, 4), chunks=(2, 3, 4))
    f["ids"] = np.arange(8, dtype=">i4")
    f.create_dataset("unwritten", (4,), "f4")
    f["kinds"] = np.array([0, 1, 2], dtype=h5py.enum_dtype({"A": 0, "B": 1, "C": 2}, basetype="i1"))
    f["records"] = np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")])
    f["reference"] = np.array([f["ids"].ref], dtype=h5py.ref_dtype)
    f["lists"] = np.array([np.array([1, 2]), np.array([3])], dtype=h5py.vlen_dtype("i4"))
    f["soft"] = h5py.SoftLink("/layers.0.key")
    f["again"] = f["ids"]
    f.create_group("hollow")
    f["ids"].attrs["latin"] = np.bytes_(b"caf\xe9")
    f["ids"].attrs["record"] = np.array((1, 2.5), dtype=[("a", "i4"), ("b", "f8")])
with h5py.File("user_block.h5", "w", userblock_size=8192) as f:
    f["layers.0.key"] = np.arange(8, dtype="f2").reshape(2, 4)
    f["prompt"] = "the text"
with open("user_block.h5", "r+b") as f:
    f.write(b"a user's own bytes")

# Datasets of which nothing was ever written.
with h5py.File("unwritten.h5", "w") as f:
    for i in range(3):
        f.create_dataset(f"layers.{i}.key", (8, 1 << 19, 128), "i1")

# A dataset without data behind a user block, and a bool as HDF5 1.12 writes it when told to.
with h5py.File("nowhere.h5", "w", userblock_size=512) as f:
    f["layers.0.key"] = np.arange(8, dtype="f2").reshape(2, 4)
    f.create_dataset("layers.1.key", (2, 4), "f2")
with h5py.File("v112.h5", "w", libver=("v112", "v112")) as f:
    f["layers.0.key"] = np.arange(8, dtype="f2").reshape(2, 4)
    f.attrs["flag"] = np.bool_(True)

# Every index of chunks that layout messages of version 4 know, pages and blocks of blocks among them; and more links than
# fit in a header.
with h5py.File("indexes.h5", "w", libver=("v110", "v110")) as f:
    numbers = np.arange(250, dtype="u1")
    f.create_dataset("fixed", data=numbers[:24].reshape(4, 6), chunks=(2, 3))
    f.create_dataset("fixed_packed", data=numbers[:24].reshape(4, 6), chunks=(2, 3), compression="gzip")
    pages = f.create_dataset("fixed_pages", (2, 5), "u1", maxshape=(2, 600), chunks=(1, 1))
    pages[...] = numbers[:10].reshape(2, 5)
    grows = f.create_dataset("growing", (50, 2), "u1", maxshape=(None, 3000), chunks=(1, 1))
    grows[:2] = numbers[:4].reshape(2, 2)
    grows[49] = numbers[4:6]
    f.create_dataset("growing_packed", data=numbers[:240].reshape(6, 40), maxshape=(6, None), chunks=(3, 4),
                     compression="gzip")
    f.create_dataset("tree", data=numbers.reshape(10, 25), maxshape=(None, None), chunks=(1, 1))
    f.create_dataset("tree_packed", data=numbers[:24].reshape(4, 6), maxshape=(None, None), chunks=(2, 3),
                     compression="gzip")
    f.create_dataset("one", data=numbers[:24].reshape(4, 6), chunks=(4, 6), compression="gzip")
    early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    early.set_chunk((2, 3))
    early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    space = h5py.h5s.create_simple((4, 6))
    implicit = h5py.Dataset(h5py.h5d.create(f.id, b"implicit", h5py.h5t.STD_U8LE, space, early))
    implicit[...] = numbers[:24].reshape(4, 6)
