// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "formats/name_patterns.hpp"
#include "kvzip/error.hpp"
#include "kvzip/layout.hpp"
#include "tests/support/memory_dump.hpp"

using namespace kvzip;
using test::text_attribute;

namespace {

using Shape = std::vector<std::uint64_t>;
constexpr int kNoLayer = -1;

std::string describe(const TensorRole& role) {
  return fmt::format("{}/{}/{}", role_name(role.role), role.layer ? static_cast<int>(*role.layer) : kNoLayer,
                     role.axes.text());
}

TensorRole one(const std::string& name, const Shape& shape, const std::vector<Attribute>& attributes = {},
               const RecogniseOptions& options = {}, DType dtype = DType::f16) {
  const Dump dump{.tensors = {{name, dtype, shape}}, .attributes = attributes};
  return recognise(dump, options).tensors.at(0);
}

}  // namespace

TEST_CASE("role names read back") {
  for (const Role role : {Role::key, Role::value, Role::query, Role::other, Role::pair}) {
    CHECK(parse_role(role_name(role)) == role);
  }
  CHECK(parse_role("k") == Role::key);
  CHECK(parse_role("v") == Role::value);
  CHECK(parse_role("q") == Role::query);
  CHECK(parse_role("kv") == Role::pair);
  CHECK(parse_role("pair") == Role::pair);
  CHECK_FALSE(parse_role("Key"));
  CHECK_FALSE(parse_role(""));
}

TEST_CASE("names of one layer's keys or values") {
  struct Row {
    const char *name, *expected;
  };
  const Row rows[] = {
      {"key_cache.3", "key/3/BHTD"},
      {"value_cache.31", "value/31/BHTD"},
      {"past_key_values.3.key", "key/3/BHTD"},
      {"past_key_values.3.value", "value/3/BHTD"},
      {"past_key_values.3.keys", "key/3/BHTD"},
      {"past_key_values.3.values", "value/3/BHTD"},
      {"past_key_values.3.decoder.key", "key/3/BHTD"},
      {"past_key_values.3.0", "key/3/BHTD"},
      {"past_key_values.3.1", "value/3/BHTD"},
      {"past_key_values_3_value", "value/3/BHTD"},
      {"past_key_3", "key/3/BHTD"},
      {"present.3.key", "key/3/BHTD"},
      {"present.3.value", "value/3/BHTD"},
      {"layers.3.key", "key/3/BHTD"},
      {"layers.3.values", "value/3/BHTD"},
      {"layers.3.query", "query/3/BHTD"},
      {"layers.3.q", "query/3/BHTD"},
      {"layers.3.k", "key/3/BHTD"},
      {"model.layers.3.self_attn.k", "key/3/BHTD"},
      {"model.layers.3.self_attn.v", "value/3/BHTD"},
      {"language_model.model.layers.3.self_attn.key_cache", "key/3/BHTD"},
      {"model.layers.3.self_attn.k_cache", "key/3/BHTD"},
      {"model.layers.3.self_attn.key_states", "key/3/BHTD"},
      {"transformer.h.3.attn.k", "key/3/BHTD"},
      {"blk.3.k", "key/3/BHTD"},
      {"k_3", "key/3/BHTD"},
      {"v_3", "value/3/BHTD"},
      {"K_3", "key/3/BHTD"},
      {"k3", "key/3/BHTD"},
      {"key_3", "key/3/BHTD"},
      {"k.3", "key/3/BHTD"},
      {"cache_k_l3", "key/3/BHTD"},
      {"cache_v_l3", "value/3/BHTD"},
      {"k_cache_3", "key/3/BHTD"},
      {"key_cache[3]", "key/3/BHTD"},
      {"key_layer_3", "key/3/BHTD"},
      {"layer_3.key", "key/3/BHTD"},
      {"layer_3_k", "key/3/BHTD"},
      {"layer3_v", "value/3/BHTD"},
      {"layer.003.v", "value/3/BHTD"},
      {"layers/3/k", "key/3/BHTD"},
      {"layers/3/key", "key/3/BHTD"},
      {"request_17/layers/3/key", "key/3/BHTD"},
      {"run/k_3", "key/3/BHTD"},
      {"run/cache/k_3", "key/3/BHTD"},
      {"prompt_7/key_3", "key/3/BHTD"},
      {"3/k", "key/3/BHTD"},
      {"cache.3.k", "key/3/BHTD"},
      {"kv_cache.3.v", "value/3/BHTD"},
      {"layers.3.kv_cache.key", "key/3/BHTD"},
      {"blocks.3.attn.hook_k", "key/3/BTHD"},
      {"blocks.3.attn.hook_rot_k", "key/3/BTHD"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    CHECK(describe(one(row.name, {1, 8, 100, 64})) == row.expected);
  }
}

TEST_CASE("names that say nothing of a cache stay other") {
  const char* names[] = {"",
                         "token_ids",
                         "logits",
                         "model.layers.3.self_attn.k_proj.weight",
                         "model.layers.3.self_attn.k_proj",
                         "model.layers.3.self_attn.q_norm.weight",
                         "layers.3.key_scale",
                         "layers.3.k.zeros",
                         "layers.3.experts.5.k",
                         "block.3.layer.0.k",
                         "layers.3.5.k",
                         "decoder.block.3.layer.0.SelfAttention.k",
                         "past_key_values.3.encoder.key",
                         "past_key_values.3.2",
                         "decoder.layers.3.encoder_attn.k",
                         "some_value_3",
                         "conv_3_k",
                         "conv_cache.3",
                         "ssm_cache.3",
                         "foo.k_3",
                         "3/k_5",
                         "k_h_3",
                         "kv_cache_v2",
                         "key.layers.3.value.x",
                         "3.0",
                         "3",
                         "rope",
                         "latent",
                         "layers.99999999999.k",
                         "layers.65536.k",
                         "k_4294967296",
                         "layers.-1.k.x"};
  for (const char* name : names) {
    CAPTURE(name);
    const TensorRole role = one(name, {1, 8, 100, 64});
    CHECK(describe(role) == "other/-1/");
    CHECK_FALSE(role.why.empty());
  }
}

TEST_CASE("ranks of single-layer tensors") {
  CHECK(describe(one("k_0", {8, 100, 64})) == "key/0/HTD");
  CHECK(describe(one("k_0", {100, 512})) == "key/0/TC");
  CHECK(describe(one("k_0", {1, 8, 0, 64})) == "key/0/BHTD");
  for (const Shape& shape : {Shape{}, Shape{100}, Shape{2, 10, 16, 8, 64}, Shape(12, 2)}) {
    const TensorRole role = one("k_0", shape);
    CHECK(role.role == Role::other);
    CHECK((role.hint == Hint::layout || role.hint == Hint::layout_or_map));
  }
}

TEST_CASE("only float types take a role") {
  const TensorRole ids = one("token_ids", {100}, {}, {}, DType::i32);
  CHECK(ids.role == Role::other);
  CHECK(ids.why == "I32 is not a float type: stored losslessly");
  CHECK(one("layers.0.key", {8, 100, 64}, {}, {}, DType::u8).role == Role::other);
  CHECK(one("layers.0.key", {8, 100, 64}, {}, {}, DType::f8_e4m3).role == Role::key);
  CHECK(one("layers.0.key", {8, 100, 64}, {}, {}, DType::f6_e2m3).role == Role::other);
}

TEST_CASE("pairs of keys and values") {
  struct Row {
    const char* name;
    Shape shape;
    const char* expected;
  };
  const Row rows[] = {
      {"kv_chunk", {32, 2, 256, 8, 128}, "key+value/-1/L2THD"},
      {"kv_chunk", {2, 32, 256, 1024}, "key+value/-1/2LTC"},
      {"kvcache", {2, 256, 1024}, "key+value/-1/2TC"},
      {"kv_cache", {2, 256, 1024}, "key+value/-1/2TC"},
      {"kvcache", {256, 2, 1024}, "key+value/-1/T2C"},
      {"kv_cache", {2, 256, 8, 128}, "key+value/-1/2THD"},
      {"model.layers.3.self_attn.attn", {2, 256, 1024}, "key+value/3/2TC"},
      {"model.layers.3.self_attn.attn.kv_cache", {2, 256, 8, 128}, "key+value/3/2THD"},
      {"layers.3.cache", {2, 256, 1024}, "key+value/3/2TC"},
      {"layers/3/kv", {2, 256, 1024}, "key+value/3/2TC"},
      {"past_key_values", {32, 2, 1, 8, 256, 128}, "key+value/-1/L2BHTD"},
      {"past_key_values", {2, 32, 1, 8, 256, 128}, "key+value/-1/2LBHTD"},
      {"past_key_values", {32, 2, 8, 256, 128}, "key+value/-1/L2HTD"},
      {"past_key_values.3", {2, 1, 8, 256, 128}, "key+value/3/2BHTD"},
      {"cache", {32, 2, 1, 8, 256, 128}, "key+value/-1/L2BHTD"},
      {"kv", {2, 256, 1024}, "key+value/-1/2TC"},
      // Both readings hold.
      {"kv_chunk", {2, 2, 256, 8, 128}, "other/-1/"},
      {"kv_chunk", {2, 2, 256, 1024}, "other/-1/"},
      {"kv_cache", {2, 2, 1024}, "other/-1/"},
      {"kv", {32, 2, 8, 256, 128}, "other/-1/"},
      {"kv", {2, 256, 8, 128}, "other/-1/"},
      // Pages without their block table, and no axis of two at all.
      {"kv_cache", {2, 1000, 16, 8, 128}, "other/-1/"},
      {"kv_cache", {256, 1024}, "other/-1/"},
      {"kv", {3, 256, 1024}, "other/-1/"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    CAPTURE(row.expected);
    CHECK(describe(one(row.name, row.shape)) == row.expected);
  }
  CHECK(one("kv_chunk", {2, 2, 256, 8, 128}).readings == std::vector<Axes>{"L2THD", "2LTHD"});
  CHECK(one("kv_chunk", {2, 2, 256, 8, 128}).hint == Hint::layout);
  CHECK(describe(one("kv_chunk", {32, 2, 8, 256, 128}, {text_attribute("fmt", "huggingface")})) ==
        "key+value/-1/L2HTD");
}

TEST_CASE("one tensor for all layers") {
  CHECK(describe(one("key_cache", {32, 1, 8, 100, 128})) == "key/-1/LBHTD");
  CHECK(describe(one("v_cache", {32, 1, 8, 100, 128})) == "value/-1/LBHTD");
  CHECK(describe(one("keys", {100, 1024})) == "key/-1/TC");
  const TensorRole open = one("keys", {32, 8, 100, 128});
  CHECK(open.role == Role::other);
  CHECK(open.why.find("LHTD (32 layers, 8 heads, 100 tokens, 128 channels a head) or BHTD (32 sequences") !=
        std::string::npos);
  CHECK(open.hint == Hint::layout);
  CHECK(one("keys", {8, 100, 128}).role == Role::other);
  CHECK(describe(one("keys", {32, 8, 100, 128}, {text_attribute("n_layers", "32")})) == "key/-1/LHTD");
  CHECK(describe(one("keys", {4, 8, 100, 128}, {text_attribute("n_layers", "2")})) == "key/-1/BHTD");
  CHECK(describe(one("keys", {8, 100, 128}, {text_attribute("n_kv_heads", "8")})) == "key/-1/HTD");
  CHECK(describe(one("keys", {32, 8, 100, 128}, {}, {.map = {}, .layout = "LHTD"})) == "key/-1/LHTD");
  const Dump dump{.tensors = {{"key_cache", DType::f16, {32, 1, 8, 100, 128}}}, .attributes = {}};
  CHECK(recognise(dump).model.layers == 32);
}

TEST_CASE("MLA caches have one tensor per layer") {
  struct Row {
    const char* name;
    Shape shape;
    const char *expected, *why;
  };
  const Row rows[] = {
      {"layers.3.latent", {100, 512}, "key/3/TD", "MLA latent"},
      {"layers.3.rope", {100, 64}, "key/3/TD", "MLA rope part"},
      {"layers.3.self_attn.kv_c_normed", {100, 512}, "key/3/TD", "MLA latent"},
      {"layers.3.k_pe", {1, 100, 64}, "key/3/BTD", "MLA rope part"},
      {"layers.3.compressed_kv", {1, 100, 512}, "key/3/BTD", "MLA latent"},
      {"c_kv.3", {100, 1, 512}, "key/3/THD", "MLA latent"},
      {"layers.3.ckv", {1, 1, 100, 512}, "key/3/BHTD", "MLA latent"},
      {"kv_cache", {100, 576}, "key/-1/TD", "MLA latent"},
      {"model.layers.3.self_attn.attn", {100, 576}, "key/3/TD", "MLA latent"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    const TensorRole role = one(row.name, row.shape);
    CHECK(describe(role) == row.expected);
    CHECK(role.why.find(row.why) != std::string::npos);
  }
  CHECK(one("kv_c", {32, 100, 512}).role == Role::other);
}

TEST_CASE("metadata settles the order of heads and tokens") {
  const std::vector<Attribute> heads = {text_attribute("n_kv_heads", "8"), text_attribute("head_dim", "64"),
                                        text_attribute("n_heads", "32")};
  CHECK(describe(one("k_0", {1, 8, 100, 64}, heads)) == "key/0/BHTD");
  CHECK(describe(one("k_0", {1, 100, 8, 64}, heads)) == "key/0/BTHD");
  CHECK(describe(one("k_0", {100, 8, 64}, heads)) == "key/0/THD");
  CHECK(describe(one("k_0", {1, 100, 512}, heads)) == "key/0/BTC");
  CHECK(describe(one("k_0", {1, 8, 8, 64}, heads)) == "key/0/BHTD");
  CHECK(describe(one("q_0", {1, 100, 32, 64}, heads)) == "query/0/BTHD");
  CHECK(one("k_0", {1, 100, 7, 64}, heads).role == Role::other);
  CHECK(describe(one("kv", {2, 100, 8, 64}, heads)) == "key+value/-1/2THD");
  CHECK(describe(one("kv", {2, 8, 100, 64}, heads)) == "key+value/-1/2HTD");
  CHECK(describe(one("kv", {2, 32, 100, 512}, heads)) == "key+value/-1/2LTC");
  CHECK(describe(one("kv_cache", {32, 2, 100, 8, 64}, {text_attribute("num_hidden_layers", "32")})) ==
        "key+value/-1/L2THD");
  // Values may be narrower than keys.
  CHECK(describe(one("v_0", {1, 8, 100, 32}, heads)) == "value/0/BHTD");
  // No model has 2048 heads: unconfirmed, this is more likely a token axis.
  CHECK(one("k_0", {1, 2048, 8, 64}).role == Role::other);
  CHECK(describe(one("k_0", {1, 2048, 8, 64}, {text_attribute("n_kv_heads", "2048")})) == "key/0/BHTD");
}

TEST_CASE("axes stated by the file come before the table") {
  CHECK(describe(one("layers.0.key", {100, 8, 64}, {text_attribute("axes", "THD")})) == "key/0/THD");
  CHECK(describe(one("layers.0.key", {1, 8, 100, 64}, {text_attribute("axes", "THD")})) == "key/0/BHTD");
  CHECK(describe(one("layers.0.key", {8, 100, 64}, {text_attribute("axes", "XYZ")})) == "key/0/HTD");
  const std::vector<Attribute> both = {text_attribute("axes", "HTD"), text_attribute("axes", "THD", "layers/0/k")};
  CHECK(describe(one("layers/0/k", {100, 8, 64}, both)) == "key/0/THD");
  CHECK(describe(one("layers/1/k", {8, 100, 64}, both)) == "key/1/HTD");
  // The axis 2 must have two entries, and only pairs have it.
  CHECK(describe(one("layers.0.key", {2, 8, 64}, {text_attribute("axes", "2TC")})) == "key/0/HTD");
  CHECK(one("layers.0.kv", {3, 8, 64}, {text_attribute("axes", "2TC")}).role == Role::other);
  CHECK(describe(one("kv", {2, 2, 64}, {text_attribute("axes", "T2C")})) == "key+value/-1/T2C");
}

TEST_CASE("--layout replaces the table's axes where the rank agrees") {
  const RecogniseOptions options{.map = {}, .layout = "BTHD"};
  CHECK(describe(one("k_0", {1, 100, 8, 64}, {}, options)) == "key/0/BTHD");
  CHECK(describe(one("k_0", {8, 100, 64}, {}, options)) == "key/0/HTD");
  CHECK(describe(one("foo", {1, 100, 8, 64}, {}, options)) == "other/-1/");
  CHECK(describe(one("kv_chunk", {2, 2, 9, 8, 64}, {}, {.map = {}, .layout = "2LTHD"})) == "key+value/-1/2LTHD");
  CHECK(describe(one("kv_cache", {9, 640}, {}, {.map = {}, .layout = "TC"})) == "key/-1/TC");
  for (const char* bad : {"B", "BHT", "BHD", "TT", "BHTDC", "HTC", "XTD", "bhtd", "BL2HTDCB"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(one("k_0", {1, 100, 8, 64}, {}, {.map = {}, .layout = bad}), Error);
  }
  CHECK_THROWS_AS(one("kv", {3, 100, 64}, {}, {.map = {}, .layout = "2TC"}), Error);
}

TEST_CASE("--map rules come first") {
  const auto mapped = [](const std::string& rule, const std::string& name, const Shape& shape) {
    return describe(one(name, shape, {}, {.map = {parse_map_rule(rule)}, .layout = {}}));
  };
  CHECK(mapped("enc.{L}.mem=key:BHTD", "enc.12.mem", {1, 8, 100, 64}) == "key/12/BHTD");
  CHECK(mapped("*=value:TC", "anything", {100, 64}) == "value/-1/TC");
  CHECK(mapped("layers.*.key=other", "layers.3.key", {8, 100, 64}) == "other/-1/");
  CHECK(mapped("a=b=kv:L2TC", "a=b", {4, 2, 100, 64}) == "key+value/-1/L2TC");
  CHECK(mapped("x=key:TC", "layers.3.key", {8, 100, 64}) == "key/3/HTD");
  CHECK_THROWS_AS(mapped("*=key:BHTD", "x", {8, 100, 64}), Error);
  CHECK_THROWS_AS(mapped("*=kv:2TC", "x", {3, 100, 64}), Error);
  CHECK(one("ids", {100, 4}, {}, {.map = {parse_map_rule("*=key:TC")}, .layout = {}}, DType::i64).role == Role::other);
}

TEST_CASE("MLX prompt caches") {
  const auto recognise_mlx = [](std::vector<TensorInfo> tensors, std::vector<Attribute> attributes) {
    const Dump dump{.tensors = std::move(tensors), .attributes = std::move(attributes)};
    std::string text;
    for (const TensorRole& role : recognise(dump).tensors) text += describe(role) + " ";
    return text;
  };
  const TensorInfo k{"3.0", DType::bf16, {1, 8, 100, 64}}, v{"3.1", DType::bf16, {1, 8, 100, 64}};
  CHECK(recognise_mlx({k, v}, {text_attribute("2.3", "KVCache")}) == "key/3/BHTD value/3/BHTD ");
  CHECK(recognise_mlx({k, v}, {text_attribute("1.model", "m")}) == "key/3/BHTD value/3/BHTD ");
  CHECK(recognise_mlx({k, v}, {text_attribute("2.3", "RotatingKVCache")}) == "key/3/BHTD value/3/BHTD ");
  CHECK(recognise_mlx({k, v}, {text_attribute("2.3", "MambaCache")}) == "other/-1/ other/-1/ ");
  CHECK(recognise_mlx({k, v}, {}) == "other/-1/ other/-1/ ");
  CHECK(recognise_mlx({k, {"extra", DType::f16, {1}}}, {text_attribute("2.3", "KVCache")}) == "other/-1/ other/-1/ ");
  const TensorInfo packed{"0.0.0", DType::u32, {1, 8, 100, 8}}, scales{"0.0.1", DType::f16, {1, 8, 100, 1}};
  const Dump quantised{.tensors = {packed, scales}, .attributes = {text_attribute("2.0", "QuantizedKVCache")}};
  const Recognition result = recognise(quantised);
  CHECK(result.recognised == 0);
  CHECK(result.tensors[0].why.find("quantised MLX") != std::string::npos);
  CHECK(result.tensors[1].role == Role::other);
}

TEST_CASE("hostile names") {
  const std::string mega = std::string(1 << 20, 'k') + ".k_3";
  CHECK(describe(one(mega, {8, 100, 64})) == "other/-1/");
  std::string deep, digits;
  for (int i = 0; i < 200000; ++i) deep += "layers/3/";
  CHECK(describe(one(deep + "k", {8, 100, 64})) == "other/-1/");
  digits.assign(1 << 20, '7');
  CHECK(describe(one("layers." + digits + ".k", {8, 100, 64})) == "other/-1/");
  CHECK(describe(one(std::string(1 << 20, '.'), {8, 100, 64})) == "other/-1/");
  CHECK(describe(one(std::string("layers.3\0.key", 13), {8, 100, 64})) == "other/-1/");
  CHECK(describe(one("layers.3.k\xff", {8, 100, 64})) == "other/-1/");
  CHECK(describe(one("k_0", Shape(1000, 2))) == "other/-1/");
  CHECK(describe(one("kv_chunk", {1ull << 63, 2, 4, 8, 16})) == "other/-1/");
  // Arrays of a quantised cache in a list, and states in one, are five deep in mlx-lm 0.32.
  CHECK(numeric_path("1.2.3.4.5") == std::vector<std::uint32_t>{1, 2, 3, 4, 5});
  for (const char* bad : {"", "1", "1.", ".1", "1..2", "1.2.3.4.5.6", "1.x", "1.99999"})
    CHECK(numeric_path(bad).empty());
}

TEST_CASE("this project's own dumps") {
  Dump dump{.tensors = {},
            .attributes = {text_attribute("axes", "HTD"), text_attribute("n_layers", "8"),
                           text_attribute("n_heads", "4"), text_attribute("n_kv_heads", "2")}};
  for (int layer = 0; layer < 8; ++layer) {
    dump.tensors.push_back({fmt::format("layers.{}.key", layer), DType::f16, {2, 1024, 128}});
    dump.tensors.push_back({fmt::format("layers.{}.query", layer), DType::f16, {4, 1024, 128}});
    dump.tensors.push_back({fmt::format("layers.{}.value", layer), DType::f16, {2, 1024, 128}});
  }
  dump.tensors.push_back({"token_ids", DType::i32, {1024}});
  const Recognition result = recognise(dump);
  CHECK(result.recognised == 16);
  CHECK(describe(result.tensors[22]) == "query/7/HTD");
  CHECK(describe(result.tensors[23]) == "value/7/HTD");
  CHECK(result.tensors[23].why == "name like layers.N.key; axes stated by the file");
  CHECK(result.tensors[24].role == Role::other);
}

TEST_CASE("pairs and queries of many layers are recognised as those of few") {
  for (const char* name : {"kv", "query"}) {
    const auto last = [&](std::size_t layers) {
      Dump dump{.tensors = {}, .attributes = {text_attribute("num_key_value_heads", "3")}};
      for (std::size_t i = 0; i < layers; ++i)
        dump.tensors.push_back({fmt::format("layers.{}.{}", i, name), DType::f16, {2, 3, 160, 64}});
      return describe(recognise(dump).tensors.back());
    };
    const std::string few = last(2);
    CHECK_FALSE(few.starts_with("other"));
    CHECK(last(50000).substr(0, 5) == few.substr(0, 5));
  }
}
