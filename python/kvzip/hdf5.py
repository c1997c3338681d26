# SPDX-License-Identifier: Apache-2.0
"""Datasets of HDF5 files that HDF5 itself codes with kvzip, chunk by chunk, through its filter plugin.

    file.create_dataset("layers.0.key", data=key, **kvzip.hdf5.filter((8, 256, 128), key.dtype, "HTD", "key"))

HDF5_PLUGIN_PATH names the folder of the plugin, for whoever writes such a file and for whoever reads it. What the filter
would refuse is refused by filter(), as kvzip.Error; a dataset of another type or other chunks by create_dataset().
"""

import struct

from kvzip import _library, _types

FILTER = 49374


def filter(chunks, dtype, axes, role, *, preset=None, pipeline=None, layer=None, layers=None):
    """What h5py's create_dataset() takes: `chunks`, `compression` and `compression_opts`.

    `chunks` is the shape of a chunk and `axes` a letter for each of its axes, T for tokens, the channels last ("BHTD",
    "THD"); `dtype` a float type of numpy, or a type's name, as "BF16" for bfloat16 in 16-bit integers; `role` is "key",
    "value" or "query". `preset` (default: kvzip-near) is a built-in one's name, of which the rule of this `layer` of
    `layers` counts; `pipeline` the text of a pipeline instead.
    """
    if preset is not None and pipeline is not None:
        raise ValueError("a preset or a pipeline, not both")
    name = dtype
    if not (isinstance(dtype, str) and dtype.isupper()):
        name = _types.dtype_name(dtype)
        if _types.numpy.dtype(dtype).byteorder == ">":
            raise TypeError("HDF5 hands the filter the bytes of the file: little-endian ones, please")
    words = [f"dtype={name}", f"shape={','.join(str(int(n)) for n in chunks)}", f"axes={axes}", f"role={role}"]
    if layer is not None:
        words.append(f"layer={int(layer)}")
    if layers is not None:
        words.append(f"layers={int(layers)}")
    words.append(f"pipeline={pipeline}" if pipeline is not None else f"preset={preset or 'kvzip-near'}")
    text = _library.text(" ".join(words), "settings")
    _library.check(_library.library().check_filter(text))
    text += bytes(-len(text) % 4)
    return {
        "chunks": tuple(chunks),
        "compression": FILTER,
        "compression_opts": struct.unpack(f"<{len(text) // 4}I", text),
    }
