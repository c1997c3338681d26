# Makes the files beside it: llama.cpp itself saves what small models of random weights have cached.
# python3 make.py FOLDER, with gguf 0.19 and xllamacpp 2026.10.11549 (llama.cpp's library; sessions of version 11,
# sequences of version 4). Its functions are called by their C interface; parameters are set by their place in the
# structures, which another version may have moved.
import ctypes as C
import os
import sys
import tempfile

import gguf
import numpy as np
import xllamacpp

os.chdir(sys.argv[1])
VOCABULARY = 64
random = np.random.default_rng(1)


class Model:
    def __init__(self, path, arch, layers, width, heads, kv_heads, wide=32):
        self.writer, self.width, self.wide = gguf.GGUFWriter(path, arch), width, wide
        w = self.writer
        w.add_context_length(4096)
        w.add_embedding_length(width)
        w.add_block_count(layers)
        w.add_feed_forward_length(wide)
        w.add_head_count(heads)
        w.add_head_count_kv(kv_heads)
        w.add_vocab_size(VOCABULARY)
        w.add_tokenizer_model("no_vocab")
        w.add_layer_norm_rms_eps(1e-5)
        w.add_rope_freq_base(1e6)
        self.tensor("token_embd.weight", VOCABULARY, width)

    def tensor(self, name, *shape, fill=None):
        values = random.standard_normal(shape) * 0.3 if fill is None else np.full(shape, fill)
        self.writer.add_tensor(name, values.astype(np.float32))

    def ones(self, layer, **sizes):
        for name, size in sizes.items():
            self.tensor(f"blk.{layer}.{name}.weight", size, fill=1)

    def matrices(self, layer, **shapes):
        for name, shape in shapes.items():
            self.tensor(f"blk.{layer}.{name.replace('__', '.')}.weight", *shape)

    def attention(self, layer, heads, kv_heads, dim):
        self.matrices(layer, attn_q=(heads * dim, self.width), attn_k=(kv_heads * dim, self.width),
                      attn_v=(kv_heads * dim, self.width), attn_output=(self.width, heads * dim))

    def feed_forward(self, layer):
        self.matrices(layer, ffn_gate=(self.wide, self.width), ffn_up=(self.wide, self.width),
                      ffn_down=(self.width, self.wide))

    def states(self, layer, normed, state=4, conv=4, rank=2):
        inner = 2 * self.width
        self.matrices(layer, ssm_in=(2 * inner, self.width), ssm_conv1d=(inner, conv), ssm_x=(rank + 2 * state, inner),
                      ssm_dt=(inner, rank), ssm_out=(self.width, inner))
        for name in ("ssm_conv1d.bias", "ssm_dt.bias", "ssm_d"):
            self.tensor(f"blk.{layer}.{name}", inner)
        self.tensor(f"blk.{layer}.ssm_a", inner, state, fill=-1)
        if normed:
            self.ones(layer, ssm_dt_norm=rank, ssm_b_norm=state, ssm_c_norm=state)

    def state_sizes(self, state=4, conv=4, rank=2):
        self.writer.add_ssm_conv_kernel(conv)
        self.writer.add_ssm_inner_size(2 * self.width)
        self.writer.add_ssm_state_size(state)
        self.writer.add_ssm_time_step_rank(rank)

    def done(self, norm="output_norm.weight"):
        self.tensor(norm, self.width, fill=1)
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()


def windows(path, dim):  # of 7 layers all but the sixth have windows of 8 tokens
    m = Model(path, "gemma3", 7, 32, 2, 1)
    m.writer.add_key_length(dim)
    m.writer.add_value_length(dim)
    m.writer.add_sliding_window(8)
    for i in range(7):
        m.ones(i, attn_norm=32, attn_q_norm=dim, attn_k_norm=dim, post_attention_norm=32, ffn_norm=32, post_ffw_norm=32)
        m.attention(i, 2, 1, dim)
        m.feed_forward(i)
    m.done()


def recurrent(path):
    m = Model(path, "mamba", 2, 8, 0, 0)
    m.state_sizes()
    for i in range(2):
        m.ones(i, attn_norm=8)
        m.states(i, normed=False)
    m.done()


def hybrid(path):  # layers 1 and 3 attend
    m = Model(path, "jamba", 4, 16, 2, [0, 1, 0, 1], 16)
    m.state_sizes()
    for i in range(4):
        m.ones(i, attn_norm=16, ffn_norm=16)
        m.attention(i, 2, 1, 8) if i % 2 else m.states(i, normed=True)
        m.feed_forward(i)
    m.done()


def hybrid_windows(path):  # both layers that attend have windows, and states are of one kind
    m = Model(path, "lfm2", 4, 16, 2, [0, 1, 0, 1], 16)
    m.writer.add_shortconv_l_cache(3)
    m.writer.add_sliding_window(8)
    m.writer.add_sliding_window_pattern([False, True, False, False])
    for i in range(4):
        m.ones(i, attn_norm=16, ffn_norm=16)
        if i % 2:
            m.ones(i, attn_q_norm=8, attn_k_norm=8)
            m.attention(i, 2, 1, 8)
        else:
            m.matrices(i, shortconv__conv=(16, 3), shortconv__in_proj=(48, 16), shortconv__out_proj=(16, 16))
        m.feed_forward(i)
    m.done("token_embd_norm.weight")


class Parameters(C.Structure):  # more than either structure has; a call reads only what it knows
    _fields_ = [("bytes", C.c_uint8 * 1024)]

    def set(self, place, value, kind=C.c_int32):
        C.cast(C.byref(self, place), C.POINTER(kind))[0] = value


class Batch(C.Structure):
    _fields_ = [("count", C.c_int32), ("token", C.POINTER(C.c_int32)), ("embd", C.c_void_p),
                ("pos", C.POINTER(C.c_int32)), ("n_seq_id", C.POINTER(C.c_int32)),
                ("seq_id", C.POINTER(C.POINTER(C.c_int32))), ("logits", C.POINTER(C.c_int8))]


library = C.CDLL(os.path.join(os.path.dirname(xllamacpp.__file__), "xllamacpp.abi3.so"))


def call(name, result, *arguments):
    function = getattr(library, name)
    function.restype = result
    return function(*arguments)


def cached(model, parts, streams=1, ubatch=512, unified=False, types=(1, 1), flash=-1):
    """A context that has seen `parts`: sequence, first position, count. Windows hold what they need only."""
    p = call("llama_context_default_params", Parameters)
    for place, value in ((0, 1024), (8, ubatch), (12, streams), (28, 1), (32, 1), (52, flash), (104, types[0]),
                         (108, types[1])):
        p.set(place, value)
    p.set(140, 0, C.c_uint8)  # swa_full
    p.set(141, unified, C.c_uint8)
    loaded = call("llama_model_load_from_file", C.c_void_p, model.encode(),
                  call("llama_model_default_params", Parameters))
    context = C.c_void_p(call("llama_init_from_model", C.c_void_p, C.c_void_p(loaded), p))
    for sequence, first, count in parts:
        for begin in range(first, first + count, ubatch):
            batch = call("llama_batch_init", Batch, ubatch, 0, 1)
            batch.count = min(ubatch, first + count - begin)
            for i in range(batch.count):
                batch.token[i], batch.pos[i] = (begin + i) * 7 % VOCABULARY, begin + i
                batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
                batch.logits[i] = i + 1 == batch.count
            assert call("llama_decode", C.c_int32, context, batch) == 0
    return context


def tokens(count):
    return (C.c_int32 * count)(*(i * 7 % VOCABULARY for i in range(count))), C.c_size_t(count)


def session(path, context, count):
    assert call("llama_state_save_file", C.c_bool, context, path.encode(), *tokens(count))


def sequence(path, context, count):
    assert call("llama_state_seq_save_file", C.c_size_t, context, path.encode(), 0, *tokens(count))


call("llama_backend_init", None)
with tempfile.TemporaryDirectory() as folder:
    def made(maker, *more):
        path = f"{folder}/{maker.__name__}{more}"
        maker(path, *more)
        return path

    small, wide = made(windows, 16), made(windows, 64)
    # Cells of windows are used again: the last tokens begin in the middle of the cache and go on at its front.
    sequence("swa.seq", cached(small, [(0, 0, 260)], ubatch=4), 260)
    session("swa_streams.session", cached(small, [(0, 0, 12), (1, 0, 8), (0, 12, 4)], streams=2), 16)
    sequence("swa_q8.seq", cached(wide, [(0, 0, 12)], types=(8, 8), flash=1), 12)
    sequence("recurrent.seq", cached(made(recurrent), [(0, 0, 12)]), 12)
    session("recurrent.session", cached(made(recurrent), [(0, 0, 12), (1, 0, 8)], streams=2), 12)
    sequence("hybrid.seq", cached(made(hybrid), [(0, 0, 12)], flash=0), 12)
    sequence("hybrid_one.seq", cached(made(hybrid), [(0, 0, 1)]), 1)
    session("hybrid_unified.session", cached(made(hybrid), [(0, 0, 12), (1, 0, 8), (0, 12, 4)], 2, unified=True), 16)
    session("hybrid_swa.session", cached(made(hybrid_windows), [(0, 0, 12)]), 12)
