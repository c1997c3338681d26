// SPDX-License-Identifier: Apache-2.0
// Counts of MLX prompt caches as mlx_lm/models/cache.py keeps them (0.32, and
// 0.31 where it says so), worked out here.
#include "formats/mlx_rows.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <tuple>

#include "formats/row_places.hpp"
#include "formats/selection.hpp"
#include "formats/token_windows.hpp"
#include "tests/support/memory_dump.hpp"

namespace kvzip::test {
namespace {

using Numbers = std::vector<std::int32_t>;

/// Arrays of counts with what they hold; keys and values are [1, 2, rows, 4].
class PromptCache {
 public:
  PromptCache() { dump_.attributes = {text_attribute("0.model", "tiny"), text_attribute("2.0", "")}; }

  PromptCache& rows(const std::string& prefix, std::uint64_t rows) {
    for (const char* array : {".0", ".1"}) dump_.tensors.push_back({prefix + array, DType::f16, {1, 2, rows, 4}});
    return *this;
  }
  PromptCache& counts(const std::string& prefix, unsigned first, const std::vector<Numbers>& values) {
    for (const Numbers& one : values) {
      const std::string name = fmt::format("{}.{}", prefix, first++);
      dump_.tensors.push_back({name, DType::i32, {}});
      if (one.size() > 1) dump_.tensors.back().shape = {one.size()};
      held_.emplace(name, one);
    }
    return *this;
  }
  PromptCache& array(const std::string& name, const std::vector<std::uint64_t>& shape) {
    dump_.tensors.push_back({name, DType::f32, shape});
    return *this;
  }
  /// A class, as a list says it of its caches.
  PromptCache& spelt(const std::string& name, std::string_view type) {
    dump_.tensors.push_back({name, DType::i32, {type.size()}});
    held_.emplace(name, Numbers(type.begin(), type.end()));
    return *this;
  }
  PromptCache& text(const std::string& name, const std::string& value) {
    dump_.attributes.push_back(text_attribute(name, value));
    return *this;
  }
  PromptCache& old() {
    dump_.attributes = {text_attribute("1.model", "tiny")};
    return *this;
  }
  std::unique_ptr<MemoryReader> reader() const {
    auto reader = std::make_unique<MemoryReader>(dump_);
    for (std::size_t t = 0; t < dump_.tensors.size(); ++t) {
      const auto found = held_.find(dump_.tensors[t].name);
      if (found == held_.end()) continue;
      REQUIRE(reader->data(t).size() == found->second.size() * 4);
      std::memcpy(reader->data(t).data(), found->second.data(), reader->data(t).size());
    }
    return reader;
  }

 private:
  Dump dump_;
  std::map<std::string, Numbers> held_;
};

/// KVCache, offset 10 in a buffer of 16; and a ring of 8 rows that has seen
/// `seen` tokens and writes at `next`.
PromptCache with_ring(std::uint64_t rows, std::int32_t seen, std::int32_t next, std::int32_t keep = 0) {
  PromptCache cache;
  cache.text("1.0", "KVCache").text("1.1", "RotatingKVCache");
  cache.rows("0", 16).counts("0", 2, {{seen}});
  return cache.rows("1", rows).counts("1", 2, {{seen}, {keep}, {8}, {next}});
}

std::unique_ptr<DumpReader> cut(const PromptCache& cache, std::string_view tokens, std::string_view roles = {}) {
  auto reader = cache.reader();
  const Recognition recognition = recognise(reader->dump());
  return select_positions(std::move(reader), recognition, parse_selection({}, tokens, roles));
}

std::string refusal(const PromptCache& cache, std::string_view tokens, std::string_view roles = {}) {
  try {
    cut(cache, tokens, roles);
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::invalid_argument);
    return error.what();
  }
  return {};
}

Numbers held(DumpReader& reader, std::string_view name) {
  for (std::size_t t = 0; t < reader.dump().tensors.size(); ++t) {
    const TensorInfo& info = reader.dump().tensors[t];
    if (info.name != name) continue;
    Numbers out(info.elements());
    reader.read({t, std::vector<std::uint64_t>(info.shape.size(), 0), info.shape},
                std::as_writable_bytes(std::span(out)));
    return out;
  }
  return {};
}

std::uint64_t rows_of(const DumpReader& reader, std::string_view name) {
  const auto& tensors = reader.dump().tensors;
  const auto found = std::ranges::find(tensors, name, &TensorInfo::name);
  return found == tensors.end() ? 0 : found->shape[2];
}

}  // namespace

TEST_CASE("a ring of MLX that is not full yet is cut as a plain cache is") {
  const PromptCache cache = with_ring(8, 5, 5);
  const auto part = cut(cache, "1:4");
  CHECK(rows_of(*part, "0.0") == 3);
  CHECK(rows_of(*part, "1.0") == 3);
  CHECK(held(*part, "0.2") == Numbers{3});
  CHECK(held(*part, "1.2") == Numbers{3});  // offset
  CHECK(held(*part, "1.3") == Numbers{0});  // keep
  CHECK(held(*part, "1.4") == Numbers{8});  // largest size
  CHECK(held(*part, "1.5") == Numbers{3});  // next row
  // The last tokens are the last that count, and not the last of the buffers.
  const auto last = cut(cache, "-2:");
  CHECK(held(*last, "0.2") == Numbers{2});
  CHECK(rows_of(*last, "0.0") == 2);
  CHECK(rows_of(*last, "1.0") == 2);
}

TEST_CASE("a full ring of MLX says where its first position is, unless it keeps some") {
  const auto of = [](std::int32_t seen, std::int32_t next, std::int32_t keep) {
    const auto reader = with_ring(8, seen, next, keep).reader();
    const Recognition roles = recognise(reader->dump());
    const RowPlaces places = row_places(*reader, roles);
    const auto at =
        std::ranges::find(reader->dump().tensors, "1.1", &TensorInfo::name) - reader->dump().tensors.begin();
    const auto ring = static_cast<std::size_t>(at);
    return std::tuple(places.first[ring], places.turn[ring], is_mixed(places, "1.1"));
  };
  CHECK(of(12, 4, 0) == std::tuple(4u, 4u, true));
  CHECK(of(16, 8, 0) == std::tuple(8u, 0u, false));
  CHECK(of(12, 0, 0) == std::tuple(4u, 0u, false));
  CHECK(of(12, 4, 2) == std::tuple(4u, 0u, true));
  CHECK(of(12, -3, 0) == std::tuple(4u, 0u, true));
  CHECK(of(5, 5, 0) == std::tuple(0u, 0u, false));
}

TEST_CASE("a list of positions that is a ring says where it begins") {
  const auto turn = [](const Numbers& cells) {
    Dump dump;
    dump.tensors = {{"positions", DType::i32, {cells.size()}}, {"layers.0.key", DType::f16, {cells.size(), 4}}};
    dump.attributes = {text_attribute("llama.cpp", "slot")};
    MemoryReader reader(dump);
    std::memcpy(reader.data(0).data(), cells.data(), cells.size() * 4);
    const RowPlaces places = row_places(reader, recognise(dump, {.map = {}, .layout = "TC"}));
    return std::pair(places.turn[1], is_mixed(places, "layers.0.key"));
  };
  CHECK(turn({8, 9, 5, 6, 7}) == std::pair<std::uint64_t, bool>(2, true));
  CHECK(turn({5, 6, 7, 8, 9}) == std::pair<std::uint64_t, bool>(0, false));
  CHECK(turn({8, 9, 4, 6, 7}) == std::pair<std::uint64_t, bool>(0, true));
  CHECK(turn({5, 6, 5, 6, 7}) == std::pair<std::uint64_t, bool>(0, true));
}

TEST_CASE("a full ring of MLX is taken whole or not at all") {
  // 12 tokens in 8 rows: positions 4 to 11, in any order.
  const PromptCache cache = with_ring(8, 12, 4);
  const std::string why =
      "cache 1 of class RotatingKVCache cannot be cut by tokens: its rows are "
      "a ring that is full; take tokens 4: or "
      "all, or leave its layers out";
  CHECK(refusal(cache, "0:11") == why);
  CHECK(refusal(cache, "5:") == why);
  CHECK(refusal(cache, "5:", "key") == why);
  const auto part = cut(cache, "3:");
  CHECK(rows_of(*part, "0.0") == 13);
  CHECK(rows_of(*part, "1.0") == 8);
  CHECK(held(*part, "0.2") == Numbers{9});
  CHECK(held(*part, "1.2") == Numbers{9});
  CHECK(held(*part, "1.5") == Numbers{4});  // the ring goes on where it was
  // The first tokens that a ring keeps are positions from 0 on.
  CHECK(refusal(with_ring(8, 12, 4, 2), "3:").find("take tokens 0: or all") != std::string::npos);
  CHECK(refusal(with_ring(8, 12, 4, 2), "0:12").empty());

  const auto reader = cache.reader();
  const Recognition recognition = recognise(reader->dump());
  CHECK(windows_text(row_places(*reader, recognition), recognition, {0, 12}) == "layers 1 hold 8 tokens, 4 to 11");
}

TEST_CASE("counts of chunked, batched and nested caches of MLX follow the tokens") {
  PromptCache chunked;
  chunked.text("1.0", "KVCache").text("1.1", "ChunkedKVCache");
  // Position 6 is the first row of four that count, in a buffer of 5.
  chunked.rows("0", 10).counts("0", 2, {{10}}).rows("1", 5).counts("1", 2, {{10}, {4}, {6}});
  auto part = cut(chunked, "4:8");
  CHECK(rows_of(*part, "0.0") == 4);
  CHECK(rows_of(*part, "1.0") == 2);
  CHECK(held(*part, "1.2") == Numbers{4});
  CHECK(held(*part, "1.3") == Numbers{4});  // size of a chunk
  CHECK(held(*part, "1.4") == Numbers{2});
  part = cut(chunked, "7:");
  CHECK(rows_of(*part, "1.0") == 4);
  CHECK(held(*part, "1.2") == Numbers{3});
  CHECK(held(*part, "1.4") == Numbers{0});

  PromptCache batch;
  batch.text("1.0", "BatchKVCache").rows("0", 16).counts("0", 2, {{10, 10}, {0, 0}, {10}});
  part = cut(batch, "2:8");
  CHECK(held(*part, "0.2") == Numbers{6, 6});
  CHECK(held(*part, "0.3") == Numbers{0, 0});
  CHECK(held(*part, "0.4") == Numbers{6});
  PromptCache padded;
  padded.text("1.0", "BatchKVCache").rows("0", 16).counts("0", 2, {{10, 7}, {0, 3}, {10}});
  CHECK(refusal(padded, "2:8").find("its entries begin at different rows") != std::string::npos);

  PromptCache nested;
  nested.text("1.0", "CacheList").rows("0.0.0", 16).counts("0.0.0", 2, {{10}}).spelt("0.0.1", "KVCache");
  nested.rows("0.1.0", 16).counts("0.1.0", 2, {{10}}).spelt("0.1.1", "KVCache");
  part = cut(nested, "0:4");
  CHECK(rows_of(*part, "0.0.0.0") == 4);
  CHECK(rows_of(*part, "0.1.0.1") == 4);
  CHECK(held(*part, "0.0.0.2") == Numbers{4});
  CHECK(held(*part, "0.1.0.2") == Numbers{4});
}

TEST_CASE("states and quantised caches of MLX have no tokens to leave out") {
  PromptCache states;
  states.text("1.0", "KVCache").text("1.1", "ArraysCache").rows("0", 16).counts("0", 2, {{10}});
  states.array("1.0.0", {1, 3, 8}).array("1.0.1", {1, 4, 8});
  CHECK(refusal(states, "0:9")
            .starts_with("cache 1 of class ArraysCache cannot be cut by "
                         "tokens: its state is of all"));
  CHECK(refusal(states, "1:").find("ArraysCache") != std::string::npos);
  CHECK(refusal(states, "0:9", "key,value").empty());
  CHECK(held(*cut(states, "0:10"), "0.2") == Numbers{10});

  PromptCache quantised;
  quantised.text("1.0", "KVCache").text("1.1", "QuantizedKVCache").rows("0", 16).counts("0", 2, {{10}});
  quantised.array("1.0.0", {1, 2, 16, 2}).counts("1", 2, {{10}, {64}, {4}});
  CHECK(refusal(quantised, "0:9").find("its keys and values are quantised") != std::string::npos);
  CHECK(refusal(quantised, "0:10").empty());
}

TEST_CASE("a cache in a list of MLX is of the class that its letters spell, and not of another of as many") {
  const auto list = [] {
    PromptCache cache;
    cache.text("1.0", "CacheList").rows("0.0.0", 64).counts("0.0.0", 2, {{64}}).spelt("0.0.1", "KVCache");
    return cache;
  };
  PromptCache pooled = list(), wide = list(), batch = list(), open = list();
  pooled.array("0.1.0.0", {1, 16, 8}).array("0.1.0.1", {1, 16, 8}).spelt("0.1.1", "PoolingCache");
  CHECK(refusal(pooled, "0:32") ==
        "cache 0.1.0 of class PoolingCache cannot be cut by tokens: its state is of all tokens; take tokens 0: or "
        "all, or leave its layers out");
  CHECK(refusal(pooled, "0:64").empty());
  CHECK(rows_of(*cut(pooled, "0:32", "key,value"), "0.0.0.0") == 32);
  wide.rows("0.1.0", 16).counts("0.1.0", 2, {{64}, {0}, {64}}).spelt("0.1.1", "PoolingCache");
  CHECK(refusal(wide, "0:32").find("cache 0.1.0 of class PoolingCache") == 0);
  batch.rows("0.1.0", 64).counts("0.1.0", 2, {{64}, {0}, {64}}).spelt("0.1.1", "BatchKVCache");
  CHECK(rows_of(*cut(batch, "0:32"), "0.1.0.0") == 32);
  CHECK(held(*cut(batch, "0:32"), "0.1.0.4") == Numbers{32});
  open.rows("0.1.0", 64).array("0.1.1", {7});
  CHECK(refusal(open, "0:32").find("cache 0.1.0 of a class that is not known cannot be cut") == 0);
}

TEST_CASE("the layer of a list of MLX is of the first cache that has keys, whatever classes have as many letters") {
  PromptCache cache;
  cache.text("1.0", "CacheList").array("0.0.0.0", {1, 16, 8}).spelt("0.0.1", "PoolingCache");
  cache.rows("0.1.0", 64).counts("0.1.0", 2, {{64}}).spelt("0.1.1", "KVCache");
  const auto reader = cache.reader();
  const Recognition roles = recognise(reader->dump());
  for (std::size_t t = 0; t < roles.tensors.size(); ++t) {
    const std::string& name = reader->dump().tensors[t].name;
    const bool rows = name == "0.1.0.0" || name == "0.1.0.1";
    CHECK((roles.tensors[t].role == Role::other) == !rows);
    if (rows) CHECK(roles.tensors[t].layer == 0u);
  }
}

TEST_CASE("caches of MLX that hold something beside keys and values of four axes are cut by no range") {
  PromptCache flat, more;
  flat.text("1.0", "KVCache").text("1.1", "KVCache").rows("0", 16).array("1.0", {2, 16, 4}).array("1.1", {2, 16, 4});
  CHECK(refusal(flat, "0:9").find("cache 1 of class KVCache cannot be cut by tokens: it has other arrays") == 0);
  CHECK(refusal(flat, "0:16").empty());
  more.text("1.0", "KVCache").rows("0", 16).array("0.3", {16, 4});
  CHECK(refusal(more, "0:9").find("cache 0 of class KVCache cannot be cut by tokens") == 0);
}

TEST_CASE("to 0.31 MLX says in texts what is no row") {
  PromptCache cache;
  cache.old().text("2.0", "KVCache").text("2.1", "RotatingKVCache").text("2.2", "ChunkedKVCache");
  cache.text("0.1.0", "0").text("0.1.1", "8").text("0.1.2", "12").text("0.1.3", "4");
  cache.text("0.2.0", "4").text("0.2.1", "9");
  cache.rows("0", 12).rows("1", 8).rows("2", 3);
  CHECK(refusal(cache, "0:11").find("its rows are a ring that is full; take tokens 4:") != std::string::npos);
  const auto part = cut(cache, "2:");
  CHECK(part->dump().text("0.1.2") == "10");
  CHECK(part->dump().text("0.1.3") == "4");
  CHECK(part->dump().text("0.2.1") == "7");
  CHECK(rows_of(*part, "0.0") == 10);
  CHECK(rows_of(*part, "2.0") == 3);

  PromptCache older;  // to 0.28
  older.old().text("2.0", "KVCache").text("2.1", "RotatingKVCache").rows("0", 12).rows("1", 8);
  older.text("0.1.0", "0").text("0.1.1", "8").text("0.1.2", "256").text("0.1.3", "12").text("0.1.4", "4");
  CHECK(refusal(older, "5:").find("take tokens 4:") != std::string::npos);
  CHECK(cut(older, "2:")->dump().text("0.1.3") == "10");
  CHECK(cut(older, "2:")->dump().text("0.1.2") == "256");
}

TEST_CASE("caches of a list of MLX say in texts, in 0.31, what is no row") {
  PromptCache cache;
  cache.old().text("2.0", "CacheList").text("0.0.0.0", "KVCache").text("0.0.0.1", "RotatingKVCache");
  cache.text("0.0.1.0", "")
      .text("0.0.1.1.0", "0")
      .text("0.0.1.1.1", "8")
      .text("0.0.1.1.2", "12")
      .text("0.0.1.1.3", "4");
  cache.rows("0.0", 12).rows("0.1", 8);
  CHECK(refusal(cache, "0:11").find("cache 0.1 of class RotatingKVCache cannot be cut by tokens") != std::string::npos);
  const auto part = cut(cache, "2:");
  CHECK(part->dump().text("0.0.1.1.2") == "10");
  CHECK(part->dump().text("0.0.1.1.3") == "4");
  CHECK(rows_of(*part, "0.0.0") == 10);
  CHECK(rows_of(*part, "0.1.0") == 8);
  // Before, nothing is said of the caches, so that rows may be anything.
  PromptCache older;
  older.old().text("2.0", "CacheList").text("0.0", "").rows("0", 12).text("2.1", "KVCache").rows("1", 12);
  CHECK(refusal(older, "0:9").find("its state is of all tokens") != std::string::npos);
}

TEST_CASE("counts of MLX that make no sense are none") {
  for (const std::int32_t odd : {-1, std::numeric_limits<std::int32_t>::min()}) {
    PromptCache cache;
    cache.text("1.0", "KVCache").rows("0", 16).counts("0", 2, {{odd}});
    const auto reader = cache.reader();
    const std::vector<MlxRows> rows = mlx_rows(*reader);
    REQUIRE(rows.size() == 1);
    CHECK(rows[0].used == 16);
    CHECK(rows[0].counts.empty());
  }
  const PromptCache far = with_ring(8, std::numeric_limits<std::int32_t>::max(), 4);
  CHECK(held(*cut(far, "5:"), "1.2") == Numbers{std::numeric_limits<std::int32_t>::max() - 5});
  MemoryReader other({.tensors = {{"layers.0.key", DType::f16, {2, 3, 4}}}, .attributes = {}});
  CHECK(mlx_rows(other).empty());
}

}  // namespace kvzip::test
