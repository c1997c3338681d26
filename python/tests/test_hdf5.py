# SPDX-License-Identifier: Apache-2.0
"""Of the filter plugin, as h5py uses it. HDF5_PLUGIN_PATH names its folder, KVZIP (where set) the tool."""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import kvzip.hdf5

try:
    import h5py
except ImportError:
    h5py = None

HEADS, TOKENS, DIM = 3, 70, 8


def waves(dtype):
    return numpy.sin(0.01 * numpy.arange(HEADS * TOKENS * DIM)).reshape(HEADS, TOKENS, DIM).astype(dtype)


@unittest.skipUnless(h5py and os.environ.get("HDF5_PLUGIN_PATH"), "needs h5py and the plugin")
class Filter(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "cache.h5")

    def write(self, name, data, **options):
        with h5py.File(self.path, "a") as file:
            made = file.create_dataset(name, data=data, **kvzip.hdf5.filter(**options))
            file.flush()
            return made.id.get_storage_size()

    def read(self, name):
        # Another process, so that nothing comes from a cache.
        code = "import h5py, numpy, sys; numpy.save(sys.argv[3], h5py.File(sys.argv[1], 'r')[sys.argv[2]][...])"
        out = self.path + ".npy"
        subprocess.run([sys.executable, "-c", code, self.path, name, out], check=True)
        return numpy.load(out)

    def test_without_loss(self):
        for dtype in ("<f2", "<f4", "<f8"):
            data = waves(dtype)
            # The last chunk of tokens is a part of one.
            size = self.write(dtype, data, chunks=(HEADS, 32, DIM), dtype=dtype, axes="HTD", role="key", preset="lossless")
            self.assertLess(size, data.nbytes)
            numpy.testing.assert_array_equal(self.read(dtype), data)

    def test_bfloat16_in_integers(self):
        bits = (waves("<f4").view("<u4") >> 16).astype("<u2")
        self.write("k", bits, chunks=(1, TOKENS, DIM), dtype="BF16", axes="HTD", role="key", preset="lossless")
        numpy.testing.assert_array_equal(self.read("k"), bits)

    def test_with_loss(self):
        data = waves("<f2")
        size = self.write("k", data, chunks=data.shape, dtype=data.dtype, axes="HTD", role="key")
        self.assertLess(size, data.nbytes / 2)
        error = self.read("k").astype(float) - data.astype(float)
        self.assertLess(numpy.sqrt((error**2).mean()), 0.1)
        self.assertGreater(numpy.abs(error).max(), 0)

    def test_the_tool_reads_it(self):
        if "KVZIP" not in os.environ:
            self.skipTest("KVZIP does not name the tool")
        data = waves("<f2")
        self.write("layers.0.key", data, chunks=data.shape, dtype=data.dtype, axes="HTD", role="key", preset="lossless")
        plain = self.path + ".plain.h5"
        subprocess.run([os.environ["KVZIP"], "convert", self.path, plain, "-q"], check=True)
        with h5py.File(plain) as file:
            numpy.testing.assert_array_equal(file["layers.0.key"][...], data)

    def test_the_tool_says_where_the_plugin_is(self):
        if "KVZIP" not in os.environ:
            self.skipTest("KVZIP does not name the tool")
        data = waves("<f2")
        self.write("k", data, chunks=data.shape, dtype=data.dtype, axes="HTD", role="key", preset="lossless")
        env = {**os.environ, "HDF5_PLUGIN_PATH": os.path.dirname(self.path)}  # where there is none
        refused = subprocess.run([os.environ["KVZIP"], "inspect", self.path], env=env, capture_output=True, text=True)
        self.assertEqual(refused.returncode, 4)
        self.assertIn("hdf5-filter-kvzip", refused.stderr)
        self.assertNotIn("hdf5plugin", refused.stderr)

    def test_damage_is_seen(self):
        data = waves("<f2")
        self.write("k", data, chunks=data.shape, dtype=data.dtype, axes="HTD", role="key", preset="lossless")
        with h5py.File(self.path, "a") as file:
            mask, chunk = file["k"].id.read_direct_chunk((0, 0, 0))
            chunk = chunk[:-1] + bytes([chunk[-1] ^ 1])
            file["k"].id.write_direct_chunk((0, 0, 0), chunk, mask)
        with h5py.File(self.path) as file, self.assertRaises(OSError):
            file["k"][...]

    def test_datasets_that_are_not_what_the_settings_say(self):
        # h5py calls filters optional: HDF5 would keep a chunk as it is that the filter refuses. So it refuses the dataset.
        data = waves("<f2")
        good = kvzip.hdf5.filter(data.shape, "<f2", "HTD", "key")
        narrow = (HEADS, TOKENS // 2, DIM)
        misspelt = bytes(numpy.array(good["compression_opts"], "<u4")).replace(b"near", b"nera")
        with h5py.File(self.path, "a") as file:
            for array, options in (
                (data, {**good, "chunks": narrow}),
                (data.astype("<f4"), good),
                (data.astype(">f2"), good),
                (data.astype("S2"), good),
                (data, kvzip.hdf5.filter(data.shape, "BF16", "HTD", "key")),
                (data, {**good, "compression_opts": tuple(map(int, numpy.frombuffer(misspelt, "<u4")))}),
                (data, {**good, "compression_opts": ()}),
                (data, {**good, "shuffle": True}),
            ):
                with self.assertRaises(ValueError, msg=repr(options)):
                    file.create_dataset("k", data=array, **options)
            self.assertNotIn("k", file)
            file.create_dataset("k", data=data, fletcher32=True, **good)  # after it

    def test_settings_that_make_no_sense(self):
        shape = (HEADS, TOKENS, DIM)
        for arguments, options, said in (
            ((shape, "<f2", "HTD", "keys"), {}, "role=keys"),
            ((shape, "<f2", "HXD", "key"), {}, "axes=HXD"),
            ((shape, "<i2", "HTD", "key"), {}, "dtype=I16"),
            ((shape[1:], "<f2", "HTD", "key"), {}, "axes=HTD"),
            ((shape, "<f2", "HTD", "key"), {"preset": "kvzip-nera"}, "kvzip-near"),
            ((shape, "<f2", "HTD", "key"), {"preset": "xkv"}, "more than one tensor"),
            ((shape, "<f2", "HTD", "key"), {"pipeline": "quant:bits=99,rans"}, "quant"),
            ((shape, "<f2", "HTD", "key"), {"layer": 3, "layers": 3}, "layer=3"),
        ):
            with self.assertRaises(kvzip.Error) as refused:
                kvzip.hdf5.filter(*arguments, **options)
            self.assertEqual(refused.exception.code, "invalid_argument")
            self.assertIn(said, str(refused.exception))
        with self.assertRaises(ValueError):
            kvzip.hdf5.filter(shape, "<f2", "HTD", "key\0")
        with self.assertRaises(TypeError):
            kvzip.hdf5.filter((1, 2), ">f2", "TD", "key")
        with self.assertRaises(ValueError):
            kvzip.hdf5.filter((1, 2), "<f2", "TD", "key", preset="lossless", pipeline="pack")


if __name__ == "__main__":
    unittest.main()
