# SPDX-License-Identifier: Apache-2.0
"""What 0.1 cannot know."""

import io
import pickle
import struct
import zipfile
import zlib

import h5py
import numpy as np
import zstandard

import inputs as i
from edited import FRAME, HEADER, raw_deflate, read


def foreign(tool):
    """What 0.1 cannot know: name with its extension to bytes."""
    base, records = tool.base, i.take_apart(tool.base)
    # Numbers that no later version is likely to give a meaning.
    new = {
        "major-999.kvz": i.prelude(major=999) + base[32:],
        "major-65535.kvz": i.prelude(major=65535, minor=9) + bytes(100),
        "critical-flag.kvz": i.prelude(critical=1 << 31, minor=1) + base[32:],
    }
    for kind in (0x4A4A, 0x7FFF):
        new[f"record-{kind}.kvz"] = i.put_together(records[:3] + [[kind, b"what is this"]] + records[3:])
    new["frame-flag.kvz"] = i.put_together([records[0], [FRAME, records[1][1], 1 << 15]] + records[2:])
    new["header-flag.kvz"] = i.put_together([[HEADER, records[0][1], 1 << 15]] + records[1:])

    def header(name, edit, minor=0):
        new[f"{name}.kvz"] = i.with_header(base, edit, front=i.prelude(minor=minor))

    def stage(h):
        h["pipelines"][0].update(stages=[200, 3], text="fold:deep=3,quant:bits=2,pack", since="77.7")

    header("stage", stage, 60000)
    header("stage-minor-0", stage)
    header("coder", lambda h: h["pipelines"][0].update(coder=201, text="quant:bits=2,fse", since="77.9"), 60000)
    header("field", lambda h: h["pipelines"][0].update(text="quant:bits=2:fresh=1,pack", since="1.60000"), 60000)
    header("dtype", lambda h: h["tensors"][0].update(dtype="F3"))
    header("role", lambda h: h["tensors"][0].update(role="gate"))
    header("scaling", lambda h: h["model"]["rope"].update(scaling="spiral"))
    header("other-header", lambda h: b'{"format":"quite another"}', 60000)

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr(zipfile.ZipInfo("archive/data.pkl"), pickle.dumps({"key": [1.0, 2.0]}, 2))
    new["zip.pt"] = archive.getvalue()
    for protocol in (2, 3, 4, 5):
        new[f"pickle-{protocol}.pkl"] = pickle.dumps({"key": [1.0] * 40}, protocol)
    new["model.gguf"] = b"GGUF" + struct.pack("<IQQ", 3, 0, 0)
    new["session.bin"] = struct.pack("<II", 0x6767736E, 9) + bytes(60)
    new["sequence.bin"] = struct.pack("<II", 0x67677371, 2) + bytes(60)
    new["packed.gz"] = (
        b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + raw_deflate(base) + struct.pack("<II", zlib.crc32(base), len(base))
    )
    new["packed.zst"] = zstandard.ZstdCompressor().compress(base)
    new["packed.xz"] = b"\xfd7zXZ\0" + bytes(40)
    new["magic.kvz"] = b"\x88" + base[1:]
    new["prefixed.kvz"] = b"#!/bin/sh\n" + base
    new["text.txt"] = b"Keys and values of a layer side by side.\n"
    new["zeros.bin"] = bytes(300)
    new["dtype.safetensors"] = (
        struct.pack("<Q", 55) + b'{"a":{"dtype":"F3","shape":[8],"data_offsets":[0,3]}}  ' + b"xyz"
    )

    with h5py.File("external-link.h5", "w") as f:
        f["layers/0/key"] = h5py.ExternalLink("elsewhere.h5", "/key")
    with h5py.File("external-data.h5", "w") as f:
        f.create_dataset("layers/0/key", (2, 4), np.float16, external=[("/etc/hostname", 0, 16)])
    with h5py.File("virtual.h5", "w", libver="earliest") as f:
        layout = h5py.VirtualLayout((2, 4), np.float16)
        layout[0] = h5py.VirtualSource("elsewhere.h5", "x", (4,))
        f.create_virtual_dataset("layers/0/key", layout)
    with h5py.File("filter.h5", "w", libver="earliest") as f:
        f.create_dataset("layers/0/key", data=np.zeros((2, 40, 4), np.float16), chunks=(1, 40, 4), compression="lzf")
    for name in ("external-link", "external-data", "virtual"):
        new[f"{name}.h5"] = read(f"{name}.h5")
    lzf = read("filter.h5")
    at = lzf.index(b"lzf\0") - 8  # id, length of the name, flags, number of values
    assert struct.unpack_from("<H", lzf, at)[0] == 32000
    new["filter.h5"] = lzf[:at] + struct.pack("<H", 399) + lzf[at + 2 :].replace(b"lzf\0", b"zzz\0", 1)
    return new
