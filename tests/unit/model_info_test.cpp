// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

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
