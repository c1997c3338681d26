# SPDX-License-Identifier: Apache-2.0
"""DynamicCache of Hugging Face transformers to a container and back.

    kvzip.transformers.compress(outputs.past_key_values, "cache.kvz", config=model.config, token_ids=ids)
    cache = kvzip.transformers.load("cache.kvz", device=model.device)
    model.generate(ids, past_key_values=cache)
"""

import kvzip
import kvzip.torch

KEY, VALUE = "layers.{}.key", "layers.{}.value"


def layers_of(cache):
    """Pairs of keys and values, [batch, heads, tokens, head_dim] each: of a cache of any version, or pairs already."""
    if hasattr(cache, "layers"):
        return [(layer.keys, layer.values) for layer in cache.layers]
    if hasattr(cache, "key_cache"):
        return list(zip(cache.key_cache, cache.value_cache))
    return [(pair[0], pair[1]) for pair in cache]


def metadata_of(config):
    """What kvzip wants to know of a model: its name, and the rotary embedding that stands in its keys."""
    config = getattr(config, "text_config", config)
    out = {"rope": "post", "rope_layout": "half"}
    name = getattr(config, "_name_or_path", "")
    if name:
        out["model"] = name
    # Since version 5 rope_parameters holds what rope_theta and rope_scaling held.
    scaling = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    theta = getattr(config, "rope_theta", None) or scaling.get("rope_theta")
    if theta is None:
        return {key: value for key, value in out.items() if key == "model"}  # no such embedding, as far as this says
    out["rope_theta"] = theta
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind in ("linear", "llama3", "yarn"):
        out["rope_scaling_type"] = kind
        for key in ("factor", "low_freq_factor", "high_freq_factor"):
            if scaling.get(key) is not None:
                out[f"rope_scaling_{key}" if key == "factor" else f"rope_{key}"] = scaling[key]
        if scaling.get("original_max_position_embeddings"):
            out["rope_original_context"] = scaling["original_max_position_embeddings"]
    elif kind != "default":
        del out["rope"]  # turned in a way that kvzip does not know, so it takes none out
    return out


def compress(cache, path=None, *, config=None, token_ids=None, metadata=None, **options):
    """kvzip.compress() of a cache. `config` is the model's; `token_ids` those of the cache, for tokens that come again."""
    tensors = {}
    for i, (key, value) in enumerate(layers_of(cache)):
        if key is None:
            raise ValueError(f"layer {i} of the cache is empty")
        tensors[KEY.format(i)], tensors[VALUE.format(i)] = key, value
    if token_ids is not None:
        tensors["token_ids"] = token_ids
    known = {**(metadata_of(config) if config is not None else {}), **(metadata or {})}
    return kvzip.torch.compress(tensors, path, metadata={"axes": "BHTD", **known}, **options)


def load(source, *, device=None, cache=None, **options):
    """A DynamicCache of a container, or `cache` with its layers added."""
    if cache is None:
        from transformers import DynamicCache

        cache = DynamicCache()
    tensors = kvzip.torch.load(source, device=device, **options)
    layer = 0
    while KEY.format(layer) in tensors:
        cache.update(tensors[KEY.format(layer)], tensors[VALUE.format(layer)], layer)
        layer += 1
    if layer == 0:
        raise ValueError(f"no tensor is called {KEY.format(0)}")
    return cache
