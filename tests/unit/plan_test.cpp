// SPDX-License-Identifier: Apache-2.0
// The plan of a container: how tensors fall into groups and frames, and how elements go into tiles and back.
#include <doctest/doctest.h>

#include <cstring>
#include <numeric>

#include "formats/kvz/kvz_plan.hpp"
#include "kvzip/error.hpp"

namespace kvzip {
namespace {

struct Input {
  Dump dump;
  Recognition recognition;
};

Input input(std::vector<std::uint64_t> shape, Role role, std::string_view axes, DType type = DType::f16) {
  Input in;
  in.dump.tensors.push_back({"t", type, std::move(shape)});
  in.recognition.tensors.push_back({role, 0, Axes(axes), ""});
  in.recognition.model.layers = 1;
  return in;
}

Plan plan_of(const Input& in, std::string_view rules, std::optional<std::uint64_t> chunk = {}) {
  return make_plan(in.dump, in.recognition, RuleSet::parse(rules, "test"), chunk);
}

ErrorCode refusal(const Input& in, std::string_view rules, std::optional<std::uint64_t> chunk = {}) {
  try {
    plan_of(in, rules, chunk);
  } catch (const Error& e) {
    return e.code();
  }
  return ErrorCode::io;
}

/// One token after another, head-major: what tokens x channels means for axes L, H, T, D in any order.
Bytes numbered(std::size_t count) {
  std::vector<std::uint16_t> values(count);
  std::iota(values.begin(), values.end(), std::uint16_t{0});
  const auto bytes = std::as_bytes(std::span(values));
  return {bytes.begin(), bytes.end()};
}
std::uint16_t value_at(ByteView bytes, std::size_t i) {
  std::uint16_t v = 0;
  std::memcpy(&v, bytes.data() + 2 * i, 2);
  return v;
}

}  // namespace

TEST_CASE("each layer and batch is a group, each chunk of tokens a frame") {
  const Input in = input({2, 3, 2, 10, 4}, Role::key, "LBHTD");
  const Plan plan = plan_of(in, "key = planes,pack", 4);
  REQUIRE(plan.groups.size() == 6);
  CHECK(plan.frames == 18);
  CHECK(plan.groups[4].context.layer == 1);
  CHECK(plan.groups[4].context.heads == 2);
  CHECK(plan.groups[4].context.head_dim == 4);
  CHECK(plan.groups[4].context.total_tokens == 10);
  const Part part = plan.part(in.dump, 14);  // layer 1, batch 1, last chunk
  CHECK(part.slices[0].start == std::vector<std::uint64_t>{1, 1, 0, 8, 0});
  CHECK(part.slices[0].count == std::vector<std::uint64_t>{1, 1, 2, 2, 4});
  const TileShape shape = plan.shape(in.dump, plan.group(part), part.index);
  CHECK(shape.rows == 2);
  CHECK(shape.cols == 8);
  CHECK(shape.first_token == 8);
  for (std::uint64_t f = 0; f < plan.frames; ++f) {
    const PlanGroup& g = plan.groups.at(plan.group_of(f));
    CHECK(f >= g.first_frame);
    CHECK(f < g.first_frame + g.frames);
  }
}

TEST_CASE("the chunk comes from the option, then the rules, then the default") {
  const Input in = input({1, 1000, 4}, Role::key, "HTD");
  CHECK(plan_of(in, "key = planes,pack").frames == 4);
  CHECK(plan_of(in, "chunk = 100\nkey = planes,pack").frames == 10);
  CHECK(plan_of(in, "chunk = 100\nkey = planes,pack", 500).frames == 2);
  CHECK(plan_of(in, "chunk = 100\nkey = planes,pack", 0).frames == 1);
  CHECK(plan_of(in, "chunk = all\nkey = planes,pack").frames == 1);
}

TEST_CASE("tiles are tokens by channels, head by head, whatever the order in the file") {
  for (const std::string axes : {"HTD", "THD", "HDT", "DTH", "TDH"}) {
    CAPTURE(axes);
    std::vector<std::uint64_t> shape;
    for (const char a : axes) shape.push_back(a == 'H' ? 2 : a == 'T' ? 3 : 4);
    const Input in = input(shape, Role::key, axes);
    const Plan plan = plan_of(in, "key = planes,pack");
    Part part = plan.part(in.dump, 0);
    part.data.push_back(numbered(24));
    const Buffer<std::byte> tile = gather_tile(plan, in.dump, part);
    for (std::size_t t = 0; t < 3; ++t) {
      for (std::size_t h = 0; h < 2; ++h) {
        for (std::size_t d = 0; d < 4; ++d) {
          std::size_t from = 0;
          for (const char a : axes) from = from * (a == 'H' ? 2 : a == 'T' ? 3 : 4) + (a == 'H' ? h : a == 'T' ? t : d);
          CHECK(value_at(tile, t * 8 + h * 4 + d) == from);
        }
      }
    }
    Part back = plan.part(in.dump, 0);
    scatter_tile(plan, in.dump, tile, back);
    CHECK(back.data == part.data);
  }
}

TEST_CASE("pairs put keys left of values") {
  Input in = input({2, 3}, Role::value, "TC");
  in.dump.tensors.push_back({"k", DType::f16, {2, 2}});
  in.recognition.tensors.push_back({Role::key, 0, "TC", ""});
  const Plan plan = plan_of(in, "kv = planes,pack");
  REQUIRE(plan.groups.size() == 1);
  CHECK(plan.groups[0].slots[0].tensor == 1);
  CHECK(plan.groups[0].context.channels() == 5);
  Part part = plan.part(in.dump, 0);
  part.data = {numbered(4), numbered(6)};
  const Buffer<std::byte> tile = gather_tile(plan, in.dump, part);
  const std::uint16_t expected[] = {0, 1, 0, 1, 2, 2, 3, 3, 4, 5};
  for (std::size_t i = 0; i < 10; ++i) CHECK(value_at(tile, i) == expected[i]);
}

TEST_CASE("merged channels take their heads from the model where it knows them") {
  Input in = input({5, 24}, Role::key, "TC");
  CHECK(plan_of(in, "key = planes,pack").groups[0].context.heads == 1);
  in.recognition.model.kv_heads = 3;
  CHECK(plan_of(in, "key = planes,pack").groups[0].context.heads == 3);
  in.recognition.model.head_dim = 4;
  CHECK(plan_of(in, "key = planes,pack").groups[0].context.heads == 6);
  in.recognition.model.head_dim = 7;
  in.recognition.model.kv_heads = 5;
  CHECK(plan_of(in, "key = planes,pack").groups[0].context.heads == 1);
}

TEST_CASE("what has no rule, no role or no elements passes through") {
  for (const Input& in :
       {input({2, 5, 4}, Role::key, "HTD"), input({2, 5, 4}, Role::other, ""), input({2, 0, 4}, Role::value, "HTD")}) {
    const Plan plan = plan_of(in, "value = quant,pack");
    REQUIRE(plan.groups.size() == 1);
    CHECK_FALSE(plan.groups[0].tiled);
    CHECK(plan.pipelines[plan.groups[0].pipeline].exact());
  }
  // Part of a stack without a rule still needs a tile of its own.
  const Input stack = input({2, 3, 5, 4}, Role::pair, "2LTC");
  const Plan plan = plan_of(stack, "key[1] = quant,pack");
  CHECK(plan.groups.size() == 6);
}

TEST_CASE("pipelines that cannot take their tensors are refused before any data is read") {
  const Input keys = input({2, 5, 4}, Role::key, "HTD"), merged = input({5, 8}, Role::key, "TC");
  CHECK(refusal(keys, "key = rope:theta=10000:dims=6,quant,pack") == ErrorCode::invalid_argument);
  CHECK(refusal(keys, "key = delta,rope:theta=10000,quant,pack") == ErrorCode::invalid_argument);
  CHECK(refusal(keys, "key = rope,quant,pack") == ErrorCode::invalid_argument);
  CHECK(refusal(keys, "key = rope:theta=1,quant,pack") == ErrorCode::invalid_argument);
  CHECK(refusal(keys, "key = rope:theta=10000:factor=0.5,quant,pack") == ErrorCode::invalid_argument);
  CHECK(refusal(keys, "kv = quant,pack") == ErrorCode::invalid_argument);
  CHECK(refusal(merged, "key/head = quant,pack") == ErrorCode::invalid_argument);
  const Input large = input({1, std::uint64_t{1} << 28, 64}, Role::key, "HTD");
  CHECK(refusal(large, "key = planes,pack", 0) == ErrorCode::limit);
  CHECK(plan_of(large, "key = planes,pack").frames == std::uint64_t{1} << 20);
  const Input frames = input({1, std::uint64_t{1} << 40, 4}, Role::key, "HTD");
  CHECK(refusal(frames, "key = planes,pack", 1) == ErrorCode::limit);
  Input far = keys;
  far.recognition.model.rope.theta = 10000;
  far.recognition.model.rope.first_position = ~std::uint64_t{0} - 2;  // a position that wraps
  CHECK(refusal(far, "key = rope,quant,pack") == ErrorCode::limit);
}

}  // namespace kvzip
