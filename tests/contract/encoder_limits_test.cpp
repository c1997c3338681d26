// SPDX-License-Identifier: Apache-2.0
// Limits of what is written, each at its edge: plans, and what tables are made from.
#include <doctest/doctest.h>

#include <array>

#include "codec/limits.hpp"
#include "formats/kvz/kvz_fit.hpp"
#include "formats/kvz/kvz_plan.hpp"
#include "formats/kvz/kvz_repeats.hpp"
#include "kvzip/error.hpp"
#include "tests/contract/sample_dumps.hpp"

namespace kvzip::test {
namespace {

std::string message_of(auto&& action) {
  try {
    action();
  } catch (const Error& e) {
    return e.what();
  }
  return {};
}

Plan plan_of(const std::vector<std::uint64_t>& shape, std::string_view axes, std::string_view rules) {
  const Dump dump{.tensors = {{"k", DType::f16, shape}}, .attributes = {}};
  Recognition roles;
  roles.tensors = {{Role::key, {}, Axes(axes), "test"}};
  roles.model.layers = static_cast<std::uint32_t>(shape[0]);
  return make_plan(dump, roles, RuleSet::parse(rules, "test"), {});
}

/// The elements of a tensor become these four, again and again.
template <typename T>
void repeat(Bytes& data, const std::array<T, 4>& four) {
  for (std::size_t i = 0; i < data.size() / sizeof(T); ++i) {
    std::memcpy(data.data() + i * sizeof(T), &four[i % 4], sizeof(T));
  }
}

}  // namespace

TEST_CASE("encoder limits: layers side by side") {
  const auto rules = [](std::uint32_t layers) { return fmt::format("key/layers={} = planes,pack", layers); };
  const Plan plan = plan_of({limits::kJointLayers + 1, 1, 1, 1}, "LHTD", rules(limits::kJointLayers));
  REQUIRE(plan.groups.size() == 2);
  CHECK(plan.groups[0].slots.size() == limits::kJointLayers);
  CHECK(plan.groups[1].slots.size() == 1);
  const std::string said = message_of([&] { RuleSet::parse(rules(limits::kJointLayers + 1), "test"); });
  CHECK(said.find(fmt::format("has 1 to {} layers", limits::kJointLayers)) != std::string::npos);
}

TEST_CASE("encoder limits: tile groups of a plan") {
  CHECK(limits::room_for_groups(limits::kPlanGroups - 1, 1));
  CHECK_FALSE(limits::room_for_groups(limits::kPlanGroups, 1));
  CHECK(limits::room_for_groups(0, limits::kPlanGroups));
  CHECK_FALSE(limits::room_for_groups(0, limits::kPlanGroups + 1));
  CHECK_FALSE(limits::room_for_groups(limits::kPlanGroups + 1, 0));
  // A group for each head, which are counted before there are any.
  const std::string_view rules = "key/head = planes,pack";
  CHECK(plan_of({2, 8, 1, 1}, "LHTD", rules).groups.size() == 16);
  for (const std::uint64_t heads : {std::uint64_t{limits::kPlanGroups} + 1, std::uint64_t{0xffffffff}}) {
    const std::string said = message_of([&] { plan_of({1, heads, 1, 1}, "LHTD", rules); });
    CHECK(said == fmt::format("k: more than {} tile groups", limits::kPlanGroups));
  }
}

TEST_CASE("encoder limits: tokens of a table of repeats, by their list and by values") {
  const auto table = [](std::uint64_t tokens, bool listed) {
    std::vector<Spec> specs{{"v", DType::f16, {1, tokens, 1}, Role::value, 0, "HTD"}};
    if (listed) specs.push_back({"token_ids", DType::i32, {tokens}, Role::other, {}, ""});
    const auto reader = sample_reader(specs, Fill::zeros);
    if (listed) repeat<std::int32_t>(reader->data(1), {0, 1, 2, 3});
    if (!listed) repeat<std::uint16_t>(reader->data(0), {0x3c00, 0x3d00, 0x3e00, 0x3f00});
    return find_repeats(*reader, *reader->recognition(), 1).size();
  };
  for (const bool listed : {true, false}) {
    CAPTURE(listed);
    CHECK(table(limits::kRepeatsTokens, listed) == limits::kRepeatsTokens * sizeof(std::uint32_t));
    CHECK(table(limits::kRepeatsTokens + 1, listed) == 0);
  }
}

TEST_CASE("encoder limits: values that a table is fitted to") {
  const std::uint64_t rows = 1 << 14, channels = 4, parts = limits::kFitValues / (rows * channels);
  const auto reads = [&](std::uint64_t tokens, std::uint64_t chunk) {
    const auto reader = sample_reader({{"k", DType::f16, {1, tokens, channels}, Role::key, 0, "HTD"}}, Fill::zeros);
    const KvzOptions options = options_of("key = klt:basis=tensor,pack", chunk);
    CHECK(fit_tables(*reader, *reader->recognition(), options, 1).all().size() == 1);
    return reader->reads;
  };
  CHECK(reads(parts * rows, rows) == parts);
  CHECK(reads(parts * rows + 1, rows) == parts);  // of one more than that
  // Where a part alone has as many or more, it is one.
  CHECK(reads(parts * rows + 1, parts * rows) == 1);
  CHECK(reads(parts * rows + 2, parts * rows + 1) == 1);
}

}  // namespace kvzip::test
