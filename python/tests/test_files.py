# SPDX-License-Identifier: Apache-2.0
"""Of files and buffers that are read: how long they are there, who may read what is made of them, and changes."""

import gc
import mmap
import os
import pathlib
import signal
import sys
import tempfile
import threading
import unittest
import weakref

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import kvzip
from test_kvzip import small


class Buffers(unittest.TestCase):
    """Bytes of a file, and how long they are there."""

    def setUp(self):
        self.arrays = small()
        self.coded = kvzip.compress(self.arrays, preset="lossless", layout="HTD")
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def mapped(self):
        path = pathlib.Path(self.folder.name) / "a.kvz"
        path.write_bytes(self.coded)
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def test_stay_while_a_tensor_does(self):
        source = self.mapped()
        gone = weakref.ref(source)
        tensor = kvzip.open(source)["layers.0.key"]
        del source
        gc.collect()
        self.assertIsNotNone(gone())
        numpy.testing.assert_array_equal(tensor, self.arrays["layers.0.key"])
        del tensor
        gc.collect()
        self.assertIsNone(gone())

    def test_go_when_the_file_is_closed(self):
        source = self.mapped()
        with kvzip.open(source) as file:
            tensor = file["layers.0.key"]
            with self.assertRaises(BufferError):
                source.close()
        source.close()
        with self.assertRaises(ValueError):
            tensor.numpy()

    def test_are_copied_where_they_may_change(self):
        source = bytearray(self.coded)
        with kvzip.open(source) as file, kvzip.open(numpy.frombuffer(bytearray(self.coded), numpy.uint8)) as other:
            source[:] = bytes(len(source))
            source.clear()
            for name, array in self.arrays.items():
                numpy.testing.assert_array_equal(file[name], array)
                numpy.testing.assert_array_equal(other[name], array)
        kept = bytearray(self.coded)
        with kvzip.open(memoryview(kept).toreadonly()) as file:
            with self.assertRaises(BufferError):
                kept.clear()
            numpy.testing.assert_array_equal(file["token_ids"], self.arrays["token_ids"])

    def test_lie_side_by_side(self):
        with self.assertRaises(ValueError):
            kvzip.open(memoryview(self.coded)[::2])


class Files(unittest.TestCase):
    """Of one process, which know nothing of each other."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.addCleanup(os.umask, os.umask(0o022))

    def made(self, name, mode=None):
        path = pathlib.Path(self.folder.name) / name
        kvzip.compress(small(), path, preset="lossless", layout="HTD", overwrite=True)
        if mode is not None:
            path.chmod(mode)
        return path

    def test_private_ones_make_only_their_own_outputs_private(self):
        secret = kvzip.open(self.made("secret.kvz", 0o600))
        secret.read()
        self.assertEqual(self.made("a.kvz").stat().st_mode & 0o777, 0o644)
        secret.close()
        self.assertEqual(self.made("b.kvz").stat().st_mode & 0o777, 0o644)

    def test_changed_ones_are_refused_alone(self):
        path = self.made("changed.kvz")
        changed, other = kvzip.open(path), kvzip.open(self.made("other.kvz"))
        for change, code in ((lambda: os.utime(path, (1000, 1000)), "io"), (lambda: os.truncate(path, 100), "truncated")):
            change()
            with self.assertRaises(kvzip.Error) as refused:
                changed.read()
            self.assertEqual(refused.exception.code, code)
            self.made("out.kvz")
            self.assertEqual(list(other.read()), list(small()))
            numpy.testing.assert_array_equal(other["layers.0.key"], small()["layers.0.key"])

    def test_are_read_in_a_child_while_another_thread_reads(self):
        path = pathlib.Path(self.folder.name) / "forked.kvz"
        values = numpy.arange(1 << 16, dtype=numpy.float32).reshape(1, 4, -1, 16)
        kvzip.compress({"layers.0.key": values, "layers.0.value": -values}, path, "lossless")
        with kvzip.open(path) as file:
            ends = threading.Event()

            def read():
                while not ends.is_set():
                    file["layers.0.key"].numpy()

            reader = threading.Thread(target=read)
            reader.start()
            try:
                for _ in range(20):
                    self.assertEqual(self.in_child(lambda: (file["layers.0.value"].numpy() == -values).all()), 0)
            finally:
                ends.set()
                reader.join()

    def in_child(self, run):
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            os._exit(0 if run() else 1)
        return os.waitpid(child, 0)[1]

    def test_are_closed_in_a_child_where_another_thread_has_them_for_long(self):
        forks = kvzip._library._forks
        self.addCleanup(setattr, forks, "PATIENCE", forks.PATIENCE)
        forks.PATIENCE = 0.01
        with kvzip.open(self.made("busy.kvz")) as file, kvzip.open(self.made("free.kvz")) as other:
            there, ends = threading.Event(), threading.Event()

            def hold():
                with file._dump.lock:
                    there.set()
                    ends.wait()

            def refused():
                try:
                    file.read()
                except ValueError:
                    return bool(other.read())
                return False

            thread = threading.Thread(target=hold)
            thread.start()
            there.wait()
            self.assertEqual(self.in_child(refused), 0)
            ends.set()
            thread.join()
            self.assertTrue(file.read())

    def test_that_wait_for_a_writer_hold_up_no_fork(self):
        path = pathlib.Path(self.folder.name) / "pipe"
        os.mkfifo(path)
        opened = []
        thread = threading.Thread(target=lambda: opened.append(kvzip.open(path)))
        thread.start()
        whole = self.made("whole.kvz").read_bytes()
        self.assertEqual(self.in_child(lambda: path.write_bytes(whole)), 0)
        thread.join()
        self.assertTrue(opened[0].read())

    def test_what_is_made_of_private_ones_is_private(self):
        out = pathlib.Path(self.folder.name) / "out.kvz"
        with kvzip.open(self.made("secret.kvz", 0o600)) as secret:
            kvzip.compress(secret, out, preset="lossless")
            self.assertEqual(out.stat().st_mode & 0o777, 0o600)
            out = out.with_name("one.kvz")
            one = {"layers.0.key": secret["layers.0.key"], "token_ids": numpy.arange(300)}
            kvzip.compress(one, out, preset="lossless", layout="HTD")
            self.assertEqual(out.stat().st_mode & 0o777, 0o600)
        with self.assertRaises(ValueError):
            kvzip.compress(one, out, preset="lossless", layout="HTD", overwrite=True)
