# SPDX-License-Identifier: Apache-2.0
"""Compressed key-value caches: .kvz containers, and all that kvzip reads, as numpy arrays.

    with kvzip.open("cache.kvz") as cache:
        key = cache["layers.0.key"]
        key.tokens(128, 256)    # an array of these tokens; only their chunks are decoded
        key[..., 0]             # indexing gives arrays
        numpy.asarray(key)      # and so does numpy
        cache.read()            # all of it, on every core

    kvzip.compress({"layers.0.key": k, "layers.0.value": v}, "cache.kvz", preset="kvzip-near", layout="HTD")

It needs libkvzip.so: the one that KVZIP_LIBRARY names, else one in this package's folder, else what the system finds.
kvzip.torch and kvzip.transformers are for tensors and caches of these libraries, and are imported by name.
"""

from kvzip._compress import compress
from kvzip._file import File, Tensor, open
from kvzip._library import Error, library, presets, version

__version__ = "0.2.0"  # also of the library that it needs

__all__ = ["Error", "File", "Tensor", "compress", "library", "open", "presets", "version"]
