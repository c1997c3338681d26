// SPDX-License-Identifier: Apache-2.0
// Limits of what MLX prompt caches say of themselves, each at its edge: what says more is taken as it is.
#include <doctest/doctest.h>

#include "codec/limits.hpp"
#include "formats/mlx_plan.hpp"
#include "formats/mlx_rows.hpp"
#include "tests/support/made_reader.hpp"
#include "tests/unit/mlx_quantised_cache.hpp"

namespace kvzip::test {
namespace {

using Texts = std::vector<std::pair<std::string, std::string>>;

/// Keys and values of eight rows of one cache, what is said of it, and counts.
struct Counted {
  Counted(const Texts& texts, std::vector<TensorInfo> arrays, std::vector<std::int64_t> numbers)
      : numbers_(std::move(numbers)) {
    for (const auto& [name, value] : texts) dump_.attributes.push_back(text_attribute(name, value));
    for (const char* name : {"0.0", "0.1"}) dump_.tensors.push_back({name, DType::f16, {1, 1, 8, 4}});
    for (TensorInfo& array : arrays) dump_.tensors.push_back(std::move(array));
  }
  /// All elements of an array are its number.
  MlxRows rows() const {
    MadeReader reader(dump_, [&](const Slice& slice, std::span<std::byte> out) {
      if (slice.tensor < 2) return;
      const std::int64_t number = numbers_[slice.tensor - 2];
      const std::size_t unit = dtype_unit(dump_.tensors[slice.tensor].dtype);
      for (std::size_t at = 0; at < out.size(); at += unit) std::memcpy(out.data() + at, &number, unit);
    });
    const std::vector<MlxRows> all = mlx_rows(reader);
    REQUIRE(all.size() == 1);
    return all[0];
  }

 private:
  Dump dump_;
  std::vector<std::int64_t> numbers_;
};

/// Without scalars, as mlx-lm 0.30 saves it; nothing is read to plan it.
MlxPlan planned(const QuantisedCache& cache) {
  MadeReader reader(cache.dump);
  return plan_mlx(reader);
}

}  // namespace

TEST_CASE("MLX limits: texts of a part") {
  // Four at most have a meaning; that there are as many as are looked at says that there are too many.
  const auto with_texts = [](unsigned count) {
    QuantisedCache cache(false);
    cache.text("0.0.0", count > 3 ? "256" : "3");
    for (unsigned k = 1; k < count; ++k) {
      const std::string name = fmt::format("0.0.{}", k), value = k + 1 == count ? "4" : k + 2 == count ? "32" : "3";
      std::erase_if(cache.dump.attributes, [&](const Attribute& a) { return a.name == name; });
      cache.dump.attributes.push_back(text_attribute(name, value));
    }
    return planned(cache);
  };
  CHECK(with_texts(3).values.size() == 2);
  CHECK(with_texts(limits::kMlxTexts - 1).values.size() == 2);
  for (const unsigned count : {limits::kMlxTexts, limits::kMlxTexts + 1}) {
    CHECK(with_texts(count).values.empty());
    CHECK(with_texts(count).kept.begin()->first == "what they say of their groups and bits is not there or not known");
  }
  // Of a cache that is decoded, texts behind a gap go with those before it, as far as they are looked at.
  const auto stays = [](unsigned place) {
    QuantisedCache cache(false);
    const std::string name = fmt::format("0.0.{}", place);
    cache.dump.attributes.push_back(text_attribute(name, "far"));
    const auto reader = mlx_values(cache.reader());
    REQUIRE(stored_blocks(*reader) != nullptr);
    return !reader->dump().text(name).empty();
  };
  CHECK_FALSE(stays(limits::kMlxTexts - 1));
  CHECK(stays(limits::kMlxTexts));
}

TEST_CASE("MLX limits: letters of a class's name") {
  const auto spelt = [](std::uint64_t letters) {
    MadeReader reader({.tensors = {{"0.0.1", DType::i32, {letters}}}, .attributes = {}},
                      [](const Slice&, std::span<std::byte> out) {
                        constexpr std::int32_t kLetter = 'K';
                        for (std::size_t at = 0; at < out.size(); at += 4) std::memcpy(out.data() + at, &kLetter, 4);
                      });
    return stated_class(reader, 0);
  };
  CHECK(spelt(limits::kMlxLetters) == std::string(limits::kMlxLetters, 'K'));
  CHECK(spelt(limits::kMlxLetters + 1).empty());
}

TEST_CASE("MLX limits: entries of a list") {
  const auto batch = [](std::uint64_t entries) {
    return Counted({{"1.0", "BatchKVCache"}, {"2.0", ""}},
                   {{"0.2", DType::i32, {entries}}, {"0.3", DType::i32, {1}}, {"0.4", DType::i32, {}}}, {6, 0, 7})
        .rows();
  };
  const MlxRows told = batch(limits::kMlxEntries), open = batch(limits::kMlxEntries + 1);
  CHECK(told.whole.empty());
  CHECK(told.used == 7);
  REQUIRE(told.counts.size() == 2);
  CHECK(told.counts[0].values == std::vector<std::int64_t>(limits::kMlxEntries, 6));
  CHECK(open.whole == "its entries begin at different rows");
  CHECK_FALSE(open.first);
  CHECK(open.counts.empty());
}

TEST_CASE("MLX limits: words of an array of codes") {
  const auto with_rows = [](std::uint64_t rows) {
    QuantisedCache cache(false, 2);
    for (TensorInfo& info : cache.dump.tensors) {
      if (!info.name.starts_with("0.")) continue;
      info.shape = {1, 1, rows, info.dtype == DType::u32 ? 2u : 1u};  // a group of 32 codes
    }
    return planned(cache);
  };
  static_assert(limits::kMlxWords % 2 == 0);
  CHECK(with_rows(limits::kMlxWords / 2).values.size() == 2);
  const MlxPlan beyond = with_rows(limits::kMlxWords / 2 + 1);
  CHECK(beyond.values.empty());
  CHECK(beyond.kept.begin()->first == "their arrays do not fit each other");
}

TEST_CASE("MLX limits: positions that a count can be") {
  const auto scalar = [](std::int64_t number) {
    return Counted({{"1.0", "KVCache"}, {"2.0", ""}}, {{"0.2", DType::i64, {}}}, {number}).rows().counts;
  };
  REQUIRE(scalar(limits::kMlxPosition).size() == 1);
  CHECK(scalar(limits::kMlxPosition)[0].values == std::vector<std::int64_t>{limits::kMlxPosition});
  CHECK(scalar(limits::kMlxPosition + 1).empty());
  const auto text = [](std::int64_t number) {
    return Counted({{"2.0", "ChunkedKVCache"}, {"0.0.0", "8"}, {"0.0.1", std::to_string(number)}}, {}, {}).rows().first;
  };
  CHECK(text(limits::kMlxPosition) == static_cast<std::uint64_t>(limits::kMlxPosition));
  CHECK_FALSE(text(limits::kMlxPosition + 1));
}

}  // namespace kvzip::test
