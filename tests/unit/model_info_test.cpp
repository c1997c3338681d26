// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "formats/model_info.hpp"
#include "kvzip/layout.hpp"
#include "tests/support/memory_dump.hpp"

using namespace kvzip;
using test::text_attribute;

TEST_CASE("model information") {
  Dump dump{.tensors = {{"layers.7.key", DType::f16, {2, 100, 64}}}, .attributes = {}};
  const char* texts[][2] = {{"model", "m"},
                            {"n_layers", "8"},
                            {"n_kv_heads", "2"},
                            {"head_dim", "64"},
                            {"rope", "post"},
                            {"rope_theta", "500000.0"},
                            {"rope_layout", "interleaved"},
                            {"rope_dims", "32"},
                            {"first_position", "17"},
                            {"rope_scaling_type", "llama3"},
                            {"rope_scaling_factor", "8"},
                            {"rope_low_freq_factor", "1.5"},
                            {"rope_high_freq_factor", "4.5"},
                            {"rope_original_context", "4096"}};
  for (const auto& [name, value] : texts) dump.attributes.push_back(text_attribute(name, value));
  const ModelInfo model = recognise(dump).model;
  CHECK(model.model == "m");
  CHECK(model.layers == 8);
  CHECK(model.kv_heads == 2);
  CHECK(model.head_dim == 64);
  CHECK(model.rope.state == Rope::State::post);
  CHECK(model.rope.theta == 500000);
  CHECK(model.rope.layout == Rope::Layout::interleaved);
  CHECK(model.rope.scaling == Rope::Scaling::llama3);
  CHECK(model.rope.factor == 8);
  CHECK(model.rope.low_freq_factor == 1.5);
  CHECK(model.rope.high_freq_factor == 4.5);
  CHECK(model.rope.original_context == 4096);
  CHECK(model.rope.dims == 32);
  CHECK(model.rope.first_position == 17);
}

namespace {

ModelInfo model_with(const std::vector<std::pair<std::string, std::string>>& attributes) {
  Dump dump{.tensors = {{"layers.11.key", DType::f16, {2, 100, 64}}}, .attributes = {}};
  dump.attributes.push_back(text_attribute("rope", "post"));
  dump.attributes.push_back(text_attribute("rope_theta", "1e6"));
  dump.attributes.push_back(text_attribute("rope_scaling_type", "linear"));
  dump.attributes.push_back(text_attribute("rope_scaling_factor", "8"));
  dump.attributes.push_back(text_attribute("first_position", "5"));
  for (const auto& [name, value] : attributes) dump.attributes.push_back(text_attribute(name, value));
  return recognise(dump).model;
}

}  // namespace

TEST_CASE("layers with attention of their own") {
  // Gemma: five of six layers turn by another theta, without scaling, and attend to a window.
  const std::vector<std::vector<std::pair<std::string, std::string>>> gemma{
      {{"rope_theta_local", "10000"}, {"local_layers", "0,1,2,3,4,6,7,8,9,10"}, {"sliding_window", "512"}},
      {{"rope_local_base_freq", "10000"}, {"local_layers", "0-4, 6-10"}, {"sliding_window", "512"}},
      {{"rope_local_base_freq", "10000"}, {"sliding_window_pattern", "6"}, {"sliding_window", "512"}},
      {{"rope_local_base_freq", "10000"},
       {"sliding_window", "512"},
       {"layer_types",
        "[\"sliding_attention\", \"sliding_attention\", \"sliding_attention\", \"sliding_attention\", "
        "\"sliding_attention\", \"full_attention\", \"sliding_attention\", \"sliding_attention\", "
        "\"sliding_attention\", \"sliding_attention\", \"sliding_attention\", \"full_attention\"]"}}};
  for (const auto& attributes : gemma) {
    const ModelInfo model = model_with(attributes);
    CHECK(model.window == 0);
    CHECK(model.own.size() == 10);
    for (const std::uint32_t layer : {0u, 4u, 6u, 10u}) {
      const LayerAttention local = model.attention(layer);
      CHECK(local.window == 512);
      CHECK(local.rope.theta == 10000);
      CHECK(local.rope.scaling == Rope::Scaling::none);
      CHECK(local.rope.first_position == 5);
    }
    for (const std::uint32_t layer : {5u, 11u}) CHECK(model.attention(layer) == LayerAttention{model.rope, 0});
  }
  // One window for all; none where it is not used.
  CHECK(model_with({{"sliding_window", "4096"}}).attention(3).window == 4096);
  CHECK(model_with({{"sliding_window", "4096"}, {"use_sliding_window", "false"}}).attention(3).window == 0);
  // Layers whose keys are not rotated: a number for each, or by name.
  const ModelInfo plain = model_with({{"no_rope_layers", "[1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 0]"}});
  CHECK(plain.own.size() == 3);
  CHECK(plain.attention(7).rope.state == Rope::State::none);
  CHECK(plain.attention(6).rope.state == Rope::State::post);
  // Anything, for any layers.
  const ModelInfo named = model_with({{"rope_theta[2-3,9]", "5000"},
                                      {"rope_dims[9]", "32"},
                                      {"sliding_window[0]", "77"},
                                      {"rope[1]", "none"},
                                      {"rope_scaling_type[3]", "none"}});
  CHECK(named.own.size() == 5);
  CHECK(named.attention(2).rope.theta == 5000);
  CHECK(named.attention(2).rope.scaling == Rope::Scaling::linear);
  CHECK(named.attention(3).rope.scaling == Rope::Scaling::none);
  CHECK(named.attention(9).rope.dims == 32);
  CHECK(named.attention(0).window == 77);
  CHECK(named.attention(0).rope.theta == 1e6);
  CHECK(named.attention(1).rope.state == Rope::State::none);
  CHECK(named.attention(4) == LayerAttention{named.rope, 0});
  // A file cannot ask for much: 4096 layers in all lists together.
  CHECK(model_with({{"rope_theta[0-4095]", "5"}}).own.size() == 4096);
  CHECK(model_with({{"rope_theta[0-4095]", "5"}, {"rope_dims[5000]", "8"}}).own.size() == 4096);
  CHECK(model_with({{"rope_theta[0-4096]", "5"}}).own.empty());
  CHECK(model_with({{"local_layers", std::string(1u << 16, '1') + ","}, {"sliding_window", "9"}}).own.empty());
  // Nonsense says nothing.
  CHECK(model_with({{"rope_theta[x]", "5"}, {"rope_theta[3-1]", "5"}, {"rope_theta[0-99999999]", "5"}, {"[", "1"}})
            .own.empty());
  CHECK(model_with({{"local_layers", "first"}, {"sliding_window", "9"}, {"rope_theta_local", "-1"}}).own.empty());
}

TEST_CASE("metadata that the user gives is checked by what its name can have") {
  const std::pair<const char*, const char*> good[] = {{"axes", "BHTD"},
                                                      {"rope", "pre"},
                                                      {"rope_theta", "1e6"},
                                                      {"rope_theta[0-4,6]", "10000"},
                                                      {"rope[5]", "none"},
                                                      {"rope_scaling_type", "none"},
                                                      {"first_position", "0"},
                                                      {"sliding_window", "0"},
                                                      {"n_layers", "30"},
                                                      {"rope", ""},
                                                      {"model", "any"},
                                                      {"mine", "-1"},
                                                      {"sliding_window", "-1"},
                                                      {"n_layers", "null"},
                                                      {"use_sliding_window", "True"},
                                                      {"rope_scaling_type", "longrope"}};
  for (const auto& one : good) {
    CAPTURE(one.first);
    CHECK(metadata_problem(one.first, one.second).empty());
  }
  const std::pair<const char*, const char*> bad[] = {{"axes", "XYZ"},
                                                     {"rope", "sideways"},
                                                     {"rope[5]", "yes"},
                                                     {"rope_layout", "Half"},
                                                     {"rope_theta", "-1"},
                                                     {"rope_theta", "0"},
                                                     {"rope_theta", "nan"},
                                                     {"rope_theta[0-4]", "x"},
                                                     {"rope_original_context", "-8"},
                                                     {"rope_local_base_freq", "none"},
                                                     {"n_layers", "0"},
                                                     {"num_key_value_heads", "-3"},
                                                     {"head_dim", "0x40"},
                                                     {"rope_dims", "1.5"},
                                                     {"first_position", "18446744073709551615"},
                                                     {"first_position", "-1"}};
  for (const auto& one : bad) {
    CAPTURE(one.first);
    CAPTURE(one.second);
    CHECK_FALSE(metadata_problem(one.first, one.second).empty());
  }
}

TEST_CASE("senseless metadata counts as absent") {
  const Dump dump{.tensors = {{"layers.7.key", DType::f16, {2, 100, 64}}},
                  .attributes = {text_attribute("n_layers", "99999999999999999999"), text_attribute("n_kv_heads", "-3"),
                                 text_attribute("head_dim", "0x40"), text_attribute("rope_theta", "nan"),
                                 text_attribute("rope_scaling_factor", "-1"), text_attribute("rope", "sideways"),
                                 text_attribute("first_position", "18446744073709551615")}};
  const Recognition result = recognise(dump);
  CHECK(result.recognised == 1);
  CHECK(result.model.layers == 8);
  CHECK(result.model.kv_heads == 0);
  CHECK(result.model.head_dim == 0);
  CHECK(result.model.rope.theta == 0);
  CHECK(result.model.rope.factor == 1);
  CHECK(result.model.rope.state == Rope::State::unknown);
  CHECK(result.model.rope.first_position == 0);
}
