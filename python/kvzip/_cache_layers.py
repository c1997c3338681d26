# SPDX-License-Identifier: Apache-2.0
"""Layers of transformers' caches: what each holds, in a word of the metadata cache_layers, and how it is made again.

full            a DynamicLayer: all tokens
sliding:W:N     a DynamicSlidingWindowLayer of window W that has seen N tokens, the last W - 1 of which it holds
static:R        a StaticLayer of R rows, of which those are stored that are in use
ring:W:N        a StaticSlidingWindowLayer of W rows that has seen N tokens, the last W of which it holds
linear:S:N      a LinearAttentionLayer that has seen N tokens and holds S states of its convolution and S recurrent ones
conv:S:N        one that holds only those of its convolution
none            a DummyLayer: its attention reads another layer's cache
"""

KINDS = {
    "DynamicLayer": "full",
    "DynamicSlidingWindowLayer": "sliding",
    "StaticLayer": "static",
    "StaticSlidingWindowLayer": "ring",
    "LinearAttentionLayer": "linear",
    "DummyLayer": "none",
}
STATES = {"linear": ("conv", "recurrent"), "conv": ("conv",)}
_NUMBERS = {"full": 0, "none": 0, "static": 1, "sliding": 2, "ring": 2, "linear": 2, "conv": 2}


class Word:
    """What a layer is: its kind, its size (W, R or S) and how many tokens it has seen; None where the kind has none."""

    def __init__(self, kind, size=None, seen=None):
        self.kind, self.size, self.seen = kind, size, seen

    def __str__(self):
        return ":".join(str(part) for part in (self.kind, self.size, self.seen) if part is not None)

    def parts(self):
        """What the names of its tensors end with."""
        if self.kind in STATES:
            return [f"{state}.{i}" for state in STATES[self.kind] for i in range(self.size)]
        return [] if self.kind == "none" else ["key", "value"]

    def has_rows(self):
        return self.kind != "none" and self.kind not in STATES

    def held(self):
        """How many rows it must have; None: as many as there are."""
        if not self.has_rows():
            return 0
        return None if self.seen is None else min(self.seen, self.size - (self.kind == "sliding"))


def parse(text):
    """The words of a text."""
    words = []
    for word in text.split():
        kind, *numbers = word.split(":")
        sound = all(n.isascii() and n.isdigit() and 0 < int(n) < 2**31 for n in numbers)
        if _NUMBERS.get(kind) != len(numbers) or not sound or (kind in STATES and int(numbers[0]) > 64):
            raise ValueError(f"cache_layers has {word!r}, which is no kind of layer that this version of kvzip knows")
        words.append(Word(kind, *map(int, numbers)))
    return words


def describe(layer, i):
    """The word of a layer, and its tensors by the parts of the word, as they are to be stored."""
    name = type(layer).__name__
    kind = KINDS.get(name)
    if kind is None or (kind == "linear" and not hasattr(layer, "number_of_states")):  # older ones keep them otherwise
        raise TypeError(
            f"layer {i} of the cache is a {name}, which kvzip cannot give back: it takes caches whose layers are "
            f"{', '.join(KINDS)}; kvzip.torch.compress() stores tensors by any names"
        )
    if kind == "none":
        return Word(kind), {}
    if kind == "linear":
        return _states(layer, i)
    key, value = layer.keys, layer.values
    if key is None or key.dim() != 4 or key.shape[-2] == 0 or not layer.is_initialized:
        raise ValueError(f"layer {i} of the cache is empty")
    if kind == "full":
        return Word(kind), {"key": key, "value": value}
    seen = int(layer.get_seq_length())
    if kind == "static":
        word, begin, end = Word(kind, key.shape[-2]), 0, seen
    else:
        word = Word(kind, window(layer), seen)
        begin, end = 0, word.held()
        if kind == "sliding":  # more rows than it needs are there while a cache keeps them to go back
            begin, end = key.shape[-2] - end, key.shape[-2]
    if not 0 <= begin < end <= key.shape[-2]:
        raise ValueError(f"layer {i} of the cache has {key.shape[-2]} rows after {seen} tokens")
    return word, {"key": key[..., begin:end, :], "value": value[..., begin:end, :]}


def _states(layer, i):
    if not all(layer.has_previous_state.values()):
        raise ValueError(f"layer {i} of the cache is empty")
    tensors = {}
    for state, all_of_it in (("conv", layer.conv_states), ("recurrent", layer.recurrent_states)):
        for at, tensor in all_of_it.items():
            if tensor is not None:
                # A convolution keeps more than it needs while a cache can go back.
                tensors[f"{state}.{at}"] = tensor[..., -layer.conv_kernel_size[at] :] if state == "conv" else tensor
    for kind in STATES:
        word = Word(kind, layer.number_of_states)
        if word.parts() == list(tensors):
            return word, tensors
    raise TypeError(f"layer {i} of the cache has only the states {', '.join(tensors)}, which kvzip cannot give back")


def make(word):
    """An empty layer. What StaticSlidingWindowLayer is told of the whole cache's room decides only whether it can go
    back, which it cannot once its window has moved."""
    from transformers import cache_utils

    if word.kind == "none":
        return cache_utils.DummyLayer()
    if word.kind == "full":
        return cache_utils.DynamicLayer()
    if word.kind == "sliding":
        return cache_utils.DynamicSlidingWindowLayer(sliding_window=word.size)
    if word.kind == "static":
        return cache_utils.StaticLayer(max_cache_len=word.size)
    if word.kind == "ring":
        return cache_utils.StaticSlidingWindowLayer(max_cache_len=word.size + 1, sliding_window=word.size)
    return cache_utils.LinearAttentionLayer(number_of_states=word.size)


def make_cache(words):
    """An empty cache of such layers. StaticCache would ask a model's config what they are."""
    import transformers

    if all(word.kind == "full" for word in words):
        return transformers.DynamicCache()
    static = any(word.kind in ("static", "ring") for word in words)
    cache = transformers.DynamicCache() if not static else transformers.StaticCache.__new__(transformers.StaticCache)
    transformers.Cache.__init__(cache, layers=[make(word) for word in words])
    return cache


def check_fits(cache, words, rows):
    """Whether an empty cache of a caller becomes, with so many rows in each layer, what the words say."""
    layers = list(getattr(cache, "layers", []))
    if not layers:  # one that makes a DynamicLayer of whatever comes
        for i, word in enumerate(words):
            if word.kind not in ("full", "static"):
                _fail(i, "makes layers of all tokens", word)
        return
    if len(layers) != len(words):
        raise ValueError(f"the given cache has {len(layers)} layers, the file {len(words)}")
    for i, (word, layer, held) in enumerate(zip(words, layers, rows)):
        _check_layer(i, word, layer, held)


def _check_layer(i, word, layer, held):
    kind = KINDS.get(type(layer).__name__)
    whole = word.kind in ("full", "static")
    fits = kind == word.kind
    if kind in ("full", "static"):
        fits = whole
    elif kind in ("sliding", "ring"):  # of all tokens a window takes its own part
        fits = whole or (fits and window(layer) == word.size)
    elif kind == "linear":
        fits = word.kind in STATES and getattr(layer, "number_of_states", 0) == word.size
    if not fits:
        size = f" of {window(layer)}" if kind in ("sliding", "ring") else ""
        _fail(i, f"is a {type(layer).__name__}{size}", word)
    if kind == "static" and held > layer.max_cache_len:
        raise ValueError(f"layer {i} of the given cache has room for {layer.max_cache_len} tokens of {held}")
    filled = any(layer.has_previous_state.values()) if kind == "linear" else kind != "none" and int(layer.get_seq_length())
    if filled:
        raise ValueError(f"layer {i} of the given cache is not empty")


def _fail(i, what, word):
    raise ValueError(f"layer {i} of the given cache {what}, in the file it is {word}; load() without a cache makes it so")


def window(layer):
    return layer.sliding_window if hasattr(layer, "sliding_window") else layer.max_cache_len


def fill(cache, i, word, tensors):
    """An empty layer gets the tensors of its word's parts."""
    if word.kind in STATES:
        for at in range(word.size):
            cache.layers[i].update_conv_state(tensors[f"conv.{at}"], at)
            if word.kind == "linear":
                cache.layers[i].update_recurrent_state(tensors[f"recurrent.{at}"], at)
    elif word.has_rows():
        cache.update(tensors["key"], tensors["value"], i)
        if word.seen is not None:  # more than there are rows
            counter = "cumulative_length_int" if hasattr(cache.layers[i], "cumulative_length_int") else "cumulative_length"
            setattr(cache.layers[i], counter, word.seen)
