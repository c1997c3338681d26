# SPDX-License-Identifier: Apache-2.0
"""DynamicCache and StaticCache of Hugging Face transformers to a container and back.

    kvzip.transformers.compress(outputs.past_key_values, "cache.kvz", config=model.config, token_ids=ids)
    cache = kvzip.transformers.load("cache.kvz", device=model.device)
    model.generate(ids, past_key_values=cache)

The metadata cache_layers say what each layer is, so that load() makes the same: sliding windows with the number of tokens
that they have seen, static layers with their room, states of linear attention. Rows of static layers that are not in use
are not stored. A cache with layers of another class is refused: what these hold besides would be lost.
"""

import torch

import kvzip
import kvzip.torch
from kvzip import _cache_layers

NAME = "layers.{}.{}"


def layers_of(cache):
    """Pairs of keys and values, [batch, heads, tokens, head_dim] each: of a cache of any version, or pairs already.
    None and None for a layer that has none."""
    return [(tensors.get("key"), tensors.get("value")) for _, tensors in _described(cache)]


def _described(cache):
    """The word and the tensors of each layer; TypeError for what load() could not make again."""
    name = type(cache).__name__
    if hasattr(cache, "layers") and name in ("DynamicCache", "StaticCache", "Cache"):
        out = [_cache_layers.describe(layer, i) for i, layer in enumerate(cache.layers)]
    elif hasattr(cache, "key_cache") and name == "DynamicCache":  # before transformers 4.54
        out = [_plain(pair, i) for i, pair in enumerate(zip(cache.key_cache, cache.value_cache))]
    elif isinstance(cache, (list, tuple)):
        out = [_plain(pair, i) for i, pair in enumerate(cache)]
    else:
        raise TypeError(
            f"kvzip cannot give back this {name}: it takes DynamicCache, StaticCache (of transformers 4.54 and later), and "
            "pairs of keys and values; kvzip.torch.compress() stores tensors by any names"
        )
    seen = {word.seen or tensors["key"].shape[-2] for word, tensors in out if word.has_rows()}
    if not seen:
        raise ValueError("the cache has no layer with keys and values")
    if len(seen) != 1:
        raise ValueError(f"layers of the cache have seen {min(seen)} to {max(seen)} tokens")
    for word, _ in out:
        if word.kind in _cache_layers.STATES:
            (word.seen,) = seen  # they count nothing themselves
    return out


def _plain(pair, i):
    if len(pair) not in (2, 3) or len(pair) == 3 and pair[2] is not None:  # the third is a window, or more keys
        raise TypeError(f"layer {i} is no pair of keys and values of all tokens: give the cache itself")
    key, value = pair[:2]
    if key is None or key.dim() != 4 or key.shape[-2] == 0:
        raise ValueError(f"layer {i} of the cache is empty")
    return _cache_layers.Word("full"), {"key": key, "value": value}


def metadata_of(config):
    """What kvzip wants to know of a model: its name, the rotary embedding that stands in its keys, and its windows."""
    config = getattr(config, "text_config", config)
    out = {"rope": "post", "rope_layout": "half", **_windows(config)}
    name = getattr(config, "_name_or_path", "")
    if name:
        out["model"] = name
    # Since version 5 rope_parameters holds what rope_theta and rope_scaling held.
    scaling = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    local = getattr(config, "rope_local_base_freq", None)
    if isinstance(scaling.get("full_attention"), dict):  # an embedding for each kind of layers
        local = scaling.get("sliding_attention", {}).get("rope_theta")
        scaling = scaling["full_attention"]
    theta = getattr(config, "rope_theta", None) or scaling.get("rope_theta")
    if theta is None:
        return {key: out[key] for key in out if not key.startswith("rope")}  # no such embedding, as far as this says
    out["rope_theta"] = theta
    if local and "layer_types" in out:
        out["rope_theta_local"] = local
    share = scaling.get("partial_rotary_factor") or getattr(config, "partial_rotary_factor", None) or 1
    if share != 1:
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        out["rope_dims"] = int(head_dim * share)
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


def _windows(config):
    """What queries see of the past."""
    window, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None)
    if not window or getattr(config, "use_sliding_window", True) is False:
        return {}
    if kinds:
        return {"sliding_window": window, "layer_types": ",".join(kinds)} if "sliding_attention" in kinds else {}
    # Older versions say with max_window_layers which layers have it, each model in its own way.
    return {} if hasattr(config, "max_window_layers") else {"sliding_window": window}


def compress(cache, path=None, preset=None, *, config=None, token_ids=None, metadata=None, **options):
    """kvzip.compress() of a cache. `config` is the model's; `token_ids` those of the tokens that the cache has seen, for
    tokens that come again: a list, an array or a tensor."""
    layers = _described(cache)
    tensors = {NAME.format(i, part): tensor for i, (_, held) in enumerate(layers) for part, tensor in held.items()}
    if token_ids is not None:
        tensors["token_ids"] = _ids(token_ids, layers)
    words = [word for word, _ in layers]
    known = {"axes": "BHTD", "cache_layers": " ".join(map(str, words))}
    first = _first_position(words, [held["key"].shape[-2] if "key" in held else 0 for _, held in layers])
    if first != 0:
        known["first_position"] = first
    if config is not None:
        known.update(metadata_of(config))
    return kvzip.torch.compress(tensors, path, preset, metadata={**known, **(metadata or {})}, **options)


def _ids(given, layers):
    """One for each token, or a row of these for each sequence of the batch."""
    ids = torch.as_tensor(given)
    word, held = next((word, held) for word, held in layers if word.has_rows())
    batch, tokens = held["key"].shape[0], word.seen or held["key"].shape[-2]
    if ids.is_floating_point() or ids.is_complex():
        raise TypeError(f"token_ids are whole numbers, not {ids.dtype}")
    if tuple(ids.shape) not in ((tokens,), (batch, tokens)):
        raise ValueError(f"token_ids of shape {tuple(ids.shape)} for a cache of {tokens} tokens in a batch of {batch}")
    return ids


def _first_position(words, rows):
    """The position of the first token that any layer holds."""
    return min((word.seen or held) - held for word, held in zip(words, rows) if word.has_rows())


def load(source, *, device=None, cache=None, **options):
    """The cache of a container or dump, or an empty `cache` with its layers added; ValueError where that is another one.
    Tensors whose axes are known may have them in any order, and without one of the batch, which is then one sequence."""
    with kvzip.open(source, **options) as file:
        words = _words(file)
        keys = [file[NAME.format(i, "key")] if word.has_rows() else None for i, word in enumerate(words)]
        rows = [0 if key is None else key.shape[_axes(key).index("T")] for key in keys]
        _check_whole(file, words, rows)
        if cache is None:
            cache = _cache_layers.make_cache(words)
        else:
            _cache_layers.check_fits(cache, words, rows)
        arrays = file.read([NAME.format(i, part) for i, word in enumerate(words) for part in word.parts()])
        for i, word in enumerate(words):
            tensors = {}
            for part in word.parts():
                name = NAME.format(i, part)
                tensor = kvzip.torch.from_array(arrays.pop(name), file[name].dtype_name, device)
                tensors[part] = _ordered(tensor, _axes(file[name])) if word.has_rows() else tensor
            _cache_layers.fill(cache, i, word, tensors)
    return cache


def _words(file):
    """What its layers are: all tokens where the file does not say."""
    text = file.metadata.get("cache_layers")
    if text is None:
        words = []
        while NAME.format(len(words), "key") in file:
            words.append(_cache_layers.Word("full"))
        if not words:
            raise ValueError(f"no tensor is called {NAME.format(0, 'key')}")
    else:
        words = _cache_layers.parse(text)
    for i, word in enumerate(words):
        for name in (NAME.format(i, part) for part in word.parts()):
            if name not in file:
                raise ValueError(f"the file is a part of a cache: it has no {name}")
            if word.has_rows():
                _axes(file[name])
    return words


def _axes(tensor):
    """A letter for each: batch, heads, tokens, head dimension."""
    axes = tensor.axes or ("BHTD" if tensor.ndim == 4 else "")
    if sorted(axes) not in (sorted("BHTD"), sorted("HTD")):
        known = f"the axes {axes}" if axes else f"{tensor.ndim} axes"
        raise ValueError(f"{tensor.name} has {known}, not batch, heads, tokens and head dimension; layout= can say them")
    return axes


def _ordered(tensor, axes):
    """As a cache has it."""
    tensor = tensor.permute([axes.index(axis) for axis in "BHTD" if axis in axes]).contiguous()
    return tensor if "B" in axes else tensor.unsqueeze(0)


def _check_whole(file, words, rows):
    """A range of tokens, or a container that grew, has other rows than its layers had, or begins later."""
    for i, (word, held) in enumerate(zip(words, rows)):
        if word.held() not in (None, held):
            raise ValueError(f"the file is a part of a cache: layer {i} has {held} rows, not {word.held()}, as {word} has")
    seen = {word.seen or held for word, held in zip(words, rows) if word.kind != "none"}
    if len(seen) != 1 or not any(rows):
        raise ValueError(f"the file is no whole cache: its layers end at tokens {', '.join(map(str, sorted(seen)))}")
    first = file.metadata.get("first_position", "0")
    if first != str(_first_position(words, rows)):
        raise ValueError(f"the file is a part of a cache: its first token is number {first}")
