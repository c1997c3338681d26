// SPDX-License-Identifier: Apache-2.0
// Where the tokens of a pruned cache stand, and what measures of attention make of it.
#include "formats/token_positions.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "src/measure/fidelity.hpp"
#include "src/prune/pruned_reader.hpp"
#include "tests/support/cache_layouts.hpp"
#include "tests/support/direct_attention.hpp"
#include "tests/unit/scratch_directory.hpp"

using namespace kvzip;
using namespace kvzip::test;
using namespace kvzip::tool;

namespace {

/// Every third token or so, another list for each layer and head.
Kept every_third(KeepBy by) {
  Kept kept{by, 40, {}};
  for (const std::uint64_t b : {0u, 1u}) {
    for (std::uint64_t l = 0; l < (by == KeepBy::sequence ? 1 : kLayers); ++l) {
      for (std::uint64_t h = 0; h < (by == KeepBy::head ? kHeads : 1); ++h) {
        for (std::uint64_t t = 0; t < 40; ++t) kept.lists[{b, l, h}].push_back(3 * t + b + 2 * l + 4 * h + t / 20);
      }
    }
  }
  return kept;
}

/// The rows of a head that stay; attention takes those from `split` on from the original.
DirectHead pruned_head(const Sides& s, std::size_t l, std::size_t b, std::size_t h,
                       const std::vector<std::uint64_t>& stay, std::size_t split) {
  const std::vector<float> key = s.key.head(l, b, h), value = s.value.head(l, b, h);
  const std::vector<float> decoded_key = s.decoded_key.head(l, b, h), decoded_value = s.decoded_value.head(l, b, h);
  DirectHead out;
  out.dim = out.value_dim = kDim;
  out.token_positions = stay;
  const auto take = [&](const std::vector<float>& from, std::vector<float>& to, std::size_t row) {
    const auto begin = from.begin() + static_cast<std::ptrdiff_t>(stay[row] * kDim);
    to.insert(to.end(), begin, begin + static_cast<std::ptrdiff_t>(kDim));
  };
  for (std::size_t row = 0; row < stay.size(); ++row) {
    take(key, out.keys, row);
    take(value, out.values, row);
    take(row < split ? decoded_key : key, out.decoded_keys, row);
    take(row < split ? decoded_value : value, out.decoded_values, row);
  }
  return out;
}

}  // namespace

TEST_CASE("fidelity: queries see what is left of a cache by the positions it had") {
  const Sides s;
  const Made original = separate("BHTD")(s.key, s.value, nullptr), asks = separate("BHTD")(s.key, s.value, &s.query);
  const Made decoded = separate("BHTD")(s.decoded_key, s.decoded_value, nullptr);
  MemoryReader a = original.reader(), b = decoded.reader(), asking = asks.reader();
  const ScratchDirectory scratch;
  const auto writer = create_writer(scratch.file("q.safetensors"), "safetensors", asks.dump, false);
  transcode(asking, *writer, 1);
  writer->finish();
  FidelityOptions options;
  options.queries_per_head = 0;
  options.proxies = false;
  options.queries = scratch.file("q.safetensors");
  options.recognise = {{parse_map_rule("q{L}=query:BHTD"), parse_map_rule("*=other")}, ""};
  const std::size_t split = 30;
  options.split = split;
  for (const KeepBy by : {KeepBy::sequence, KeepBy::layer, KeepBy::head}) {
    CAPTURE(static_cast<int>(by));
    const Kept kept = every_third(by);
    PrunedReader left(a, original.recognition, kept), right(b, decoded.recognition, kept);
    const Fidelity got = FidelityMeter(left, original.recognition, options).measure(right);
    // The first position behind the decoded rows of every list.
    std::size_t first = 0;
    for (const auto& list : kept.lists) first = std::max<std::size_t>(first, list.second[split - 1] + 1);
    CHECK(got.queries == kTokens - first);
    std::vector<std::uint64_t> positions;
    for (std::size_t t = first; t < kTokens; ++t) positions.push_back(t);
    for (const LayerFidelity& layer : got.layers) {
      for (std::size_t h = 0; h < kHeads; ++h) {
        const DirectHead head =
            pruned_head(s, layer.layer, layer.batch, h, kept.of(layer.batch, layer.layer, h), split);
        AttentionError want;
        for (std::size_t j = h * kGroup; j < (h + 1) * kGroup; ++j) {
          const std::vector<float> q = s.query.head(layer.layer, layer.batch, j);
          want.merge(direct(head, std::span(q).subspan(first * kDim), positions));
        }
        REQUIRE(layer.heads[h].attention);
        const AttentionError& error = *layer.heads[h].attention;
        CHECK(error.queries == want.queries);
        CHECK(error.logits_nrmse() == doctest::Approx(want.logits_nrmse()).epsilon(1e-5));
        CHECK(error.kl() == doctest::Approx(want.kl()).epsilon(1e-5));
        CHECK(error.output_nrmse() == doctest::Approx(want.output_nrmse()).epsilon(1e-5));
      }
    }
  }
}

TEST_CASE("positions: a tensor that cannot be of tokens is refused or taken for something else") {
  const Sides s;
  const Made made = separate("HTD")(s.key, s.value, nullptr);
  Dump dump = made.dump;
  dump.tensors.push_back({"positions", DType::i64, {kTokens}});
  MemoryReader reader(dump);
  Recognition recognition = made.recognition;
  recognition.tensors.push_back({Role::other, {}, Axes(), ""});
  const HeadMap heads = find_heads(dump, recognition, 0);
  Bytes& numbers = reader.data(dump.tensors.size() - 1);
  std::fill(numbers.begin(), numbers.end(), std::byte{0});
  using Odd = TokenPositions::Odd;
  CHECK_THROWS_AS(TokenPositions(reader, heads, 5, Odd::refuse), Error);  // all are 0
  const TokenPositions rows(reader, heads, 5, Odd::ignore);
  CHECK_FALSE(rows.stored());
  CHECK(rows.of({1, 0}, 1, 7, 3)[0] == 12);
  CHECK(rows.behind(kTokens) == 5 + kTokens);
  for (std::size_t t = 0; t < kTokens; ++t) {
    const auto token = static_cast<std::uint64_t>(t + t / 100);
    std::memcpy(numbers.data() + t * 8, &token, 8);
  }
  const TokenPositions stored(reader, heads, 5, Odd::ignore);
  CHECK(stored.stored());
  CHECK(stored.of({1, 0}, 1, 100, 3)[0] == 5 + 101);
  CHECK(stored.behind(100) == 5 + 100);
  CHECK(stored.behind(101) == 5 + 102);
  CHECK(stored.behind(0) == 5);
}

TEST_CASE(
    "positions: layers that hold the last tokens only begin later; the list of another number of tokens is refused") {
  const Sides s;
  Made made = separate("HTD")(s.key, s.value, nullptr);
  MemoryReader reader = made.reader();
  const HeadMap heads = find_heads(reader.dump(), made.recognition, 0);
  std::vector<std::uint64_t> starts(reader.dump().tensors.size());
  starts[heads.at({1, 0}).keys[0].tensor] = 7;
  const TokenPositions later(reader, heads, 100, TokenPositions::Odd::refuse, starts);
  CHECK(later.of({0, 0}, 0, 2, 3) == std::vector<std::uint64_t>{102, 103, 104});
  CHECK(later.of({1, 0}, 0, 2, 3) == std::vector<std::uint64_t>{109, 110, 111});

  made.dump.tensors.push_back({kPositionsName, DType::i64, {3}});
  made.recognition.tensors.emplace_back();
  MemoryReader part(made.dump);
  CHECK_THROWS_AS(TokenPositions(part, heads, 0, TokenPositions::Odd::refuse), Error);
  CHECK_FALSE(TokenPositions(part, heads, 0, TokenPositions::Odd::ignore).stored());
}
