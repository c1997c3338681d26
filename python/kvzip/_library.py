# SPDX-License-Identifier: Apache-2.0
"""libkvzip.so, as include/kvzip/kvzip.h declares it."""

import ctypes
import ctypes.util
import functools
import operator
import os
import pathlib
import threading
import time
import weakref

SONAME = "libkvzip.so.0"
CODES = ["ok", "corrupt", "truncated", "unsupported", "invalid_argument", "io", "limit", "no_memory", "failed"]
OVERWRITE = 1
# What settles a refusal, in the C interface's words and in this one's.
_ADVICE = [
    ("kvzip_set_layout() or kvzip_add_map() settles it", "layout= or map= settles it"),
    ("kvzip_set_layout() settles it", "layout= settles it"),
    ("kvzip_add_map() settles it", "map= settles it"),
    ("kvzip_set_metadata() can give it", "metadata= can give it"),
    ("kvzip_preset_name() lists them", "kvzip.presets() lists them"),
    ("KVZIP_OVERWRITE replaces it", "overwrite=True replaces it"),
]


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


_chars, _size, _number, _pointer = ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64, ctypes.c_void_p
_handle = ctypes.c_void_p
_FUNCTIONS = {
    "version": (_chars, []),
    "error": (_chars, []),
    "preset_name": (_chars, [_size]),
    "open": (ctypes.c_int, [_chars, ctypes.POINTER(_handle)]),
    "open_memory": (ctypes.c_int, [_pointer, _size, ctypes.POINTER(_handle)]),
    "new": (ctypes.c_int, [ctypes.POINTER(_handle)]),
    "close": (None, [_handle]),
    "add": (ctypes.c_int, [_handle, _chars, _chars, _size, ctypes.POINTER(_number), _pointer, _size]),
    "set_metadata": (ctypes.c_int, [_handle, _chars, _chars]),
    "made_from": (ctypes.c_int, [_handle, _handle]),
    "set_layout": (ctypes.c_int, [_handle, _chars]),
    "add_map": (ctypes.c_int, [_handle, _chars]),
    "set_threads": (ctypes.c_int, [_handle, ctypes.c_uint]),
    "tensor_count": (_size, [_handle]),
    "tensor_at": (ctypes.POINTER(TensorView), [_handle, _size]),
    "metadata_name": (_chars, [_handle, _size]),
    "metadata_value": (_chars, [_handle, _size]),
    "read": (ctypes.c_int, [_handle, _size, _pointer, _size]),
    "read_tokens": (ctypes.c_int, [_handle, _size, _number, _number, _pointer, _size]),
    "read_all": (ctypes.c_int, [_handle, ctypes.POINTER(_pointer), _size]),
    "compress": (ctypes.c_int, [_handle, _chars, _chars, ctypes.c_int]),
    "compress_memory": (ctypes.c_int, [_handle, _chars, ctypes.POINTER(_pointer), ctypes.POINTER(_size)]),
    "compress_by_tokens": (ctypes.c_int, [_handle, _chars, _number, _chars, ctypes.c_int]),
    "compress_by_tokens_memory": (
        ctypes.c_int,
        [_handle, _chars, _number, ctypes.POINTER(_pointer), ctypes.POINTER(_size)],
    ),
    "free": (None, [_pointer]),
    "check_filter": (ctypes.c_int, [_chars]),
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
            function = getattr(loaded, "kvzip_" + name, None)
            if function is None:
                raise ImportError(f"{path} has no kvzip_{name}(): it is older than this package")
            function.restype, function.argtypes = result, arguments
            setattr(loaded, name, function)
        return loaded
    raise ImportError(
        "libkvzip.so is not found. Where kvzip is built, KVZIP_LIBRARY names it (build/release/libkvzip.so.0), and "
        "'pip install ./python' takes it along; installed, the Debian package libkvzip0 or 'cmake --install' put it where "
        "it is found. Tried: " + "; ".join(refused)
    )


def check(status):
    if status != 0:
        code = CODES[status] if status < len(CODES) else "failed"
        raise Error(code, message())


def message():
    """Of the last call that failed."""
    said = library().error().decode("utf-8", "replace")
    for theirs, ours in _ADVICE:
        before, found, after = said.rpartition("; " + theirs)
        if found:
            return before + "; " + ours + after
    return said


def text(given, what):
    """Bytes for C, where a text ends at its first zero byte."""
    coded = given.encode("utf-8", "surrogateescape") if isinstance(given, str) else os.fsencode(given)
    if b"\0" in coded:
        raise ValueError(f"{what} {given!r} has a zero byte")
    return coded


def _threads(given):
    """C would cut a number to size."""
    number = operator.index(given)
    if not 0 <= number < 2**32:
        raise ValueError(f"threads {number}: expected 0, for all processors, or how many")
    return number


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


class _Forks:
    """A process that is forked while a thread reads would have the thread's locks, and nobody to open them. So the
    fork waits until nobody reads, but not for long: what is read for longer is closed in the child. Whoever holds
    locks of two dumps holds `pairs` before."""

    PATIENCE = 1.0  # seconds

    def __init__(self):
        self.pairs = threading.RLock()
        self._adding = threading.Lock()
        self._dumps = weakref.WeakSet()
        self._held, self._busy = [], []
        self._paired = False
        os.register_at_fork(before=self._hold, after_in_parent=self._let_go, after_in_child=self._go_on)

    def add(self, dump):
        with self._adding:
            self._dumps.add(dump)

    def _hold(self):
        self._adding.acquire()  # one fork at a time
        end = time.monotonic() + self.PATIENCE
        self._paired = self.pairs.acquire(timeout=self.PATIENCE)
        for dump in list(self._dumps):
            free = dump.lock.acquire(timeout=max(0.0, end - time.monotonic()))
            (self._held if free else self._busy).append(dump)

    def _let_go(self):
        self._busy.clear()
        while self._held:
            self._held.pop().lock.release()
        if self._paired:
            self.pairs.release()
        self._adding.release()

    def _go_on(self):
        for dump in self._busy:
            dump.lock, dump._handle = threading.RLock(), _handle()
        if not self._paired:
            self.pairs = threading.RLock()
        self._let_go()


_forks = _Forks()


class Dump:
    """A handle, closed once. Calls of other threads wait: a handle takes one at a time."""

    def __init__(self, opener, *arguments, keeps=None):
        self.keeps = keeps  # what the library reads: whoever has the handle has it
        self._handle = _handle()
        self.lock = threading.RLock()
        _forks.add(self)
        with self.lock:
            check(opener(*arguments, ctypes.byref(self._handle)))

    def call(self, name, *arguments):
        with self.lock:
            if not self._handle:
                raise ValueError("the file is closed")
            return getattr(library(), name)(self._handle, *arguments)

    def do(self, name, *arguments):
        with self.lock:  # the message belongs to this call
            check(self.call(name, *arguments))

    def made_from(self, source):
        with _forks.pairs, source.lock:
            source.call("tensor_count")  # it is open
            self.do("made_from", source._handle)

    def recognise(self, layout, rules, threads):
        if layout:
            self.do("set_layout", text(layout, "layout"))
        for rule in [rules] if isinstance(rules, str) else rules:
            self.do("add_map", text(rule, "map"))
        self.do("set_threads", _threads(threads))

    def close(self):
        with self.lock:
            if self._handle:
                library().close(self._handle)
                self._handle = _handle()
                self.keeps = None

    def __del__(self):
        if getattr(self, "_handle", None):
            self.close()
