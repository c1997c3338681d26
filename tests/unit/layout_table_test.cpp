// SPDX-License-Identifier: Apache-2.0
// Caches as people have them, and how each is to be read: one row a file. A row gives tensors as NAME:SHAPE, the type
// after '@' where it is not F16, then the metadata, then for each tensor ROLE LAYER:AXES: k, v, kv or q; '-' for what
// is none of these; '?' and the axes that fit where several do and none may be taken.
#include <fmt/format.h>

#include <doctest/doctest.h>

#include <sstream>
#include <string>
#include <vector>

#include "codec/number.hpp"
#include "kvzip/layout.hpp"
#include "tests/support/memory_dump.hpp"

using namespace kvzip;

namespace {

struct File {
  const char *tensors, *metadata, *reading;
};

constexpr File kFiles[] = {
    // transformers: [batch, heads, tokens, channels], under the names of several versions and scripts.
    {"layers.0.keys:1x8x300x64 layers.0.values:1x8x300x64", "", "k0:BHTD v0:BHTD"},
    {"key_cache.0:1x8x300x64 value_cache.0:1x8x300x64", "", "k0:BHTD v0:BHTD"},
    {"past_key_values.0.key:1x8x300x64 past_key_values.0.value:1x8x300x64", "", "k0:BHTD v0:BHTD"},
    {"past_key_values.0.0:1x8x300x64 past_key_values.0.1:1x8x300x64", "", "k0:BHTD v0:BHTD"},
    {"past_key_values.7:2x1x8x300x64", "", "kv7:2BHTD"},
    {"past_key_values:32x2x1x8x300x64", "", "kv:L2BHTD"},
    {"layers.0.keys:4x8x300x64 layers.0.values:4x8x300x64", "", "k0:BHTD v0:BHTD"},
    {"layers.0.keys:1x1x300x64 layers.0.values:1x1x300x64", "", "k0:BHTD v0:BHTD"},
    {"layers.0.keys:1x8x300x128 layers.0.values:1x8x300x64", "", "k0:BHTD v0:BHTD"},
    {"layers.0.keys:8x300x64 layers.0.values:8x300x64", "", "k0:HTD v0:HTD"},
    {"layers.0.keys:300x512 layers.0.values:300x512", "", "k0:TC v0:TC"},
    {"layers.0.keys:1x8x0x64 layers.0.values:1x8x0x64", "", "k0:BHTD v0:BHTD"},
    {"model.layers.3.self_attn.k_cache:1x8x300x64 model.layers.3.self_attn.v_cache:1x8x300x64", "", "k3:BHTD v3:BHTD"},
    {"present.3.key:1x8x300x64 present.3.value:1x8x300x64", "", "k3:BHTD v3:BHTD"},
    {"cache_k_l3:1x8x300x64 cache_v_l3:1x8x300x64", "", "k3:BHTD v3:BHTD"},
    {"layers/3/k:8x300x64 layers/3/v:8x300x64", "", "k3:HTD v3:HTD"},
    {"key_cache:32x1x8x300x64 value_cache:32x1x8x300x64", "", "k:LBHTD v:LBHTD"},
    {"layers.0.keys:1x8x300x64@BF16 layers.0.values:1x8x300x64@BF16", "", "k0:BHTD v0:BHTD"},
    {"layers.0.keys:1x8x300x64@F8_E4M3 layers.0.values:1x8x300x64@F8_E4M3", "", "k0:BHTD v0:BHTD"},
    {"layers.0.keys:1x8x300x64 layers.0.values:1x8x300x64 layers.0.query:1x32x300x64", "", "k0:BHTD v0:BHTD q0:BHTD"},

    // The same names, tokens before heads: what looks like more heads than tokens is left open.
    {"layers.0.keys:1x200x2x64 layers.0.values:1x200x2x64", "", "?BHTD,BTHD ?BHTD,BTHD"},
    {"layers.0.k:128x8x128 layers.0.v:128x8x128", "", "?HTD,THD ?HTD,THD"},
    {"key_cache.0:1x100x8x64 value_cache.0:1x100x8x64", "", "?BHTD,BTHD ?BHTD,BTHD"},
    {"keys:4x1x128x8x128 values:4x1x128x8x128", "", "?LBHTD,LBTHD ?LBHTD,LBTHD"},
    {"past_key_values.0:2x128x8x64", "", "?2HTD,2THD"},
    {"past_key_values:32x2x128x8x64", "", "?L2HTD,L2THD"},
    {"kv_cache:2x8x256x128", "", "?2THD,2HTD"},
    {"kvcache:2x8x256x128", "", "kv:2LTC"},
    {"kvCache:2x8x256x128", "", "kv:2LTC"},
    {"kvCache:2x8x256x8x128", "", "kv:2LTHD"},
    {"layers.0.keys:1x2048x8x64", "", "?BHTD,BTHD"},
    {"layers.0.keys:1x32x10x128 layers.0.values:1x32x10x128", "", "?BHTD,BTHD ?BHTD,BTHD"},
    {"layers.0.keys:1x8x1x64 layers.0.values:1x8x1x64", "", "?BHTD,BTHD ?BHTD,BTHD"},
    {"layers.0.keys:1x16x16x64 layers.0.values:1x16x16x64", "", "?BHTD,BTHD ?BHTD,BTHD"},
    {"layers.0.keys:1x1x1x64 layers.0.values:1x1x1x64", "", "k0:BHTD v0:BHTD"},
    {"blocks.0.attn.hook_k:1x100x8x64 blocks.0.attn.hook_v:1x100x8x64", "", "k0:BTHD v0:BTHD"},
    {"blocks.0.attn.hook_k:1x8x100x64 blocks.0.attn.hook_v:1x8x100x64", "", "k0:BTHD v0:BTHD"},

    {"past_key_values:2x12x1x200x8x64", "", "?2LBHTD,2LBTHD"},
    {"past_key_values:2x12x1x200x8x64", "n_kv_heads=8", "kv:2LBTHD"},
    {"kv:12x2x1x200x8x64", "", "?L2BHTD,L2BTHD"},
    {"kv:12x2x1x8x200x64", "", "kv:L2BHTD"},
    {"cache:1x12x2x200x8x64", "", "-"},
    // Channels before tokens, where the numbers give them away.
    {"layers.0.key:1x8x64x300 layers.0.value:1x8x64x300", "", "?BHTD,BHDT ?BHTD,BHDT"},
    {"layers.0.key:1x8x64x300 layers.0.value:1x8x64x300", "axes=BHDT", "k0:BHDT v0:BHDT"},
    {"layers.0.key:512x300 layers.0.value:512x300", "", "?TC,CT ?TC,CT"},
    {"layers.0.key:512x300 layers.0.value:512x300 token_ids:512@I32", "", "k0:TC v0:TC -"},

    // What the file says of the model or of its tokens settles that.
    {"layers.0.keys:1x200x2x64 layers.0.values:1x200x2x64", "n_kv_heads=2", "k0:BTHD v0:BTHD"},
    {"layers.0.keys:1x32x10x128 layers.0.values:1x32x10x128", "num_key_value_heads=32", "k0:BHTD v0:BHTD"},
    {"layers.0.keys:1x200x2x64 layers.0.values:1x200x2x64", "axes=BTHD", "k0:BTHD v0:BTHD"},
    {"layers.0.keys:1x200x2x64 layers.0.values:1x200x2x64 token_ids:200@I32", "", "k0:BTHD v0:BTHD -"},
    {"layers.0.keys:1x32x10x128 layers.0.values:1x32x10x128 input_ids:1x10@I64", "", "k0:BHTD v0:BHTD -"},
    {"layers.0.keys:1x16x16x64 layers.0.values:1x16x16x64 token_ids:16@I32", "", "?BHTD,BTHD ?BHTD,BTHD -"},
    {"layers.0.keys:1x32x10x128 layers.0.values:1x32x10x128 token_ids:77@I32", "", "?BHTD,BTHD ?BHTD,BTHD -"},
    {"layers.0.keys:1x200x2x64 token_ids:200@I32 tokens:2@I32", "", "?BHTD,BTHD - -"},
    {"layers.0.keys:1x200x2x64 token_ids:200", "", "?BHTD,BTHD -"},
    {"past_key_values.0:2x128x8x64", "n_kv_heads=8", "kv0:2THD"},
    {"kv_cache:2x8x256x128", "n_kv_heads=8", "kv:2HTD"},
    {"keys:32x8x100x128", "", "?LHTD,BHTD"},
    {"keys:32x8x100x128", "n_layers=32", "k:LHTD"},
    {"keys:8x100x128", "", "?HTD,LTC"},
    {"keys:8x100x128", "n_kv_heads=8", "k:HTD"},
    {"layers.0.keys:1x300x1024 layers.0.values:1x300x1024", "", "?HTD,BTC ?HTD,BTC"},
    {"layers.0.keys:1x300x1024 layers.0.values:1x300x1024", "n_kv_heads=8 head_dim=128", "k0:BTC v0:BTC"},
    {"layers.0.keys:2x300x512 layers.0.values:2x300x512", "head_dim=512", "k0:HTD v0:HTD"},

    // Layers of one file settle each other.
    {"layers.0.keys:1x8x300x64 layers.1.keys:1x8x4x64", "", "k0:BHTD k1:BHTD"},
    {"layers.0.keys:1x300x8x64 layers.1.keys:1x40x8x64", "", "k0:BTHD k1:BTHD"},
    {"layers.0.keys:1x300x8x64 layers.1.keys:1x4x8x64", "", "k0:BTHD k1:BTHD"},
    {"layers.0.keys:1x300x8x64 layers.1.keys:1x300x8x64", "", "?BHTD,BTHD ?BHTD,BTHD"},
    {"layers.0.keys:1x8x300x256 layers.2.keys:1x2x300x512", "", "k0:BHTD k2:BHTD"},
    {"layers.0.keys:1x8x300x256 layers.2.keys:1x2x300x512", "num_key_value_heads=8 head_dim=256", "k0:BHTD k2:BHTD"},
    {"layers.0.keys:1x300x8x256 layers.2.keys:1x300x2x512", "num_key_value_heads=8", "k0:BTHD k2:BTHD"},
    {"layers.0.keys:1x3x300x64 layers.1.keys:1x5x300x64", "", "k0:BHTD k1:BHTD"},
    {"layers.0.keys:1x4x300x64 layers.0.values:1x4x300x64", "num_key_value_heads=8", "k0:BHTD v0:BHTD"},
    {"layers.0.keys:1x100x7x64", "n_kv_heads=8", "?BHTD,BTHD"},
    // Of keys and values of a layer that do not agree neither is taken.
    {"layers.0.keys:1x8x300x64 layers.0.values:1x8x64x300", "", "?BHTD ?BHTD,BHDT"},
    {"layers.0.keys:1x8x64x300 layers.0.values:1x8x300x64", "", "?BHTD,BHDT ?BHTD"},
    {"key_cache.0:40x12x8x16x8 value_cache.0:40x12x64x16", "", "- ?BHTD"},
    {"layers.0.keys:1x8x300x64@U8 layers.0.values:1x8x300x64", "", "- v0:BHTD"},

    // Latent attention: transformers and mlx-lm put the latent in keys and the rotary part in values.
    {"layers.0.keys:1x1x200x512 layers.0.values:1x1x200x64", "", "k0:BHTD k0:BHTD"},
    {"layers.0.keys:1x1x200x512 layers.0.values:1x1x200x64", "num_key_value_heads=128", "k0:BHTD k0:BHTD"},
    {"layers.0.keys:1x1x200x64 layers.0.values:1x1x200x512", "", "k0:BHTD k0:BHTD"},
    {"layers.0.keys:1x1x200x192 layers.0.values:1x1x200x128", "", "k0:BHTD v0:BHTD"},
    {"layers.0.keys:1x16x200x192 layers.0.values:1x16x200x64", "", "k0:BHTD v0:BHTD"},
    {"layers.0.latent:200x512 layers.0.rope:200x64", "", "k0:TD k0:TD"},
    {"layers.0.self_attn.kv_c_normed:200x512 layers.0.self_attn.k_pe:200x1x64", "", "k0:TD k0:THD"},
    {"layers.0.compressed_kv:1x200x512 layers.0.k_pe:1x1x200x64", "", "k0:BTD k0:BHTD"},
    {"kv_c:32x100x512", "", "-"},

    // vLLM and its connectors.
    {"kv_cache:2x256x8x128", "", "kv:2THD"},
    {"kv_cache:2x256x1024", "", "kv:2TC"},
    {"kv_cache:256x2x8x128", "", "kv:T2HD"},
    {"model.layers.3.self_attn.attn:2x256x8x128", "", "kv3:2THD"},
    {"model.layers.3.self_attn.attn:256x576", "", "k3:TD"},
    {"kv_cache:256x576", "", "k:TD"},
    // Keys and values side by side in the last axis: of two heads it looks like keys and values.
    {"kv_cache:256x2x256", "", "?T2C"},
    {"kv_cache:256x2x1024", "", "?T2C"},
    {"kv_cache:256x2x1024", "n_kv_heads=8 head_dim=128", "kv:T2C"},
    {"kv_cache:256x8x256", "", "-"},
    {"model.layers.0.self_attn.attn:256x2x256", "", "?T2C"},
    // Pages without their table.
    {"key_cache.0:64x16x8x128 value_cache.0:64x16x8x128", "", "?BHTD,BTHD ?BHTD,BTHD"},
    {"key_cache.0:64x8x16x128 value_cache.0:64x8x16x128", "", "?BHTD ?BHTD"},
    {"key_cache.0:1000x16x8x128", "", "?BHTD,BTHD"},
    {"kv_cache:2x1000x16x8x128", "", "-"},
    {"layers.0.kv_cache:2x1000x16x8x128", "", "-"},

    // LMCache.
    {"kv_chunk:32x2x256x8x128", "", "kv:L2THD"},
    {"kv_chunk:2x32x256x1024", "", "kv:2LTC"},
    {"kv_chunk:2x2x256x8x128", "", "?L2THD,2LTHD"},
    {"kv_chunk:32x2x8x256x128", "fmt=huggingface", "kv:L2HTD"},
    {"kv_chunk:32x2x8x256x128", "", "?L2THD,L2HTD"},
    {"kvcache:2x4x256x256", "kvcache/safetensors:fmt=1", "kv:2LTC"},
    {"kvcache:256x2x1024", "kvcache/safetensors:fmt=2", "kv:T2C"},
    {"kvcache:2x256x1024", "kvcache/safetensors:fmt=3", "kv:2TC"},
    {"kvcache:2x2x1024", "kvcache/safetensors:fmt=2", "kv:T2C"},
    {"kvcache:1x32x256x576", "kvcache/safetensors:fmt=6", "k:BLTD"},
    {"kvcache:2x256x1024", "kvcache/safetensors:fmt=4", "-"},
    {"kvcache:3x256x1024", "kvcache/safetensors:fmt=3", "-"},

    // mlx-lm before and from 0.32 on.
    {"0.0:1x8x4x64 0.1:1x8x4x64", "2.0=KVCache 1.model=m", "k0:BHTD v0:BHTD"},
    {"0.0:1x8x256x64 0.1:1x8x256x64 0.2:@I32", "0.model=m 1.0=KVCache 2.0= 2.1.0=0.2 2.1.1=scalar",
     "k0:BHTD v0:BHTD -"},
    {"0.0:1x8x100x64 0.1:1x8x100x64 0.2:@I32", "1.0=RotatingKVCache 2.0= 2.1.0=0.2 2.1.1=scalar", "k0:BHTD v0:BHTD -"},
    {"0.0:1x8x256x64 0.1:1x8x256x64 1.0.0:1x3x512 1.0.1:1x32x64x16",
     "1.0=KVCache 1.1=ArraysCache 2.0=", "k0:BHTD v0:BHTD - -"},
    {"0.0.0:1x8x256x8@U32 0.0.1:1x8x256x1 0.0.2:1x8x256x1", "1.0=QuantizedKVCache 2.0=", "- - -"},
    {"5.0.0.0:1x4x256x64 5.0.0.1:1x4x256x64 5.0.1:7@I32", "1.5=CacheList 2.0=", "k5:BHTD v5:BHTD -"},
    {"5.1.0.0:1x1x256x32 5.1.0.1:1x1x256x32 5.1.1:7@I32", "1.5=CacheList 2.0=", "k:BHTD v:BHTD -"},
    {"5.0.0.0:1x4x256x64 5.0.0.1:1x4x256x64 5.0.1:11@I32", "1.5=CacheList 2.0=", "- - -"},
    {"0.0:1x1x256x512 0.1:1x1x256x64", "1.0=KVCache 2.0=", "k0:BHTD k0:BHTD"},
    // Of a list the first cache that has keys and values is the layer's, as behind a state (Falcon-H1).
    {"0.0.0.0.0:1x3x8 0.0.0.0.1:1x4x8x16 0.0.1:11@I32 0.1.0.0:1x4x256x64 0.1.0.1:1x4x256x64 0.1.1:7@I32",
     "1.0=CacheList 2.0=", "- - - k0:BHTD v0:BHTD -"},
    {"0.0.0.0:1x4x9x64 0.0.0.1:1x4x9x64 0.0.1:14@I32 0.1.0.0:1x4x256x64 0.1.0.1:1x4x256x64 0.1.1:15@I32",
     "1.0=CacheList 2.0=", "k0:BHTD v0:BHTD - k:BHTD v:BHTD -"},
    // mlx-lm 0.31 says the classes of a list in texts.
    {"0.0.0:1x4x9x64 0.0.1:1x4x9x64 0.1.0:1x1x9x32 0.1.1:1x1x9x32",
     "0.0.0.0=KVCache 0.0.0.1=KVCache 0.0.1.0= 0.0.1.1= 2.0=CacheList", "k0:BHTD v0:BHTD k:BHTD v:BHTD"},
    {"0.0.0:1x3x8 0.0.1:1x4x8x16 0.1.0:1x4x9x64 0.1.1:1x4x9x64",
     "0.0.0.0=ArraysCache 0.0.0.1=RotatingKVCache 0.0.1.0= 0.0.1.1.0=0 2.0=CacheList", "- - k0:BHTD v0:BHTD"},
    {"1.0:1x4x9x64 1.1:1x4x9x64 0.0.0:1x4x9x64 0.0.1:1x4x9x64", "0.0.0.0=KVCache 2.0=CacheList 2.1=KVCache",
     "k1:BHTD v1:BHTD k0:BHTD v0:BHTD"},
    {"0.0.0.0:1x4x9x8@U32 0.0.0.1:1x4x9x2 0.0.0.2:1x4x9x2", "0.0.0.0=QuantizedKVCache 2.0=CacheList", "- - -"},
    // Before, nothing says which of its arrays are of which cache, nor of what class these are.
    {"0.0:1x4x9x64 0.1:1x4x9x64 0.2:1x4x9x64 0.3:1x4x9x64 1.0:1x4x9x64 1.1:1x4x9x64", "0.0= 2.0=CacheList 2.1=KVCache",
     "- - - - k1:BHTD v1:BHTD"},
    {"0.0.0:1x4x9x64 0.0.1:1x4x9x64", "0.0= 2.0=CacheList", "- -"},
    {"0.0:1x8x256x64 0.1:1x8x256x64", "", "- -"},

    // TensorRT-LLM has the sequence before keys and values; of two, transformers' order fits as well.
    {"past_key_value_0:1x2x8x300x64", "", "kv0:B2HTD"},
    {"present_key_value_0:4x2x8x300x64", "", "kv0:B2HTD"},
    {"past_key_value_0:2x2x8x300x64", "", "?2BHTD,B2HTD"},
    {"past_key_value_0:4x2x100x8x64", "", "?B2HTD,B2THD"},
    {"past_key_value_0:4x2x100x8x64", "n_kv_heads=8", "kv0:B2THD"},
    // ONNX, by optimum and by ONNX Runtime; what is of an encoder is no cache of these tokens.
    {"past_key_values.0.decoder.key:1x8x30x64 past_key_values.0.encoder.key:1x8x100x64", "", "k0:BHTD -"},
    {"present.0.decoder.value:1x8x30x64 present.0.encoder.value:1x8x100x64", "", "v0:BHTD -"},
    {"past_key_self_0:1x8x30x64 past_value_self_0:1x8x30x64 past_key_cross_0:1x8x99x64", "", "k0:BHTD v0:BHTD -"},
    {"past_0:2x1x12x300x64 past_1:2x1x12x300x64", "", "kv0:2BHTD kv1:2BHTD"},
    {"present_key_0:1x8x300x64 present_value_0:1x8x300x64", "", "k0:BHTD v0:BHTD"},
    // transformers' encoder and decoder, and states that are no rows of tokens.
    {"self_attention_cache.key_cache.0:1x8x30x64 cross_attention_cache.key_cache.0:1x8x99x64", "", "k0:BHTD -"},
    {"decoder.layers.0.encoder_attn.k:1x8x99x64 decoder.layers.0.self_attn.k:1x8x30x64", "", "- k0:BHTD"},
    {"layers.0.keys:1x8x300x64 layers.1.conv_states:1x4096x4 layers.1.recurrent_states:1x32x128x128", "",
     "k0:BHTD - -"},
    {"layers.0.state:1x32x128x128 state.1:2x32x128x128", "", "- -"},
    {"layers.0.keys:1x8x4096x64 layers.1.keys:1x8x1024x64", "", "k0:BHTD k1:BHTD"},
    {"layers.0.keys:1x8x300x64 layers.0.indexer_keys:1x300x128", "", "k0:BHTD -"},
    // Meta's llama, gpt-fast, litgpt, exllama, SGLang, DeepSeek, flax (old orders have the channels before the tokens).
    {"layers.0.attention.cache_k:1x2048x8x64 layers.0.attention.cache_v:1x2048x8x64", "", "?BHTD,BTHD ?BHTD,BTHD"},
    {"layers.0.attention.cache_k:1x2048x8x64 layers.0.attention.cache_v:1x2048x8x64", "n_kv_heads=8",
     "k0:BTHD v0:BTHD"},
    {"layers.0.attention.kv_cache.k_cache:1x8x300x64 layers.0.attention.kv_cache.v_cache:1x8x300x64", "",
     "k0:BHTD v0:BHTD"},
    {"transformer.h.0.attn.kv_cache.k:1x8x300x64 transformer.h.0.attn.kv_cache.v:1x8x300x64", "", "k0:BHTD v0:BHTD"},
    {"key_states.0:1x300x8x64 value_states.0:1x300x8x64", "", "?BHTD,BTHD ?BHTD,BTHD"},
    {"k_buffer.0:4096x8x128 v_buffer.0:4096x8x128 kv_buffer.1:4096x1x576", "", "- - -"},
    {"layers.0.attn.kv_cache:1x300x512 layers.0.attn.pe_cache:1x300x64", "", "k0:BTD k0:BTD"},
    {"layers.0.attn.kv_cache:2x300x512 layers.0.attn.pe_cache:2x300x64", "", "k0:BTD k0:BTD"},
    {"layers.0.attn.kv_cache:2x300x576", "", "?2TC,BTD"},
    {"layers.0.attn.kv_cache:2x300x576", "n_kv_heads=9 head_dim=64", "kv0:2TC"},
    {"layers.0.attn.kv_cache:2x300x512 layers.1.attn.pe_cache:2x300x64", "", "kv0:2TC k1:BTD"},
    {"h/0/attn/cached_key:1x300x8x64 h/0/attn/cached_value:1x300x8x64 h/0/attn/cache_index:@I32", "",
     "k0:BTHD v0:BTHD -"},
    {"h/0/attn/cached_key:1x300x8x64", "", "?BHTD,BTHD"},
    {"decoder/layers_0/self_attention/cached_key:1x8x64x512 decoder/layers_0/self_attention/cache_index:@I32", "",
     "k0:BHDT -"},
    {"decoder/layers_0/self_attention/cached_key:1x8x64x128 decoder/layers_0/self_attention/cache_index:@I32", "",
     "?BTHD,BHDT,BHTD -"},
    {"layer_0/k:1x1024x4x256 layer_0/v:1x1024x4x256 layer_0/end_index:1@I32", "", "k0:BTHD v0:BTHD -"},
    {"layer_0/k:1x8x300x64 cache_index:@I32", "", "k0:BHTD -"},
    {"cached_key:12x1x300x8x64 cache_index:12@I32", "", "k:LBTHD -"},
    {"decoder/block/0/layer/0/SelfAttention/cached_key:1x8x64x300", "", "-"},
    // Gemma's code, MaxText, Megatron and ChatGLM, Moshi, tinygrad, CoreML, OpenVINO, Keras, CTranslate2.
    {"decoder/layers_0/self_attention/KVCache_0/cached_prefill_key:300x8x1x64", "", "-"},
    {"key_value_memory_dict.0.0:300x1x8x64 key_value_memory_dict.0.1:300x1x8x64", "", "- -"},
    {"key_value_memory_dict.0.0:1x256x4 key_value_memory_dict.0.1:1x256x16", "", "- -"},
    {"past_key_values.0.0:300x1x2x128 past_key_values.0.1:300x1x2x128", "", "?BHTD,TBHD ?BHTD,TBHD"},
    {"past_key_values.0.0:300x1x2x128", "axes=TBHD", "k0:TBHD"},
    {"transformer.layers.3.self_attn.kv_cache.cache:2x1x8x300x64", "", "?2BHTD,2BTHD"},
    {"transformer.layers.3.self_attn.kv_cache.cache:2x1x8x300x64", "n_kv_heads=8", "kv3:2BHTD"},
    {"layers.3.attention.cache_kv:2x1x300x8x64", "", "?2BHTD,2BTHD"},
    {"blk.3.cache_kv:2x1x8x300x64", "", "?2BHTD,2BTHD"},
    {"keyCache:28x1x2x300x64 valueCache:28x1x2x300x64", "", "k:LBHTD v:LBHTD"},
    {"model_model_kv_cache_0:56x8x300x64", "", "-"},
    {"model_model_kv_cache_0:32x2x300x64", "", "?T2HD"},
    {"past_key_values.3.keypresent.3.key:1x8x300x64 past_key_values.3.valuepresent.3.value:1x8x300x64", "",
     "k3:BHTD v3:BHTD"},
    {"past_key_values.3.keypresent.4.key:1x8x300x64", "", "-"},
    {"cache:1x12x2x300x8x64", "", "-"},
    {"kv_cache:9x2x1x8x300x64", "", "kv:L2BHTD"},
    {"kv_cache:2x9x1x8x300x64", "", "kv:2LBHTD"},
    {"self_keys_0:1x8x30x64 self_values_0:1x8x30x64 memory_keys_0:1x8x99x64", "", "k0:BHTD v0:BHTD -"},
    {"self_attention_cache.layers.0.keys:1x8x30x64 cross_attention_cache.layers.0.keys:1x8x99x64", "", "k0:BHTD -"},
    {"past_key_values.0.0:1x8x30x64 past_key_values.0.1:1x8x30x64 past_key_values.0.2:1x8x99x64", "",
     "k0:BHTD v0:BHTD -"},
    {"decoder.blocks.0.attn.key:1x30x384 decoder.blocks.0.cross_attn.key:1x1500x384", "", "?HTD,BTC -"},
    // Names of scripts.
    {"keyCache.3:1x8x300x64 valueCache.3:1x8x300x64", "", "k3:BHTD v3:BHTD"},
    {"kCache_3:1x8x300x64 vCache_3:1x8x300x64", "", "k3:BHTD v3:BHTD"},
    {"layers.3.keyStates:1x8x300x64 layers.3.valueStates:1x8x300x64", "", "k3:BHTD v3:BHTD"},
    {"layers.3.pastKeyValues:2x1x8x300x64", "", "kv3:2BHTD"},
    {"h.3.attn.k:1x8x300x64 h.3.attn.v:1x8x300x64", "", "k3:BHTD v3:BHTD"},
    {"layer_0_h_3_k:300x64 k_h3:300x64 l.0.h.3.k:300x64", "", "- - -"},
    {"prompt_cache.3.keys:1x8x300x64 cached_values.3:1x8x300x64", "", "k3:BHTD v3:BHTD"},
    {"layer_03_key:1x8x300x64 L3_V:1x8x300x64 layer-4-keys:1x8x300x64", "", "k3:BHTD v3:BHTD k4:BHTD"},
    {"cache.layers[3].keys:1x8x300x64 key_cache[4]:1x8x300x64 past_key_values[5][1]:1x8x300x64", "",
     "k3:BHTD k4:BHTD v5:BHTD"},
    {"KV:32x2x1x8x300x64", "", "kv:L2BHTD"},
    {"model/layers/3/self_attn/key_states:1x8x300x64 prompt_0/layer_3/v:1x8x300x64", "", "k3:BHTD v3:BHTD"},
    // GPTBigCode's keys and values side by side look like a pair where there are two sequences.
    {"past_key_values.0:1x300x128", "", "-"},
    {"past_key_values.0:2x300x128", "", "?2TC"},
    {"past_key_values.0:2x300x128", "n_kv_heads=1 head_dim=128", "kv0:2TC"},
    // States of recurrent layers, KIVI's packed parts, weights without their last word.
    {"layers.0.kv_state:1x8x64x64 layers.1.prev_key_value:2x8x64x64 blocks.0.att.x:256", "", "- - -"},
    {"past_key_values.0.0:1x8x64x4@I32 past_key_values.0.2:1x8x64x3 past_key_values.0.8:1@I64", "", "- - -"},
    {"encoder.layer.0.attention.self.key:128x128 encoder.layer.0.attention.self.query:128x128", "", "?TC ?TC"},
    // Keys channel by channel beside values token by token (MPT), as far as shapes tell.
    {"layers.0.keys:1x8x64x128 layers.0.values:1x8x128x64", "", "?BHTD,BHDT ?BHTD,BHDT"},
    {"layers.0.keys:1x8x64x64 layers.0.values:1x8x64x64", "", "k0:BHTD v0:BHTD"},
    {"layer3KeyCache:1x8x300x64 encoder.layers.3.cross_attn.k:1x8x300x64", "", "k3:BHTD -"},
    // A file of each head.
    {"layers.0.heads.0.key:300x64 layers.0.heads.1.key:300x64", "", "- -"},
    {"layer_0_head_3_k:300x64 k_0_3:300x64 layers.0.key.1:300x64", "", "- - -"},
    // Several models or sequences in one file.
    {"target.layers.0.keys:1x8x300x64 draft.layers.0.keys:1x4x300x64", "", "k0:BHTD k0:BHTD"},
    {"seq0.layers.0.keys:1x8x300x64 seq1.layers.0.keys:1x8x200x64", "", "k0:BHTD k0:BHTD"},

    // What only looks like a cache.
    {"layers.0.q:4096x4096 layers.0.k:1024x4096 layers.0.v:1024x4096", "", "?TC ?TC ?TC"},
    {"layers.0.q:2048x4096 layers.0.k:1024x4096", "", "q0:TC ?TC"},
    {"layers.0.q:300x4096 layers.0.k:300x1024 layers.0.v:300x1024", "", "q0:TC k0:TC v0:TC"},
    {"layers.0.attention.wk:1024x4096 layers.0.k.lora_A:16x4096 layers.0.k_norm:128", "", "- - -"},
    {"layers.0.k:4096x4096", "", "?TC"},
    {"layers.0.self_attn.k_proj.weight:1024x4096", "", "-"},
    {"layers.0.key_scale:8", "", "-"},
    {"layers.0.key:8", "", "-"},
    {"layers.0.key:2x3x4x5x6x7", "", "-"},
    {"conv_cache.3:1x8x300x64", "", "-"},
    {"ssm_cache.3:1x8x300x64", "", "-"},
    {"logits:1x32000", "", "-"},
};

TensorInfo tensor_of(const std::string& text) {
  const std::size_t colon = text.find(':'), at = std::min(text.find('@'), text.size());
  TensorInfo info{text.substr(0, colon), DType::f16, {}};
  if (at != text.size()) info.dtype = parse_dtype(text.substr(at + 1)).value();
  std::istringstream extents(text.substr(colon + 1, at - colon - 1));
  for (std::string extent; std::getline(extents, extent, 'x');) {
    info.shape.push_back(parse_number<std::uint64_t>(extent).value());
  }
  return info;
}

Dump dump_of(const File& file) {
  Dump dump;
  std::istringstream tensors(file.tensors), metadata(file.metadata);
  for (std::string word; tensors >> word;) dump.tensors.push_back(tensor_of(word));
  for (std::string word; metadata >> word;) {
    const std::size_t equals = word.find('='), slash = word.find('/');
    const bool of_tensor = slash < equals;
    const std::string name = of_tensor ? word.substr(slash + 1, equals - slash - 1) : word.substr(0, equals);
    dump.attributes.push_back(
        test::text_attribute(name, word.substr(equals + 1), of_tensor ? word.substr(0, slash) : std::string()));
  }
  return dump;
}

std::string reading_of(const TensorRole& role) {
  if (role.role == Role::other) {
    std::vector<std::string_view> axes;
    for (const Axes& reading : role.readings) axes.push_back(reading.text());
    return axes.empty() ? "-" : fmt::format("?{}", fmt::join(axes, ","));
  }
  const std::string_view letter = role.role == Role::pair ? "kv" : role_name(role.role).substr(0, 1);
  return fmt::format("{}{}:{}", letter, role.layer ? fmt::to_string(*role.layer) : "", role.axes.text());
}

}  // namespace

TEST_CASE("caches as people have them are read rightly or left open") {
  CHECK(std::size(kFiles) >= 100);
  for (const File& file : kFiles) {
    CAPTURE(file.tensors);
    CAPTURE(file.metadata);
    std::string readings;
    for (const TensorRole& role : recognise(dump_of(file)).tensors) {
      readings += (readings.empty() ? "" : " ") + reading_of(role);
      CHECK_FALSE(role.why.empty());
    }
    CHECK(readings == std::string(file.reading));
  }
}
