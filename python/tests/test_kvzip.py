# SPDX-License-Identifier: Apache-2.0
"""Of the package, against libkvzip.so and the samples: python3 -m unittest discover -s python/tests"""

import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import unittest

import numpy

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))

import kvzip
from kvzip import _types

HEADS, TOKENS, DIM = 2, 300, 8
SHAPE = (HEADS, TOKENS, DIM)


def wave(step, dtype=numpy.float32):
    return numpy.sin(step * numpy.arange(HEADS * TOKENS * DIM)).reshape(SHAPE).astype(dtype)


def small():
    return {"layers.0.key": wave(0.01), "layers.0.value": wave(0.3), "token_ids": numpy.arange(TOKENS)}


class Ordered(unittest.TestCase):
    def test_puts_the_first_tokens_of_all_layers_together(self):
        arrays = {f"layers.{i}.{role}": wave(0.1 * (i + 1)) for i in range(2) for role in ("key", "value")}
        by_layers = kvzip.compress(arrays, preset="int8", layout="HTD")
        self.assertEqual(kvzip.compress(arrays, preset="int8", layout="HTD", order="layer"), by_layers)
        self.assertEqual(kvzip.compress(arrays, preset="int8", layout="HTD", order="token"), by_layers)  # all 300
        coded = kvzip.compress(arrays, preset="int8", layout="HTD", order="token:256")
        self.assertNotEqual(coded, by_layers)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "a.kvz")
            kvzip.compress(arrays, path, preset="int8", layout="HTD", order="token:256")
            self.assertEqual(pathlib.Path(path).read_bytes(), coded)
        with kvzip.open(by_layers) as one, kvzip.open(coded) as other:
            for name in arrays:
                numpy.testing.assert_array_equal(other[name], one[name])
                numpy.testing.assert_array_equal(other[name].tokens(250, 260), one[name].tokens(250, 260))

    def test_refuses_what_is_no_order(self):
        for order in ("tokens", "token:", "token:0", "token:-1", "token:1.5", "layer:1", ""):
            with self.assertRaises(ValueError):
                kvzip.compress(small(), order=order)
        uneven = {"layers.0.key": wave(1), "layers.0.value": wave(1)[:, :100]}
        with self.assertRaises(kvzip.Error) as refusal:
            kvzip.compress(uneven, layout="HTD", order="token")
        self.assertEqual(refusal.exception.code, "invalid_argument")


class Reading(unittest.TestCase):
    def setUp(self):
        self.arrays = small()
        coded = kvzip.compress(self.arrays, preset="lossless", layout="HTD", metadata={"model": "tiny"})
        self.file = kvzip.open(coded)
        self.key = self.file["layers.0.key"]

    def test_is_a_mapping(self):
        self.assertEqual(list(self.file), list(self.arrays))
        self.assertEqual(len(self.file), 3)
        self.assertIn("token_ids", self.file)
        self.assertNotIn("nothing", self.file)
        with self.assertRaises(KeyError):
            self.file["nothing"]
        for name, tensor in self.file.items():
            numpy.testing.assert_array_equal(tensor, self.arrays[name])
            self.assertEqual(tensor.dtype, self.arrays[name].dtype)

    def test_says_what_tensors_are(self):
        self.assertEqual((self.key.role, self.key.layer, self.key.axes), ("key", 0, "HTD"))
        self.assertEqual((self.key.shape, self.key.dtype_name, self.key.token_axis), (SHAPE, "F32", 1))
        self.assertEqual((len(self.key), self.key.ndim, self.key.nbytes), (HEADS, 3, 4 * HEADS * TOKENS * DIM))
        ids = self.file["token_ids"]
        self.assertEqual((ids.role, ids.layer, ids.axes, ids.token_axis), ("other", None, "", None))
        self.assertEqual(self.file.metadata, {"model": "tiny"})

    def test_gives_tokens(self):
        key = self.arrays["layers.0.key"]
        numpy.testing.assert_array_equal(self.key.tokens(128, 256), key[:, 128:256])
        self.assertEqual(self.key.tokens(7, 7).shape, (HEADS, 0, DIM))
        for begin, end in ((-1, 5), (5, 4), (0, TOKENS + 1)):
            with self.assertRaises(IndexError):
                self.key.tokens(begin, end)
        with self.assertRaises(ValueError):
            self.file["token_ids"].tokens(0, 1)

    def test_decodes_only_the_chunks_of_the_tokens(self):
        # The second of two chunks is damaged: tokens of the first still come, others do not.
        coded = bytearray(kvzip.compress({"layers.0.key": self.arrays["layers.0.key"]}, preset="lossless", layout="HTD"))
        coded[len(coded) * 5 // 8] ^= 1
        with kvzip.open(bytes(coded)) as file:
            found = []
            for begin, end in ((0, 256), (256, 300)):
                try:
                    file["layers.0.key"].tokens(begin, end)
                except kvzip.Error as error:
                    self.assertEqual(error.code, "corrupt")
                    found.append(begin)
            self.assertEqual(len(found), 1)

    def test_indexes_as_numpy(self):
        key = self.arrays["layers.0.key"]
        for index in (
            numpy.s_[:],
            numpy.s_[...],
            numpy.s_[()],
            numpy.s_[1],
            numpy.s_[-1, 3],
            numpy.s_[:, 5:9],
            numpy.s_[:, 5:200:7, ::2],
            numpy.s_[:, -20:],
            numpy.s_[:, 9:5],
            numpy.s_[:, ::-1],
            numpy.s_[..., 2],
            numpy.s_[0, ..., 2],
            numpy.s_[:, -1],
            numpy.s_[:, None],
            numpy.s_[:, [3, 1]],
            numpy.s_[numpy.array([True, False])],
        ):
            numpy.testing.assert_array_equal(self.key[index], key[index], err_msg=repr(index))
        for index in (numpy.s_[2], numpy.s_[:, TOKENS], numpy.s_[:, -TOKENS - 1], numpy.s_[0, 0, 0, 0]):
            with self.assertRaises(IndexError):
                self.key[index]

    def test_reads_all_or_some(self):
        arrays = self.file.read()
        self.assertEqual(list(arrays), list(self.arrays))
        for name, array in arrays.items():
            numpy.testing.assert_array_equal(array, self.arrays[name])
        self.assertEqual(list(self.file.read(["token_ids"])), ["token_ids"])
        self.assertEqual(list(self.file.read("token_ids")), ["token_ids"])
        self.assertEqual(self.file.read([]), {})
        for names in (["nothing"], "nothing"):
            with self.assertRaises(KeyError) as refused:
                self.file.read(names)
            self.assertEqual(refused.exception.args, ("nothing",))

    def test_threads_share_a_file(self):
        wrong = []

        def read(name):
            for begin in range(0, TOKENS, 20):
                if not numpy.array_equal(self.file[name].tokens(begin, begin + 20), self.arrays[name][:, begin : begin + 20]):
                    wrong.append((name, begin))

        threads = [threading.Thread(target=read, args=(name,)) for name in ("layers.0.key", "layers.0.value") * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])

    def test_closed_files_are_refused(self):
        self.file.close()
        self.file.close()
        with self.assertRaises(ValueError):
            self.key.numpy()


class Writing(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name) / "a.kvz"

    def test_files_and_bytes_are_the_same(self):
        self.assertIsNone(kvzip.compress(small(), self.path, preset="int8", layout="HTD"))
        coded = kvzip.compress(small(), preset="int8", layout="HTD", threads=1)
        self.assertEqual(self.path.read_bytes(), coded)
        with self.assertRaises(kvzip.Error) as refused:
            kvzip.compress(small(), self.path, preset="int8")
        self.assertEqual(refused.exception.code, "invalid_argument")
        self.assertIn("overwrite=True", str(refused.exception))
        kvzip.compress(small(), str(self.path), "int4", layout="HTD", overwrite=True)
        self.assertLess(self.path.stat().st_size, len(coded))

    def test_says_what_settles_a_refusal_in_its_own_words(self):
        for arrays, options, said in (
            (small(), {"preset": "no such preset"}, "kvzip.presets()"),
            (small(), {"preset": "key = rope,quant:bits=4,rans", "layout": "HTD"}, "metadata="),
        ):
            with self.assertRaises(kvzip.Error) as refused:
                kvzip.compress(arrays, **options)
            self.assertIn(said, str(refused.exception))
            self.assertNotIn("kvzip_", str(refused.exception))

    def test_zero_bytes_end_no_text(self):
        array = numpy.zeros(2)
        for arrays, path, options in (
            ({"a\0b": array}, None, {}),
            ({"a": array}, f"{self.path}\0.kvz", {}),
            ({"a": array}, None, {"metadata": {"a\0b": "c"}}),
            ({"a": array}, None, {"metadata": {"a": "b\0c"}}),
            ({"a": array}, None, {"layout": "HTD\0"}),
            ({"a": array}, None, {"map": "a=key:T\0"}),
            ({"a": array}, None, {"preset": "int8\0"}),
            ({"a": (array, "F64\0")}, None, {}),
        ):
            with self.assertRaises((ValueError, TypeError), msg=repr((arrays, options))):
                kvzip.compress(arrays, path, **options)
        self.assertFalse(self.path.exists())
        with self.assertRaises(ValueError):
            kvzip.open(f"{self.path}\0")
        with self.assertRaises(TypeError):
            kvzip.compress({0: array})

    def test_presets_are_lossy_as_they_say(self):
        arrays = small()
        with kvzip.open(kvzip.compress(arrays, preset="kv = quant:bits=8:axis=token,rans", layout="HTD")) as file:
            error = numpy.abs(file["layers.0.value"].numpy() - arrays["layers.0.value"]).max()
        self.assertGreater(error, 0)
        self.assertLess(error, 1 / 127)  # half a step of 2 / 255, and the scale's rounding
        self.assertIn("kvzip-near", kvzip.presets())
        with kvzip.open(kvzip.compress(arrays, layout="HTD")) as file:
            self.assertEqual(file["layers.0.key"].shape, SHAPE)

    def test_types_come_back(self):
        for dtype in ("bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "c8"):
            array = numpy.arange(6).reshape(2, 3).astype(dtype)
            with kvzip.open(kvzip.compress({"a": array}, preset="lossless")) as file:
                numpy.testing.assert_array_equal(file["a"], array)
                self.assertEqual(file["a"].dtype, array.dtype)

    def test_names_of_types_that_numpy_has_not(self):
        bits = numpy.array([0x3F80, 0xC000], numpy.uint16)  # 1 and -2
        with kvzip.open(kvzip.compress({"a": (bits, "BF16")}, preset="lossless")) as file:
            self.assertEqual(file["a"].dtype_name, "BF16")
            numpy.testing.assert_array_equal(file["a"].numpy().view(numpy.uint16), bits)
            if _types.ml_dtypes:
                self.assertEqual(file["a"].dtype.name, "bfloat16")
                self.assertEqual(file["a"].numpy().astype(float).tolist(), [1, -2])
                again = kvzip.compress({"a": file["a"].numpy()}, preset="lossless")
                self.assertEqual(kvzip.open(again)["a"].dtype_name, "BF16")
            else:
                self.assertEqual(file["a"].dtype, numpy.uint16)
            again = kvzip.compress(file, preset="lossless")  # tensors know their own
            self.assertEqual(kvzip.open(again)["a"].dtype_name, "BF16")

    def test_arrays_of_any_order_and_shape(self):
        arrays = {
            "turned": wave(0.1).transpose(2, 0, 1),
            "big-endian": numpy.arange(5, dtype=">i4"),
            "scalar": numpy.float64(3),
            "empty": numpy.zeros((0, 4), numpy.float16),
            "list": [1.5, 2.5],
        }
        with kvzip.open(kvzip.compress(arrays, preset="lossless")) as file:
            for name, array in arrays.items():
                numpy.testing.assert_array_equal(file[name].numpy(), array)
                self.assertEqual(file[name].shape, numpy.shape(array))

    def test_what_cannot_be_written(self):
        for arrays, options, error in (
            ({"a": numpy.array(["text"])}, {}, TypeError),
            ({"a": (numpy.zeros(2, numpy.uint8), "BF16")}, {}, TypeError),
            ({"a": (numpy.zeros(2), "F99")}, {}, TypeError),
            ({"": numpy.zeros(2)}, {}, kvzip.Error),
            ({"a": numpy.zeros(2)}, {"preset": "no such preset"}, kvzip.Error),
            ({"a": numpy.zeros(2)}, {"layout": "XYZ"}, kvzip.Error),
            ({"a": numpy.zeros(2)}, {"map": "no rule"}, kvzip.Error),
            ({"a": numpy.zeros(2)}, {"metadata": {"b": None}}, TypeError),
            ({"a": numpy.zeros(2)}, {"metadata": [("b", "c")]}, TypeError),
            ({"a": numpy.zeros(2)}, {"threads": -1}, ValueError),
            ({"a": numpy.zeros(2)}, {"threads": 2**32}, ValueError),
            ({"a": numpy.zeros(2)}, {"threads": 1.5}, TypeError),
            ([], {}, TypeError),
            (None, {}, TypeError),
        ):
            with self.assertRaises(error, msg=repr((arrays, options))):
                kvzip.compress(arrays, self.path, **options)
        self.assertFalse(self.path.exists())

    def test_files_that_cannot_be_read(self):
        with self.assertRaises(kvzip.Error) as refused:
            kvzip.open(self.path)
        self.assertEqual(refused.exception.code, "io")
        self.assertIn("a.kvz", str(refused.exception))
        for source in (b"no dump at all", b""):
            with self.assertRaises(kvzip.Error):
                kvzip.open(source)
        for threads, error in ((-1, ValueError), (10**12, ValueError), ("2", TypeError), (None, TypeError)):
            with self.assertRaises(error):
                kvzip.open(kvzip.compress(small()), threads=threads)


class QuantisedCaches(unittest.TestCase):
    def test_of_mlx_are_read_as_their_values(self):
        rows, groups = (1, 2, 5), 2
        arrays = {}
        for half in ("0.0", "0.1"):
            arrays[half + ".0"] = numpy.full((*rows, 8), 0x76543210, numpy.uint32)
            arrays[half + ".1"] = numpy.full((*rows, groups), 0.5, numpy.float16)
            arrays[half + ".2"] = numpy.full((*rows, groups), -1, numpy.float16)
        arrays.update({f"0.{i + 2}": numpy.array(n, numpy.int32) for i, n in enumerate((5, 32, 4))})
        texts = {"1.0": "QuantizedKVCache", "2.0": ""}
        for at in (1, 2, 3):
            texts.update({f"2.{at}.0": f"0.{at + 1}", f"2.{at}.1": "scalar"})
        with kvzip.open(kvzip.compress(arrays, preset="lossless", metadata=texts)) as file:
            self.assertEqual(list(file), ["0.0", "0.1", "0.2"])
            self.assertEqual(file["0.1"].role, "value")
            values = 0.5 * (numpy.arange(64) % 8) - 1
            numpy.testing.assert_array_equal(file["0.0"][...], numpy.broadcast_to(values, (*rows, 64)))
            self.assertEqual(file.metadata["1.0"], "KVCache")


class Samples(unittest.TestCase):
    def test_reads_other_formats(self):
        for name in ("smollm2.safetensors", "smollm2.h5"):
            with kvzip.open(ROOT / "samples" / name) as file:
                roles = {tensor.role for tensor in file.values()}
                self.assertLessEqual({"key", "value"}, roles)
                key = next(tensor for tensor in file.values() if tensor.role == "key")
                self.assertEqual(key.tokens(0, 2).shape[key.token_axis], 2)
                self.assertIn("SmolLM2", file.metadata["model"])


class Library(unittest.TestCase):
    def test_says_when_there_is_none(self):
        code = "import kvzip\ntry: kvzip.version()\nexcept ImportError as error: print(error)"
        env = {**os.environ, "KVZIP_LIBRARY": "/nowhere/libkvzip.so", "PYTHONPATH": str(ROOT / "python")}
        said = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
        self.assertIn("KVZIP_LIBRARY", said)
        self.assertIn("/nowhere", said)
        self.assertIn("pip install ./python", said)

    def test_is_of_the_same_version(self):
        self.assertEqual(kvzip.__version__, kvzip.version())


class Readme(unittest.TestCase):
    def test_runs(self):
        blocks = (ROOT / "README.md").read_text().split("```python\n")[1:]
        self.assertTrue(blocks)
        before = os.getcwd()
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                kvzip.compress(small(), "cache.kvz", layout="HTD")
                for block in blocks:
                    seen = {}
                    exec(block.split("```")[0], seen)
                    self.assertEqual(seen["part"].shape, (HEADS, 128, DIM))
                    self.assertEqual(list(kvzip.open("again.kvz")), list(small()))
            finally:
                os.chdir(before)


if __name__ == "__main__":
    unittest.main()
