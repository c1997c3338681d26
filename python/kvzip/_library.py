# SPDX-License-Identifier: Apache-2.0
"""libkvzip.so, as include/kvzip/kvzip.h declares it."""

import ctypes
import ctypes.util
import functools
import os
import pathlib

SONAME = "libkvzip.so.0"
CODES = ["ok", "corrupt", "truncated", "unsupported", "invalid_argument", "io", "limit", "no_memory", "failed"]
OVERWRITE = 1


class Error(Exception):
    """What the library refuses. `code` is a word: corrupt, truncated, unsupported, invalid_argument, io, limit, ..."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class TensorView(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("dtype", ctypes.c_char_p),
        ("rank", ctypes.c_size_t),
        ("shape", ctypes.POINTER(ctypes.c_uint64)),
        ("bytes", ctypes.c_uint64),
        ("role", ctypes.c_char_p),
        ("axes", ctypes.c_char_p),
        ("why", ctypes.c_char_p),
        ("layer", ctypes.c_int64),
        ("token_axis", ctypes.c_int),
    ]


_text, _size, _number, _pointer = ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64, ctypes.c_void_p
_handle = ctypes.c_void_p
_FUNCTIONS = {
    "version": (_text, []),
    "error": (_text, []),
    "preset_name": (_text, [_size]),
    "open": (ctypes.c_int, [_text, ctypes.POINTER(_handle)]),
    "open_memory": (ctypes.c_int, [_pointer, _size, ctypes.POINTER(_handle)]),
    "new": (ctypes.c_int, [ctypes.POINTER(_handle)]),
    "close": (None, [_handle]),
    "add": (ctypes.c_int, [_handle, _text, _text, _size, ctypes.POINTER(_number), _pointer, _size]),
    "set_metadata": (ctypes.c_int, [_handle, _text, _text]),
    "set_layout": (ctypes.c_int, [_handle, _text]),
    "add_map": (ctypes.c_int, [_handle, _text]),
    "set_threads": (ctypes.c_int, [_handle, ctypes.c_uint]),
    "tensor_count": (_size, [_handle]),
    "tensor_at": (ctypes.POINTER(TensorView), [_handle, _size]),
    "metadata_name": (_text, [_handle, _size]),
    "metadata_value": (_text, [_handle, _size]),
    "read": (ctypes.c_int, [_handle, _size, _pointer, _size]),
    "read_tokens": (ctypes.c_int, [_handle, _size, _number, _number, _pointer, _size]),
    "read_all": (ctypes.c_int, [_handle, ctypes.POINTER(_pointer), _size]),
    "compress": (ctypes.c_int, [_handle, _text, _text, ctypes.c_int]),
    "compress_memory": (ctypes.c_int, [_handle, _text, ctypes.POINTER(_pointer), ctypes.POINTER(_size)]),
    "compress_by_tokens": (ctypes.c_int, [_handle, _text, _number, _text, ctypes.c_int]),
    "compress_by_tokens_memory": (
        ctypes.c_int,
        [_handle, _text, _number, ctypes.POINTER(_pointer), ctypes.POINTER(_size)],
    ),
    "free": (None, [_pointer]),
}


def _candidates():
    named = os.environ.get("KVZIP_LIBRARY")
    if named:
        return [named]  # who names one wants no other
    own = sorted(pathlib.Path(__file__).parent.glob("libkvzip.so*"))
    found = ctypes.util.find_library("kvzip")
    return [str(path) for path in own] + [SONAME] + ([found] if found else [])


@functools.lru_cache(maxsize=None)
def library():
    """The library, loaded at first use; its functions without their prefix."""
    refused = []
    for path in _candidates():
        try:
            loaded = ctypes.CDLL(path)
        except OSError as error:
            refused.append(str(error))
            continue
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(loaded, "kvzip_" + name)
            function.restype, function.argtypes = result, arguments
            setattr(loaded, name, function)
        return loaded
    raise ImportError("libkvzip.so is not found; KVZIP_LIBRARY can name it: " + "; ".join(refused))


def check(status):
    if status != 0:
        code = CODES[status] if status < len(CODES) else "failed"
        raise Error(code, library().error().decode("utf-8", "replace"))


def version():
    """Of the library."""
    return library().version().decode()


def presets():
    """The names of the built-in presets."""
    names, index = [], 0
    while (name := library().preset_name(index)) is not None:
        names.append(name.decode())
        index += 1
    return names


class Dump:
    """A handle, closed once. Calls of other threads wait: a handle takes one at a time."""

    def __init__(self, opener, *arguments):
        import threading

        self._handle = _handle()
        self.lock = threading.RLock()
        check(opener(*arguments, ctypes.byref(self._handle)))

    def call(self, name, *arguments):
        with self.lock:
            if not self._handle:
                raise ValueError("the file is closed")
            return getattr(library(), name)(self._handle, *arguments)

    def do(self, name, *arguments):
        with self.lock:  # the message belongs to this call
            check(self.call(name, *arguments))

    def recognise(self, layout, rules, threads):
        if layout:
            self.do("set_layout", layout.encode())
        for rule in [rules] if isinstance(rules, str) else rules:
            self.do("add_map", rule.encode())
        self.do("set_threads", threads)

    def close(self):
        with self.lock:
            if self._handle:
                library().close(self._handle)
                self._handle = _handle()

    def __del__(self):
        if getattr(self, "_handle", None):
            self.close()
