# SPDX-License-Identifier: Apache-2.0
"""Element types: the names of safetensors, and what stands for them in numpy."""

import numpy

try:
    import ml_dtypes
except ImportError:
    ml_dtypes = None

_PLAIN = {
    "BOOL": "bool",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
    "C64": "<c8",
}
# What numpy itself has not: the name in ml_dtypes, and the bits in an integer without it.
_MORE = {
    "BF16": ("bfloat16", "<u2"),
    "F8_E5M2": ("float8_e5m2", "u1"),
    "F8_E4M3": ("float8_e4m3fn", "u1"),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", "u1"),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", "u1"),
    "F8_E8M0": ("float8_e8m0fnu", "u1"),
}
# Smaller than a byte: arrays of these are their bytes.
PACKED = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}


def numpy_dtype(name):
    """Of a type's name. Without ml_dtypes BF16 and the 8-bit floats are integers of their bits."""
    if name in _PLAIN:
        return numpy.dtype(_PLAIN[name])
    if name in _MORE:
        more, bits = _MORE[name]
        return numpy.dtype(getattr(ml_dtypes, more, bits) if ml_dtypes else bits)
    if name in PACKED:
        return numpy.dtype("u1")
    raise TypeError(f"there is no type {name!r}")


def dtype_name(dtype):
    """The name of a numpy type."""
    dtype = numpy.dtype(dtype)
    for name, (more, _) in _MORE.items():
        if dtype.name == more:
            return name
    for name, plain in _PLAIN.items():
        if dtype == numpy.dtype(plain) or dtype == numpy.dtype(plain).newbyteorder(">"):
            return name
    raise TypeError(f"kvzip has no type for {dtype}")
