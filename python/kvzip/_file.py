# SPDX-License-Identifier: Apache-2.0
"""Reading: a file is a mapping from names to tensors, a tensor becomes an array when it is asked for."""

import collections.abc
import ctypes
import os

import numpy

from kvzip import _library, _types


def open(source, *, layout=None, map=(), threads=0):
    """Opens a file by its path, or bytes in memory, of any format that kvzip reads.

    Bytes that cannot change are read where they are, and stay as long as the file or one of its tensors does; a writable
    buffer, as a bytearray, is copied (`memoryview(buffer).toreadonly()` is not, for who leaves it alone).
    A file that is written to after it was opened is refused when it is read.
    Threads may share it, and take turns. A child that is forked has it, too: the fork waits until other threads have
    read, a second at most. A file that one opens or reads for longer is closed in the child, and where that is an HDF5
    file, the child must leave all HDF5 files alone: their library is held for good.

    Quantised blocks of llama.cpp and quantised caches of MLX are shown as the values that they stand for.

    `layout` and `map` are those of the tool ("BHTD", "cache.{L}.k=key:HTD"), for names and shapes that leave roles open.
    """
    return File(source, layout=layout, map=map, threads=threads)


class File(collections.abc.Mapping):
    """Names to Tensor, in the order of the file. `metadata` is a dict of texts."""

    def __init__(self, source, *, layout=None, map=(), threads=0):
        lib = _library.library()
        if isinstance(source, (str, os.PathLike)):
            self._dump = _library.Dump(lib.open, _library.text(source, "path"))
        else:
            view = memoryview(source)
            if not view.contiguous:
                raise ValueError("bytes of a file lie side by side")
            held = numpy.frombuffer(view, numpy.uint8)
            held = held if view.readonly else held.copy()
            self._dump = _library.Dump(lib.open_memory, held.ctypes.data, held.size, keeps=held)
        self._dump.recognise(layout, map, threads)
        count = self._dump.call("tensor_count")
        self._tensors = {tensor.name: tensor for tensor in (Tensor(self._dump, i) for i in range(count))}
        self.metadata = {}
        while (name := self._dump.call("metadata_name", len(self.metadata))) is not None:
            value = self._dump.call("metadata_value", len(self.metadata))
            name = name.decode("utf-8", "replace")
            while name in self.metadata:
                name += "'"  # of the file and of --meta
            self.metadata[name] = value.decode("utf-8", "replace")

    def __getitem__(self, name):
        return self._tensors[name]

    def __iter__(self):
        return iter(self._tensors)

    def __len__(self):
        return len(self._tensors)

    def read(self, names=None):
        """Arrays by name: of all tensors, of these, or of the one of a name. Decodes on all threads, each chunk once."""
        wanted = [names] if isinstance(names, str) else list(self._tensors if names is None else names)
        arrays = {name: self._tensors[name]._empty() for name in wanted}
        buffers = (ctypes.c_void_p * len(self._tensors))()
        for i, name in enumerate(self._tensors):
            if name in arrays:
                buffers[i] = arrays[name].ctypes.data
        if arrays:
            self._dump.do("read_all", buffers, len(buffers))
        return arrays

    def close(self):
        self._dump.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __repr__(self):
        return f"<kvzip.File of {len(self)} tensors>"


class Tensor:
    """A tensor of a file. `dtype_name` is its type in the file ("BF16"), `dtype` that of its arrays.

    `role` is "key", "value", "key+value", "query" or "other", `axes` a letter for each axis ("HTD") or empty, `layer` a
    number or None, `why` says in words how that is known.
    """

    def __init__(self, dump, index):
        self._dump, self._index = dump, index
        view = dump.call("tensor_at", index)
        if not view:
            raise _library.Error("failed", _library.message())
        view = view.contents
        self.name = view.name.decode("utf-8", "surrogateescape")
        self.dtype_name = view.dtype.decode()
        self.dtype = _types.numpy_dtype(self.dtype_name)
        self.shape = tuple(view.shape[i] for i in range(view.rank))
        self.nbytes = view.bytes
        self.role, self.axes, self.why = view.role.decode(), view.axes.decode(), view.why.decode("utf-8", "replace")
        self.layer = view.layer if view.layer >= 0 else None
        self.token_axis = view.token_axis if view.token_axis >= 0 else None

    @property
    def ndim(self):
        return len(self.shape)

    def __len__(self):
        if not self.shape:
            raise TypeError("a scalar has no length")
        return self.shape[0]

    def numpy(self):
        """All of it. Types smaller than a byte are given as their bytes."""
        out = self._empty()
        self._dump.do("read", self._index, out.ctypes.data, out.nbytes)
        return out

    def tokens(self, begin, end):
        """The tokens from `begin` to before `end`, for which only the chunks that hold them are decoded."""
        if self.token_axis is None:
            raise ValueError(f"{self.name} has no axis of tokens")
        if not 0 <= begin <= end <= self.shape[self.token_axis]:
            raise IndexError(f"{self.name}: tokens {begin} to {end} of {self.shape[self.token_axis]}")
        out = self._empty(end - begin)
        self._dump.do("read_tokens", self._index, begin, end, out.ctypes.data, out.nbytes)
        return out

    def __getitem__(self, key):
        """An array, as numpy gives it; of a range of tokens no others are read."""
        index = self._plain_index(key)
        if index is None or self.token_axis is None:
            return self.numpy()[key]
        axis = self.token_axis
        total, at = self.shape[axis], index[axis]
        if isinstance(at, slice):
            begin, end, step = at.indices(total)
            if step < 0:
                return self.numpy()[key]
            index[axis] = slice(None, None, step)
            return self.tokens(begin, max(begin, end))[tuple(index)]
        if not -total <= at < total:
            raise IndexError(f"{self.name}: token {at} of {total}")
        index[axis] = 0
        return self.tokens(at % total, at % total + 1)[tuple(index)]

    def __array__(self, dtype=None, copy=None):
        if copy is False:
            raise ValueError("an array of decoded values is always a new one")
        out = self.numpy()
        return out if dtype is None else out.astype(dtype, copy=False)

    def __repr__(self):
        return f"<kvzip.Tensor {self.name!r}: {self.role}, {self.dtype_name}, {self.shape}>"

    def _empty(self, tokens=None):
        if self.dtype_name in _types.PACKED:
            return numpy.empty(self.nbytes, self.dtype)
        shape = list(self.shape)
        if tokens is not None:
            shape[self.token_axis] = tokens
        return numpy.empty(shape, self.dtype)

    def _plain_index(self, key):
        """A list of a slice or number for each axis; None where it has arrays or new axes."""
        key = list(key) if isinstance(key, tuple) else [key]
        given = [i for i, k in enumerate(key) if k is Ellipsis]
        if len(given) > 1 or len(key) - len(given) > self.ndim:
            return None
        missing = [slice(None)] * (self.ndim - len(key) + len(given))
        at = given[0] if given else len(key)
        out = key[:at] + missing + key[at + 1 :]
        plain = all(isinstance(k, (slice, int, numpy.integer)) and not isinstance(k, bool) for k in out)
        return out if plain else None
