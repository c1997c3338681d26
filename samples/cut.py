#!/usr/bin/env python3
"""Cuts the first tokens of a dump: cut.py DUMP.safetensors TOKENS OUT.safetensors OUT.h5

Keeps keys, values and token ids, leaves queries out. Both outputs hold the same tensors and metadata; the HDF5 file is
chunked, shuffled and deflated, as h5py users store such arrays. Needs python3-numpy and python3-h5py.
"""
import json
import struct
import sys

import h5py
import numpy as np

TYPES = {"F16": np.float16, "F32": np.float32, "I32": np.int32, "I64": np.int64}

source, tokens, safetensors, hdf5 = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
with open(source, "rb") as file:
    header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    data = file.read()
metadata = header.pop("__metadata__")
metadata.pop("nll", None)  # measured over all tokens
metadata["source"] += f", tokens 0-{tokens - 1}"

tensors = {}
for name, info in header.items():
    if name.endswith(".query"):
        continue
    begin, end = info["data_offsets"]
    tensor = np.frombuffer(data[begin:end], TYPES[info["dtype"]]).reshape(info["shape"])
    tensors[name] = (info["dtype"], np.ascontiguousarray(tensor.take(range(tokens), axis=max(0, tensor.ndim - 2))))

header, at = {"__metadata__": metadata}, 0
for name, (dtype, tensor) in tensors.items():
    header[name] = {"dtype": dtype, "shape": tensor.shape, "data_offsets": [at, at + tensor.nbytes]}
    at += tensor.nbytes
text = json.dumps(header, separators=(",", ":")).encode()
text += b" " * (-len(text) % 8)
with open(safetensors, "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text)
    for _, tensor in tensors.values():
        file.write(tensor.tobytes())

with h5py.File(hdf5, "w", track_order=True) as file:
    for name, value in metadata.items():
        file.attrs[name] = value
    for name, (_, tensor) in tensors.items():
        chunks = (1, *tensor.shape[1:]) if tensor.ndim > 1 else tensor.shape
        file.create_dataset(name, data=tensor, chunks=chunks, shuffle=True, compression="gzip", compression_opts=9)
