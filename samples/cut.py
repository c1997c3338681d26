#!/usr/bin/env python3
"""Cuts a dump in safetensors down to a part of it: cut.py DUMP OUT [--roles R,..] [--tokens A:B] [--layers A-B]

Takes tensors named layers.N.ROLE, heads x tokens x channels, and token_ids with keys. OUT is safetensors, or HDF5 where
it ends in .h5: chunked by head, shuffled and deflated, as h5py users store such arrays. Needs python3-numpy and, for
HDF5, python3-h5py.
"""
import argparse
import json
import struct

import numpy as np

TYPES = {"F16": np.float16, "BF16": np.uint16, "F32": np.float32, "I32": np.int32, "I64": np.int64}

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("dump")
parser.add_argument("out")
parser.add_argument("--roles", default="key,value")
parser.add_argument("--tokens", default=":")
parser.add_argument("--layers", default="0-")
options = parser.parse_args()
roles = options.roles.split(",")
begin, end = (int(text) if text else None for text in options.tokens.split(":"))
first, last = (int(text) if text else None for text in options.layers.split("-"))

with open(options.dump, "rb") as file:
    header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    data = file.read()
metadata = header.pop("__metadata__", {})
metadata["first_position"] = str(int(metadata.get("first_position", 0)) + (begin or 0))

tensors = {}
for name, info in header.items():
    parts = name.split(".")
    if parts[0] == "layers":
        if parts[2] not in roles or int(parts[1]) < first or (last is not None and int(parts[1]) > last):
            continue
    elif name != "token_ids" or "key" not in roles:
        continue
    tensor = np.frombuffer(data[slice(*info["data_offsets"])], TYPES[info["dtype"]]).reshape(info["shape"])
    tensors[name] = (info["dtype"], np.ascontiguousarray(tensor[..., begin:end, :] if tensor.ndim > 1 else tensor[begin:end]))

if options.out.endswith(".h5"):
    import h5py

    with h5py.File(options.out, "w", track_order=True) as file:
        for name, value in metadata.items():
            file.attrs[name] = value
        for name, (_, tensor) in tensors.items():
            chunks = (1, *tensor.shape[1:]) if tensor.ndim > 1 else tensor.shape
            file.create_dataset(name, data=tensor, chunks=chunks, shuffle=True, compression="gzip", compression_opts=9)
else:
    header, at = {"__metadata__": metadata}, 0
    for name, (dtype, tensor) in tensors.items():
        header[name] = {"dtype": dtype, "shape": tensor.shape, "data_offsets": [at, at + tensor.nbytes]}
        at += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(options.out, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, tensor in tensors.values():
            file.write(tensor.tobytes())
