# SPDX-License-Identifier: Apache-2.0
"""Tensors of PyTorch to containers and back, with their own types: bfloat16 and float8 need no ml_dtypes."""

import numpy
import torch

import kvzip
from kvzip import _compress

_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
}
_NAMES = {getattr(torch, dtype): name for name, dtype in _DTYPES.items() if hasattr(torch, dtype)}


def from_array(array, dtype_name, device=None):
    """The tensor of an array as kvzip.File gives it; shares its memory unless `device` is another."""
    dtype = getattr(torch, _DTYPES.get(dtype_name, ""), None)
    if dtype is None:
        raise TypeError(f"this version of torch has no type for {dtype_name}")
    if array.size == 0:
        out = torch.empty(array.shape, dtype=dtype)
    else:
        flat = numpy.ascontiguousarray(array).reshape(-1).view(numpy.uint8)
        out = torch.from_numpy(flat).view(dtype).reshape(array.shape)
    return out if device is None else out.to(device)


def to_pair(tensor):
    """What kvzip.compress() takes: an array of the elements' bits, and the name of their type."""
    name = _NAMES.get(tensor.dtype)
    if name is None:
        raise TypeError(f"kvzip has no type for {tensor.dtype}")
    tensor = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()  # bits that views only promise
    bits = kvzip._types.numpy_dtype(name)
    if tensor.numel() == 0:
        return numpy.empty(tuple(tensor.shape), bits), name
    return tensor.reshape(-1).view(torch.uint8).numpy().view(bits).reshape(tuple(tensor.shape)), name


def compress(tensors, path=None, preset=None, **options):
    """kvzip.compress() of tensors by name."""
    pairs = {name: to_pair(tensor) for name, tensor in _compress.named(tensors, "tensors")}
    return kvzip.compress(pairs, path, preset, **options)


def load(source, names=None, device=None, **options):
    """Tensors by name, of a path or bytes; all, or those of `names`. Options are those of kvzip.open()."""
    with kvzip.open(source, **options) as file:
        arrays = file.read(names)
        return {name: from_array(array, file[name].dtype_name, device) for name, array in arrays.items()}
