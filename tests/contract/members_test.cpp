// SPDX-License-Identifier: Apache-2.0
// Tiles of several tensors: keys and values of different widths, and several layers side by side.
#include <doctest/doctest.h>

#include <cmath>

#include "formats/kvz/kvz_plan.hpp"
#include "tests/contract/hostile_containers.hpp"

namespace kvzip::test {
namespace {

constexpr std::uint64_t kHeads = 2, kTokens = 21, kKeyDim = 6, kValueDim = 4;

/// Keys wider than values, as latent attention has them.
std::vector<Spec> mla_specs(std::uint32_t layers, DType type = DType::f16) {
  std::vector<Spec> specs;
  for (std::uint32_t l = 0; l < layers; ++l) {
    specs.push_back({fmt::format("v{}", l), type, {kHeads, kTokens, kValueDim}, Role::value, l, "HTD"});
    specs.push_back({fmt::format("k{}", l), type, {kHeads, kTokens, kKeyDim}, Role::key, l, "HTD"});
  }
  return specs;
}

std::unique_ptr<MemoryReader> mla_reader(std::uint32_t layers) {
  auto reader = sample_reader(mla_specs(layers));
  reader->stated->model.rope.state = Rope::State::post;
  reader->stated->model.rope.theta = 10000;
  return reader;
}

Plan plan_of(const MemoryReader& reader, std::string_view rules, std::optional<std::uint64_t> chunk = {}) {
  return make_plan(reader.dump(), *reader.recognition(), RuleSet::parse(rules, "test"), chunk);
}

std::vector<std::string> slot_names(const Plan& plan, const MemoryReader& reader, std::size_t group) {
  std::vector<std::string> names;
  for (const PlanSlot& slot : plan.groups.at(group).slots) names.push_back(reader.dump().tensors[slot.tensor].name);
  return names;
}

PreludeInfo prelude_of(const Bytes& container) {
  return check_prelude(load<Prelude>(container, 0));
}

std::vector<Bytes> through(MemoryReader& reader, std::string_view rules) {
  return decompressed(compressed(reader, options_of(rules, 8)));
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("a tile knows its members") {
  const auto reader = mla_reader(3);
  const Plan plan = plan_of(*reader, "kv/layers=2 = planes,pack");
  REQUIRE(plan.groups.size() == 2);
  CHECK(slot_names(plan, *reader, 0) == Names{"k0", "k1", "v0", "v1"});
  CHECK(slot_names(plan, *reader, 1) == Names{"k2", "v2"});
  const TileContext& context = plan.groups[0].context;
  CHECK(context.role == Role::pair);
  CHECK(context.channels() == 2 * kHeads * (kKeyDim + kValueDim));
  REQUIRE(context.members.size() == 4);
  const auto is = [](const TileMember& m, Role role, std::uint32_t layer, std::uint32_t first, std::uint32_t dim) {
    return m.role == role && m.layer == layer && m.first == first && m.heads == kHeads && m.head_dim == dim;
  };
  CHECK(is(context.members[0], Role::key, 0, 0, 6));
  CHECK(is(context.members[1], Role::key, 1, 12, 6));
  CHECK(is(context.members[2], Role::value, 0, 24, 4));
  CHECK(is(context.members[3], Role::value, 1, 32, 4));
  CHECK(context.head_edges() == std::vector<std::uint32_t>{0, 6, 12, 18, 24, 28, 32, 36, 40});
  REQUIRE(context.head_runs().size() == 2);
  CHECK(context.head_runs()[0].heads == 4);
  CHECK(context.head_runs()[1].first == 24);
  REQUIRE(context.head_runs(true).size() == 1);
  CHECK(context.head_runs(true)[0].end() == 24);
}

TEST_CASE("layers stand side by side as far as they are alike and follow each other") {
  const auto layers_of = [](const std::vector<Spec>& specs, std::string_view rules) {
    const auto reader = sample_reader(specs);
    std::vector<std::size_t> sizes;
    for (const PlanGroup& g : plan_of(*reader, rules).groups) sizes.push_back(g.slots.size());
    return sizes;
  };
  using Sizes = std::vector<std::size_t>;
  const auto key = [](std::uint32_t layer, DType type, std::uint64_t heads, std::uint64_t tokens, std::uint64_t dim) {
    return Spec{fmt::format("k{}", layer), type, {heads, tokens, dim}, Role::key, layer, "HTD"};
  };
  std::vector<Spec> same;
  for (std::uint32_t l = 0; l < 7; ++l) same.push_back(key(l, DType::f16, 2, 9, 4));
  CHECK(layers_of(same, "key/layers=3 = planes,pack") == Sizes{3, 3, 1});
  CHECK(layers_of(same, "key/layers=1024[*] = planes,pack") == Sizes{7});
  CHECK(layers_of(same, "key/layers=1 = planes,pack") == Sizes(7, 1));
  // Another rule takes some of them: groups are counted from the first layer of a run.
  CHECK(layers_of(same, "key[2] = planes,pack\nkey/layers=3 = planes,pack") == Sizes{2, 1, 3, 1});
  CHECK(layers_of(same, "key/layers=2[1-4] = planes,pack\nkey = planes,pack") == Sizes{1, 2, 2, 1, 1});
  for (const Spec& other : {key(3, DType::bf16, 2, 9, 4), key(3, DType::f16, 1, 9, 4), key(3, DType::f16, 2, 8, 4),
                            key(3, DType::f16, 2, 9, 6)}) {
    auto mixed = same;
    mixed[3] = other;
    CHECK(layers_of(mixed, "key/layers=16 = planes,pack") == Sizes{3, 1, 3});
  }
  auto gap = same;
  gap.erase(gap.begin() + 2);
  CHECK(layers_of(gap, "key/layers=16 = planes,pack") == Sizes{2, 4});
  // Layers of one stacked tensor, in each batch and role.
  const std::vector<Spec> stack{{"s", DType::f16, {2, 2, 5, 9, 8}, Role::pair, {}, "B2LTC"}};
  CHECK(layers_of(stack, "key/layers=4 = planes,pack\nvalue = planes,pack").size() == 2 * (2 + 5));
  CHECK(layers_of(stack, "kv/layers=4 = planes,pack") == Sizes{8, 2, 8, 2});
  CHECK_THROWS_AS(layers_of(same, "kv/layers=2 = planes,pack"), Error);
  auto twice = same;
  twice.push_back(key(2, DType::f16, 2, 9, 4));
  twice.back().name = "again";
  CHECK_THROWS_AS(layers_of(twice, "key/layers=2 = planes,pack"), Error);
}

TEST_CASE("errors belong to the role of the channels they are in, whatever the widths") {
  const auto reader = mla_reader(2);
  for (const std::string_view rules : {"kv = planes,pack", "kv/layers=2 = planes,pack"}) {
    const Plan plan = plan_of(*reader, rules);
    const PlanGroup& group = plan.groups[0];
    const TileShape shape = plan.shape(reader->dump(), group, 0);
    std::vector<float> a(std::size_t{shape.rows} * shape.cols, 2.0f), b = a;
    const std::size_t values_from = shape.cols * kKeyDim / (kKeyDim + kValueDim);
    for (std::size_t i = 0; i < b.size(); ++i) b[i] += i % shape.cols < values_from ? 0.5f : -0.25f;
    Bytes original(2 * a.size()), decoded(2 * a.size());
    from_float(DType::f16, a, original);
    from_float(DType::f16, b, decoded);
    const KeyValueErrors errors = tile_errors(group.context, shape, original, decoded);
    CHECK(errors[0].values() == std::uint64_t{shape.rows} * values_from);
    CHECK(errors[1].values() == std::uint64_t{shape.rows} * (shape.cols - values_from));
    CHECK(errors[0].rmse() == 0.5);
    CHECK(errors[1].rmse() == 0.25);
    CHECK(errors[0].nrmse() == 0.25);
  }
}

TEST_CASE("tiles of several members come back") {
  const auto reader = mla_reader(3);
  for (const char* scope : {"kv", "kv/layers=2", "kv/layers=3"}) {
    for (const char* pipeline : {"planes,ac", "planes:split=none,rans", "planes,ac:model=static:per=head"}) {
      const auto rules = fmt::format("{} = {}", scope, pipeline);
      CAPTURE(rules);
      CHECK(through(*reader, rules) == originals(*reader));
      CHECK(decompressed_stream(compressed(*reader, options_of(rules, 8), 3)) == originals(*reader));
    }
  }
}

TEST_CASE("what works head by head gives each member what it would get alone") {
  const auto reader = mla_reader(3);
  const std::string_view rope = "rope:dims=4,";
  for (const std::string pipeline :
       {"quant:bits=4:axis=token-head,pack", "quant:bits=2:axis=token-head:group=4,ac", "quant:bits=4:axis=head,rans",
        "quant:bits=4:axis=channel,ac:model=static:per=head", "rotate,codebook:bits=3:scale=f32,rans",
        "codebook:bits=2:scale=f32,ac"}) {
    CAPTURE(pipeline);
    const auto alone = through(*reader, fmt::format("key = {0}\nvalue = {0}", pipeline));
    for (const char* scope : {"kv", "kv/layers=2"}) {
      CHECK(through(*reader, fmt::format("{} = {}", scope, pipeline)) == alone);
    }
    CHECK(through(*reader, fmt::format("key/layers=2 = {0}\nvalue/layers=3 = {0}", pipeline)) == alone);
    // Only keys turn.
    const auto turned = through(*reader, fmt::format("key = {0}{1}\nvalue = {1}", rope, pipeline));
    CHECK(turned != alone);
    CHECK(through(*reader, fmt::format("kv/layers=2 = {}{}", rope, pipeline)) == turned);
  }
  // Full rank reaches what half precision of the factors leaves.
  const auto low = through(*reader, "kv/layers=2 = lowrank:rank=8:loops=8,pack");
  for (std::size_t i = 0; i < low.size(); ++i) {
    std::vector<float> a(low[i].size() / 2), b(a.size());
    to_float(DType::f16, reader->data(i), a);
    to_float(DType::f16, low[i], b);
    Distortion d;
    d.add(a, b, a.size());
    CHECK(d.nrmse() < 0.01);
  }
  CHECK_THROWS_AS(through(*reader, "kv = klt:per=head,pack"), Error);
  CHECK_THROWS_AS(through(*reader, "value/layers=2 = rope,quant,pack\nkey = planes,pack"), Error);
}

TEST_CASE("a file says that it needs a later reader only where it does") {
  const auto wide = mla_reader(2), equal = sample_reader(sample_specs(2, 9));
  equal->stated->model.rope.state = Rope::State::post;
  equal->stated->model.rope.theta = 10000;
  const auto needs = [](MemoryReader& reader, std::string_view rules) {
    const PreludeInfo info = prelude_of(compressed(reader, options_of(rules)));
    return std::pair(info.minor, info.features);
  };
  const std::pair<unsigned, std::uint32_t> first{0, 0}, members{1, kMembersFeature};
  CHECK(needs(*equal, "kv = quant,pack") == first);
  CHECK(needs(*equal, "key/layers=2 = rope,quant,pack\nvalue = quant,pack") == first);
  CHECK(needs(*equal, "kv/layers=2 = quant,pack") == first);
  CHECK(needs(*equal, "kv = rope,quant,pack") == members);
  CHECK(needs(*wide, "key/layers=2 = quant,pack\nvalue/layers=2 = quant,pack") == first);
  CHECK(needs(*wide, "kv = quant,pack") == members);
}

TEST_CASE("a pair that 0.1 wrote as one wide head is still one, and its errors are told apart") {
  const auto reader = mla_reader(1);
  Plan plan = plan_of(*reader, "kv = quant:axis=token-head,pack");
  plan.groups[0].context.heads = 1;
  plan.groups[0].context.head_dim = kHeads * (kKeyDim + kValueDim);
  finish_plan(plan, reader->dump(), *reader->recognition());
  const TileContext& context = plan.groups[0].context;
  CHECK(plan.needs().features == 0);
  CHECK(context.head_edges() == std::vector<std::uint32_t>{0, 20});
  REQUIRE(context.members.size() == 2);
  CHECK(context.members[0].end() == kHeads * kKeyDim);
  CHECK(context.members[1].end() == 20);
}

TEST_CASE("members of a file are told in its description") {
  const auto reader = mla_reader(3);
  const MemoryFile file(compressed(*reader, options_of("kv/layers=2 = quant,pack", 8)));
  const KvzSummary summary = open_kvz(file.path())->summary();
  CHECK(summary.minor == 1);
  REQUIRE(summary.groups.size() == 2);
  REQUIRE(summary.groups[0].members.size() == 4);
  CHECK(summary.groups[0].values == 2 * kHeads * kTokens * (kKeyDim + kValueDim));
  CHECK(summary.groups[0].members[1].role == Role::key);
  CHECK(summary.groups[0].members[1].layer == 1);
  CHECK(summary.groups[0].members[1].values == kHeads * kTokens * kKeyDim);
  CHECK(summary.groups[0].members[2].role == Role::value);
  CHECK(summary.groups[1].layer == 2);
}

TEST_CASE("a part is read from the frames that hold it") {
  const auto reader = mla_reader(4);
  Bytes container = compressed(*reader, options_of("kv/layers=2 = planes,pack", 8));  // 2 groups of 3 frames
  auto records = take_apart(container);
  for (std::size_t i = 1; i <= 6; ++i) {
    if (i != 5) std::fill(records[i].payload.begin(), records[i].payload.end(), std::byte{7});
  }
  for (RawRecord& r : records) {
    if (r.type == record_type(RecordType::index) || r.type == record_type(RecordType::end)) r = {r.type, 0, {}, {}};
  }
  const MemoryFile file(put_together(records, 1, kMembersFeature));
  const auto opened = open_kvz(file.path());
  for (const std::size_t tensor : {4u, 5u, 6u, 7u}) {  // v2, k2, v3, k3
    const std::uint64_t dim = reader->dump().tensors[tensor].shape[2];
    const Slice slice{tensor, {1, 9, 0}, {1, 7, dim}};  // of one head, tokens of the second chunk
    Bytes wanted(7 * dim * 2), found(wanted.size());
    reader->read(slice, wanted);
    opened->read(slice, found);
    CHECK(found == wanted);
    CHECK_THROWS_AS(opened->read({tensor, {1, 7, 0}, {1, 2, dim}}, std::span(found).first(2 * dim * 2)), Error);
  }
}

TEST_CASE("headers that contradict themselves about heads of slots are refused") {
  const auto reader = mla_reader(1);
  auto records = take_apart(compressed(*reader, options_of("kv = quant:axis=token-head,pack", 8)));
  const Json header = Json::parse(header_text(records[0]));
  CHECK_FALSE(header["groups"][0].contains("heads"));
  CHECK(header["groups"][0]["slots"][1]["head_dim"] == kValueDim);
  for (RawRecord& r : records) {
    if (r.type == record_type(RecordType::index) || r.type == record_type(RecordType::end)) r = {r.type, 0, {}, {}};
  }
  const auto edited = [&](const std::function<void(Json&)>& edit, std::uint32_t features = kMembersFeature) {
    Json changed = header;
    edit(changed["groups"][0]);
    records[0] = header_record(changed.dump());
    return put_together(records, 1, features);
  };
  CHECK_FALSE(by_index(edited([](Json&) {})).code);
  CHECK_FALSE(as_stream(edited([](Json&) {})).code);
  check_refused(edited([](Json&) {}, 0), ErrorCode::corrupt, "heads");
  const std::vector<std::function<void(Json&)>> edits{
      [](Json& g) { g["slots"][0].erase("heads"); },
      [](Json& g) { g["slots"][1].erase("head_dim"); },
      [](Json& g) { g["slots"][1]["heads"] = 0; },
      [](Json& g) { g["slots"][1]["heads"] = -1; },
      [](Json& g) { g["slots"][1]["heads"] = 4294967296u; },
      [](Json& g) { g["slots"][1]["heads"] = 4294967295u; },
      [](Json& g) { g["slots"][0]["head_dim"] = 4294967295u; },
      [](Json& g) { g["slots"][0]["head_dim"] = 4; },
      [](Json& g) { std::swap(g["slots"][0]["head_dim"], g["slots"][1]["head_dim"]); },
      [](Json& g) { g["heads"] = 2, g["head_dim"] = 4; },
      [](Json& g) { g["slots"].erase(1); },
  };
  for (std::size_t i = 0; i < edits.size(); ++i) {
    CAPTURE(i);
    check_refused(edited(edits[i]), ErrorCode::corrupt);
  }
  check_refused(edited([](Json& g) {
                  for (int i = 0; i < 5000; ++i) g["slots"].push_back(g["slots"][0]);
                }),
                ErrorCode::limit, "tensors in one tile");
  // One wide head, as 0.1 wrote it, is another reading of the same bytes, and no smaller one.
  check_refused(edited([](Json& g) { g["heads"] = 1, g["head_dim"] = 20; }), ErrorCode::corrupt);
}

}  // namespace kvzip::test
