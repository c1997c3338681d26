# SPDX-License-Identifier: Apache-2.0
"""Writing: arrays become a container."""

import collections.abc
import ctypes

import numpy

from kvzip import _library, _types


def compress(
    arrays, path=None, preset=None, *, metadata=None, layout=None, map=(), overwrite=False, threads=0, order="layer"
):
    """Compresses arrays by name into a container at `path`, or to bytes without one.

    An array is what numpy makes one of, or a pair of it and the name of its type, as (bits, "BF16") for bfloat16 in
    integers. `preset` is a built-in one's name or the text of one; default: kvzip-near. `metadata` (texts by name) and
    `layout` ("BHTD", "HTD") say what names and shapes leave open: kvzip(1), RECOGNITION. `order`: "token" puts all
    layers of the first 1024 tokens together, then those of the next; "token:N" those of N.

    A file is no more readable than those that tensors of `kvzip.open` come from; of plain arrays that is not known, and
    the umask decides.
    """
    function, together = _order(order)
    dump = _library.Dump(_library.library().new, keeps=[])
    try:
        sources = []
        for name, given in named(arrays, "arrays"):
            _add(dump, name, given)
            source = getattr(given, "_dump", None)  # of a Tensor
            if source is not None and source not in sources:
                sources.append(source)
                dump.made_from(source)
        for name, value in named(metadata or {}, "metadata"):
            if value is None:
                raise TypeError(f"metadata {name} is None, which is no text: leave it out")
            dump.do("set_metadata", _library.text(str(name), "metadata"), _library.text(str(value), f"metadata {name}"))
        dump.recognise(layout, map, threads)
        preset = _library.text(preset, "preset") if preset is not None else None
        if path is not None:
            dump.do(function, preset, *together, _library.text(path, "path"), _library.OVERWRITE if overwrite else 0)
            return None
        return _to_bytes(dump, function + "_memory", preset, *together)
    finally:
        dump.close()


def named(given, what):
    """Names and what they stand for."""
    if not isinstance(given, collections.abc.Mapping):
        raise TypeError(f"{what} by name are a dict, or another mapping, not {type(given).__name__}")
    return given.items()


def _order(text):
    """The function, and what it takes beside the preset."""
    word, colon, number = text.partition(":")
    if text == "layer":
        return "compress", ()
    if word != "token" or colon and not (number.isascii() and number.isdigit() and 0 < int(number) < 2**64):
        raise ValueError(f"order {text!r}: expected layer, token or token:N")
    return "compress_by_tokens", (int(number or 0),)


def _add(dump, name, given):
    if not isinstance(name, str):
        raise TypeError(f"a name is a text, not {name!r}")
    array, type_name = given if isinstance(given, tuple) else (given, getattr(given, "dtype_name", None))
    array = numpy.asarray(array)
    type_name = type_name or _types.dtype_name(array.dtype)
    if array.dtype.itemsize != _types.numpy_dtype(type_name).itemsize or type_name in _types.PACKED:
        raise TypeError(f"{name}: {array.dtype} holds no {type_name}")
    array = numpy.require(array, array.dtype.newbyteorder("<") if array.dtype.byteorder == ">" else None, "C")
    dump.keeps.append(array)
    shape = (ctypes.c_uint64 * array.ndim)(*array.shape)
    dump.do("add", _library.text(name, "name"), type_name.encode(), array.ndim, shape, array.ctypes.data, array.nbytes)


def _to_bytes(dump, function, *arguments):
    data, size = ctypes.c_void_p(), ctypes.c_size_t()
    dump.do(function, *arguments, ctypes.byref(data), ctypes.byref(size))
    try:
        return ctypes.string_at(data, size.value)
    finally:
        _library.library().free(data)
