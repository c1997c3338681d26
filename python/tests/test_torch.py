# SPDX-License-Identifier: Apache-2.0
"""Of kvzip.torch, and of kvzip.transformers as far as it needs no transformers."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import kvzip

try:
    import torch
except ImportError:
    torch = None


@unittest.skipIf(torch is None, "there is no torch")
class Torch(unittest.TestCase):
    def test_tensors_come_back(self):
        import kvzip.torch

        tensors = {
            "half": torch.arange(6, dtype=torch.float32).reshape(2, 3).to(torch.float16),
            "brain": torch.tensor([1.0, -2.5, float("nan")]).to(torch.bfloat16),
            "ids": torch.arange(5),
            "mask": torch.tensor([True, False]),
            "scalar": torch.tensor(2.0),
            "empty": torch.zeros(0, 3),
            "turned": torch.arange(6.0).reshape(2, 3).t(),
        }
        loaded = kvzip.torch.load(kvzip.torch.compress(tensors, preset="lossless"))
        self.assertEqual(list(loaded), list(tensors))
        for name, tensor in tensors.items():
            self.assertEqual(loaded[name].dtype, tensor.dtype)
            self.assertEqual(loaded[name].shape, tensor.shape)
            self.assertTrue(torch.equal(torch.nan_to_num(loaded[name]), torch.nan_to_num(tensor)), name)
        with self.assertRaises(TypeError):
            kvzip.torch.to_pair(torch.zeros(1, dtype=torch.complex128))
        with self.assertRaises(TypeError):
            kvzip.torch.compress([torch.zeros(1)])

    def test_views_that_only_promise_their_bits(self):
        import kvzip.torch

        turned = torch.tensor([1 + 2j, -3 - 4j], dtype=torch.complex64).conj()
        self.assertTrue(turned.is_conj() and turned.imag.is_neg())
        loaded = kvzip.torch.load(kvzip.torch.compress({"a": turned, "b": turned.imag}, None, "lossless"))
        self.assertEqual(loaded["a"].tolist(), [1 - 2j, -3 + 4j])
        self.assertEqual(loaded["b"].tolist(), [-2, 4])


class DynamicCache:
    """As transformers had it first."""

    def __init__(self, pairs=()):
        self.key_cache, self.value_cache = [k for k, _ in pairs], [v for _, v in pairs]

    def update(self, key, value, layer):
        assert layer == len(self.key_cache)
        self.key_cache.append(key)
        self.value_cache.append(value)


@unittest.skipIf(torch is None, "there is no torch")
class Transformers(unittest.TestCase):
    def pairs(self):
        torch.manual_seed(1)
        return [(torch.randn(1, 2, 20, 8).to(torch.bfloat16), torch.randn(1, 2, 20, 8).to(torch.bfloat16)) for _ in range(3)]

    def check_cache(self, cache, make):
        import kvzip.transformers as hf

        pairs = hf.layers_of(cache)
        coded = hf.compress(cache, preset="lossless", token_ids=torch.arange(20))
        with kvzip.open(coded) as file:
            self.assertEqual(len(file), 2 * len(pairs) + 1)
            self.assertEqual((file["layers.2.key"].axes, file["layers.2.key"].layer), ("BHTD", 2))
            self.assertEqual(file.metadata["cache_layers"], "full full full")
        again = hf.layers_of(hf.load(coded, cache=make()))
        self.assertEqual(len(again), len(pairs))
        for (key, value), (other_key, other_value) in zip(pairs, again):
            self.assertTrue(torch.equal(key, other_key) and torch.equal(value, other_value))

    def test_caches_of_old_versions_and_pairs(self):
        self.check_cache(DynamicCache(self.pairs()), DynamicCache)
        self.check_cache(self.pairs(), DynamicCache)
        self.check_cache([(key, value, None) for key, value in self.pairs()], DynamicCache)

    def test_caches_that_could_not_be_given_back(self):
        import kvzip.transformers as hf

        class SinkCache(DynamicCache):
            pass

        class Layer:
            def __init__(self, pair):
                self.keys, self.values, self.is_initialized = *pair, True

        pairs = self.pairs()
        layered = type("DynamicCache", (), {"layers": [Layer(pair) for pair in pairs]})()
        for cache in (SinkCache(pairs), layered, [pair * 2 for pair in pairs], [(*pair, 16) for pair in pairs], iter(pairs)):
            with self.assertRaises(TypeError):
                hf.compress(cache)
        short = [(key[:, :, 5:], value[:, :, 5:]) for key, value in pairs[1:]]
        empty = torch.zeros(1, 2, 0, 8)
        for cache in ([], DynamicCache(), pairs[:1] + short, [(empty, empty)], [(None, None)]):
            with self.assertRaises(ValueError):
                hf.compress(cache)

    def test_parts_of_caches_are_refused(self):
        import kvzip.transformers as hf

        arrays = {name: torch.zeros(1, 2, 15, 8) for name in ("layers.0.key", "layers.0.value")}
        for layers, first in (
            ("sliding:16:14", 0),
            ("sliding:16:100", 0),
            ("sliding:17:100", 84),
            ("full", 5),
            ("full full", 0),
            ("none full", 0),
            ("full:3", 0),
            ("sliding:16", 85),
            ("sliding:0:100", 85),
            ("later:16:100", 85),
            ("full conv:1:15", 0),
            ("conv:1:15", 0),
            ("full conv:999999999:15", 0),
            ("", 0),
        ):
            metadata = {"axes": "BHTD", "cache_layers": layers, "first_position": first}
            with self.assertRaises(ValueError, msg=layers):
                hf.load(kvzip.torch.compress(arrays, preset="lossless", metadata=metadata), cache=DynamicCache())

    def test_metadata_of_a_config(self):
        import kvzip.transformers as hf

        class Config:
            _name_or_path = "a-model"
            rope_theta = 500000.0
            rope_scaling = {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            }

        self.assertEqual(
            hf.metadata_of(Config()),
            {
                "model": "a-model",
                "rope": "post",
                "rope_layout": "half",
                "rope_theta": 500000.0,
                "rope_scaling_type": "llama3",
                "rope_scaling_factor": 8.0,
                "rope_low_freq_factor": 1.0,
                "rope_high_freq_factor": 4.0,
                "rope_original_context": 8192,
            },
        )


if __name__ == "__main__":
    unittest.main()
