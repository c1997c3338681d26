# SPDX-License-Identifier: Apache-2.0
"""Of kvzip.transformers, against the library: small random models go on from a decoded cache as from their own."""

import copy
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import kvzip

try:
    import torch
    import transformers
    from transformers import cache_utils
    from transformers.cache_utils import DynamicSlidingWindowLayer  # of 4.56 and later
except ImportError:
    transformers = None

WINDOW, ROOM = 16, 96


def configs():
    common = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "initializer_range": 0.2,  # so that attention matters
    }
    window = {"sliding_window": WINDOW}
    linear = {}
    if hasattr(cache_utils, "LinearAttentionLayer") and hasattr(cache_utils.LinearAttentionLayer(), "number_of_states"):
        mixed = ["conv", "full_attention", "conv", "full_attention"]
        linear = {
            "Lfm2": transformers.Lfm2Config(num_hidden_layers=4, layer_types=mixed, **common),
            "Qwen3Next": transformers.Qwen3NextConfig(
                num_hidden_layers=4, head_dim=8, linear_num_value_heads=2, linear_num_key_heads=2, linear_key_head_dim=8,
                linear_value_head_dim=8, num_experts=2, num_experts_per_tok=1, moe_intermediate_size=16,
                shared_expert_intermediate_size=16, **common,
            ),
        }  # fmt: skip
    return linear | {
        "Llama": transformers.LlamaConfig(num_hidden_layers=2, **common),
        "Mistral": transformers.MistralConfig(num_hidden_layers=2, **window, **common),
        "Qwen2": transformers.Qwen2Config(
            num_hidden_layers=4, use_sliding_window=True, max_window_layers=2, **window, **common
        ),
        "Gemma2": transformers.Gemma2Config(num_hidden_layers=4, head_dim=8, **window, **common),
        "Gemma3": transformers.Gemma3TextConfig(num_hidden_layers=6, head_dim=8, **window, **common),
    }


@unittest.skipIf(transformers is None, "there is no transformers")
class Models(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        torch.manual_seed(0)
        cls.configs = configs()
        cls.models = {
            name: getattr(transformers, name + "ForCausalLM")(config).eval() for name, config in cls.configs.items()
        }
        cls.ids = torch.randint(0, 64, (2, ROOM))

    def filled(self, name, tokens, make=None):
        """The model's own cache, or one of `make`, after so many tokens."""
        cache = make(self.configs[name]) if make else None
        with torch.no_grad():
            return self.models[name](self.ids[:, :tokens], past_key_values=cache, use_cache=True).past_key_values

    def continued(self, name, cache, tokens):
        """Logits of the next token, of 18 at once, which is more than a window, and of single ones after these."""
        steps = [(tokens, tokens + 1), (tokens + 1, tokens + 19)] + [(tokens + i, tokens + i + 1) for i in range(19, 24)]
        with torch.no_grad():
            return torch.cat(
                [self.models[name](self.ids[:, a:b], past_key_values=cache, use_cache=True).logits for a, b in steps], 1
            )

    def check(self, name, tokens, make=None, into=None, exact=True):
        import kvzip.transformers as hf

        cache = self.filled(name, tokens, make)
        coded = hf.compress(cache, preset="lossless", config=self.configs[name], token_ids=self.ids[:, :tokens])
        loaded = hf.load(coded, cache=into(self.configs[name]) if into else None)
        self.assertEqual(int(loaded.get_seq_length()), tokens)
        if into is None:
            self.assertIs(type(loaded), type(cache))
            self.assertEqual([type(layer) for layer in loaded.layers], [type(layer) for layer in cache.layers])
        expected = self.continued(name, copy.deepcopy(cache), tokens)
        self.assertGreater(float(expected.std()), 0.1)
        logits = self.continued(name, loaded, tokens)
        if exact:
            self.assertTrue(torch.equal(logits, expected), f"{name}, {tokens} tokens")
        else:  # sums of another order
            torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
        return coded

    def test_go_on_from_their_own_cache(self):
        for name in self.models:
            for tokens in (1, WINDOW - 1, WINDOW, WINDOW + 1, 60):
                self.check(name, tokens)

    def test_go_on_from_static_caches(self):
        def make(config):
            return transformers.StaticCache(config=config, max_cache_len=ROOM)

        for name in self.models:
            for tokens in (WINDOW - 1, WINDOW, WINDOW + 1, 60):
                coded = self.check(name, tokens, make)
                with kvzip.open(coded) as file:  # rows that are not in use are not there
                    rows = max(tensor.shape[2] for tensor in file.values() if tensor.role == "key")
                    self.assertLessEqual(rows, tokens)
                    self.assertTrue("static" in file.metadata["cache_layers"] or name == "Mistral")

    def test_go_on_from_caches_that_are_given(self):
        def dynamic(config):
            return transformers.DynamicCache(config=config)

        def plain(_):
            return transformers.DynamicCache()

        def static(config):
            return transformers.StaticCache(config=config, max_cache_len=ROOM)

        for name in self.models:
            self.check(name, 60, into=dynamic)
            self.check(name, 60, make=static, into=static)
            # Of all tokens, whatever the cache is to keep.
            if name not in ("Lfm2", "Qwen3Next"):  # whose states have layers of their own
                self.check(name, 60, make=plain, into=plain)
                self.check(name, 60, make=plain, into=dynamic, exact=False)
                self.check(name, 60, make=plain, into=static, exact=False)
        self.check("Llama", 60, make=static, into=dynamic, exact=False)

    def test_refuse_caches_that_become_others(self):
        import kvzip.transformers as hf

        def refused(coded, cache, said):
            with self.assertRaises(ValueError) as refusal:
                hf.load(coded, cache=cache)
            self.assertIn(said, str(refusal.exception))

        mistral, llama = (hf.compress(self.filled(name, 60), preset="lossless") for name in ("Mistral", "Llama"))
        refused(mistral, transformers.DynamicCache(), "sliding:16:60")
        refused(mistral, transformers.DynamicCache(config=self.configs["Llama"]), "sliding:16:60")
        refused(mistral, transformers.DynamicCache(config=self.configs["Gemma3"]), "6 layers")
        refused(mistral, transformers.StaticCache(config=self.configs["Mistral"], max_cache_len=ROOM), "sliding:16:60")
        refused(llama, transformers.StaticCache(config=self.configs["Llama"], max_cache_len=59), "room for 59")
        refused(llama, self.filled("Llama", 3), "not empty")

    def test_refuse_what_they_could_not_give_back(self):
        import kvzip.transformers as hf

        cache = transformers.DynamicCache(config=self.configs["Mistral"])
        with self.assertRaises(ValueError):
            hf.compress(cache)  # empty
        halves = transformers.EncoderDecoderCache(self.filled("Llama", 5), self.filled("Llama", 5))
        with self.assertRaises(TypeError) as refusal:
            hf.compress(halves)
        self.assertIn("kvzip.torch.compress()", str(refusal.exception))

        class OtherLayer(DynamicSlidingWindowLayer):
            pass

        cache.layers[1] = OtherLayer(sliding_window=WINDOW)
        with torch.no_grad():
            self.models["Mistral"](self.ids[:, :5], past_key_values=cache, use_cache=True)
        with self.assertRaises(TypeError) as refusal:
            hf.compress(cache)
        self.assertIn("OtherLayer", str(refusal.exception))

    def test_dumps_of_one_sequence_in_any_order_of_axes(self):
        import numpy

        import kvzip.transformers as hf

        sample = pathlib.Path(__file__).resolve().parents[2] / "samples" / "smollm2.safetensors"
        cache = hf.load(sample)
        self.assertEqual((len(cache.layers), int(cache.get_seq_length())), (30, 160))
        with kvzip.open(sample) as file:
            for i in (0, 29):
                for part, tensor in (("key", cache.layers[i].keys), ("value", cache.layers[i].values)):
                    self.assertEqual(tuple(tensor.shape), (1, 3, 160, 64))
                    numpy.testing.assert_array_equal(tensor[0].numpy(), file[f"layers.{i}.{part}"])

        ordered = numpy.arange(2 * 3 * 5 * 4, dtype=numpy.float32).reshape(2, 3, 5, 4)  # BHTD
        for axes in ("BHTD", "BTHD", "HTD", "THD"):
            array = (ordered if "B" in axes else ordered[0]).transpose([("BHTD" if "B" in axes else "HTD").index(a) for a in axes])
            coded = kvzip.compress({"layers.0.key": array, "layers.0.value": array}, preset="lossless", layout=axes)
            for loaded in (hf.load(coded), hf.load(coded, cache=transformers.DynamicCache())):
                expected = ordered if "B" in axes else ordered[:1]
                numpy.testing.assert_array_equal(loaded.layers[0].keys.numpy(), expected, err_msg=axes)
                numpy.testing.assert_array_equal(loaded.layers[0].values.numpy(), expected, err_msg=axes)
        flat = numpy.zeros((5, 12), numpy.float32)
        with self.assertRaises(ValueError) as refusal:
            hf.load(kvzip.compress({"layers.0.key": flat, "layers.0.value": flat}, preset="lossless"))
        self.assertIn("layers.0.key", str(refusal.exception))

    def test_token_ids_are_those_of_the_cache(self):
        import kvzip.transformers as hf

        cache = self.filled("Llama", 40)
        ids = self.ids[:, :40]
        for given in (ids, ids.tolist(), ids.numpy(), ids[0].tolist()):
            with kvzip.open(hf.compress(cache, preset="lossless", token_ids=given)) as file:
                self.assertEqual(file["token_ids"].numpy().tolist(), torch.as_tensor(given).tolist())
        for given in (ids[:, :39], ids[0, :39].tolist(), self.ids[:, :41], ids[:1], ids[None], 3):
            with self.assertRaises(ValueError) as refusal:
                hf.compress(cache, token_ids=given)
            self.assertIn("40 tokens in a batch of 2", str(refusal.exception))
        with self.assertRaises(TypeError):
            hf.compress(cache, token_ids=ids.float())

    def test_metadata_of_configs(self):
        import kvzip.transformers as hf

        def said(name, *names):
            known = hf.metadata_of(self.configs[name])
            return [known.get(key) for key in names]

        windows = ("sliding_window", "layer_types")
        self.assertEqual(said("Llama", *windows), [None, None])
        self.assertEqual(said("Mistral", *windows), [WINDOW, None])
        self.assertEqual(
            said("Qwen2", *windows), [WINDOW, "full_attention,full_attention,sliding_attention,sliding_attention"]
        )
        self.assertEqual(said("Gemma3", "sliding_window", "rope_theta", "rope_theta_local"), [WINDOW, 1e6, 1e4])
        if "Qwen3Next" in self.configs:
            self.assertEqual(said("Qwen3Next", "rope", "rope_dims"), ["post", 2])  # a quarter of 8

    def test_lossy_presets(self):
        import kvzip.transformers as hf

        for name in self.models:
            cache = self.filled(name, 60)
            loaded = hf.load(hf.compress(cache, None, "int8", config=self.configs[name], token_ids=self.ids[:, :60]))
            near = hf.load(hf.compress(cache, config=self.configs[name], token_ids=self.ids[:, :60]))
            self.assertEqual(int(near.get_seq_length()), 60)
            expected = self.continued(name, cache, 60)
            for logits, most in ((self.continued(name, loaded, 60), 0.1), (self.continued(name, near, 60), 0.5)):
                self.assertFalse(torch.equal(logits, expected))
                self.assertLess(float((logits - expected).square().mean().sqrt() / expected.std()), most)

    def test_generate(self):
        import kvzip.transformers as hf

        for name, model in self.models.items():
            ids, cache = self.ids[:1, :40], None
            with torch.no_grad():
                cache = model(ids[:, :-1], use_cache=True).past_key_values
            loaded = hf.load(hf.compress(cache, preset="lossless", config=self.configs[name]))
            options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
            expected = model.generate(ids, past_key_values=cache, **options)
            self.assertTrue(torch.equal(model.generate(ids, past_key_values=loaded, **options), expected), name)


if __name__ == "__main__":
    unittest.main()
