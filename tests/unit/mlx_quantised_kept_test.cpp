// SPDX-License-Identifier: Apache-2.0
// Quantised caches of MLX that are not what they seem, or not known: they stay as they are.
#include <doctest/doctest.h>

#include <memory>
#include <string>

#include "codec/fail.hpp"
#include "tests/unit/mlx_quantised_cache.hpp"

namespace kvzip::test {
namespace {

TEST_CASE("quantised caches of MLX whose arrays do not agree stay as they are") {
  CHECK(is_decoded(QuantisedCache(true)));
  const auto kept = [](auto&& change) {
    for (const bool now : {false, true}) {
      QuantisedCache cache(now);
      change(cache);
      const auto reader = mlx_values(cache.reader());
      CHECK(stored_blocks(*reader) == nullptr);
      CHECK(reader->dump().tensors == cache.dump.tensors);
      CHECK(mlx_quantised_lines(*reader).size() == 1);
    }
  };
  kept([](QuantisedCache& c) { c.tensor("0.0.0").shape[3] = 7; });
  kept([](QuantisedCache& c) { c.tensor("0.0.0").shape[3] = 0; });
  kept([](QuantisedCache& c) { c.tensor("0.1.0").shape = {2, 3, 8}; });
  kept([](QuantisedCache& c) { c.tensor("0.1.0").dtype = DType::i32; });
  kept([](QuantisedCache& c) { c.tensor("0.0.1").shape[3] = 4; });
  kept([](QuantisedCache& c) { c.tensor("0.0.2").shape[2] = 2; });
  kept([](QuantisedCache& c) { c.tensor("0.0.2").dtype = DType::bf16; });
  kept([](QuantisedCache& c) { c.tensor("0.0.2").name = "0.0.3"; });
  kept([](QuantisedCache& c) { c.dump.tensors.push_back({"0.0.3", DType::f16, {1}}); });
  kept([](QuantisedCache& c) { c.dump.tensors.push_back({"0.0", DType::f16, {1}}); });
  kept([](QuantisedCache& c) {  // keys of other rows than the values
    for (const char* name : {"0.0.0", "0.0.1", "0.0.2"}) c.tensor(name).shape[2] = 2;
  });
  const auto states = [&](const std::string& group, const std::string& bits) {
    QuantisedCache before(false), now(true);
    before.text("0.0.1", group);
    before.text("0.0.2", bits);
    now.scalars["0.3"] = std::stoi(group);
    now.scalars["0.4"] = std::stoi(bits);
    return is_decoded(before) || is_decoded(now);
  };
  CHECK(!states("64", "4"));
  CHECK(!states("32", "8"));
  CHECK(!states("16", "8"));
  CHECK(!states("0", "4"));
  CHECK(!states("-32", "4"));
  CHECK(!states("32", "0"));
  CHECK(!states("32", "7"));
  CHECK(!states("32", "33"));
  CHECK(!states("2147483647", "2147483647"));
}

TEST_CASE("numbers of a quantised cache of MLX that are not there, or more than are known") {
  QuantisedCache array(true), many(true), text(false), step(false), five(false);
  array.tensor("0.4").shape = {2};
  CHECK(!is_decoded(array));
  many.dump.tensors.push_back({"0.5", DType::i32, {}});
  CHECK(!is_decoded(many));
  text.text("0.0.2", "four");
  CHECK(!is_decoded(text));
  // To 0.26 the step by which it grows is the first of four.
  step.text("0.0.0", "256");
  step.text("0.0.1", "3");
  step.text("0.0.2", "32");
  step.dump.attributes.push_back(text_attribute("0.0.3", "4"));
  CHECK(is_decoded(step));
  for (const char* name : {"0.0.3", "0.0.4"}) five.dump.attributes.push_back(text_attribute(name, "4"));
  CHECK(!is_decoded(five));
}

TEST_CASE("a quantised cache of MLX with sizes beyond all memory is not asked for them") {
  QuantisedCache cache(true);
  for (const char* name : {"0.0.0", "0.1.0"}) cache.tensor(name).shape = {0, 1ULL << 40, 1ULL << 40, 8};
  for (const char* name : {"0.0.1", "0.0.2", "0.1.1", "0.1.2"})
    cache.tensor(name).shape = {0, 1ULL << 40, 1ULL << 40, 2};
  CHECK(!is_decoded(cache));
}

TEST_CASE("caches of MLX of a class that only has as many letters stay as they are") {
  const auto kept = [](QuantisedCache cache) { return !is_decoded(cache); };
  QuantisedCache letters = in_list(true), wide = in_list(true), text = in_list(false);
  CHECK(is_decoded(letters));
  letters.classes["0.1.1"] = "QuantifiedKCache";
  CHECK(kept(letters));
  wide.tensor("0.1.1").dtype = DType::i64;
  wide.classes.erase("0.1.1");
  CHECK(kept(wide));
  text.text("0.0.0.1", "QuantifiedKCache");
  CHECK(kept(text));
  // The file has what a list says of its caches for one more than its arrays are of.
  QuantisedCache other = in_list(false);
  for (TensorInfo& info : other.dump.tensors) {
    if (info.name.starts_with("0.1.")) info.name[2] = '2';
  }
  CHECK(kept(other));
}

TEST_CASE("quantised caches of MLX whose numbers cannot be read stay as they are") {
  struct Damaged final : MemoryReader {
    using MemoryReader::MemoryReader;
    void read(const Slice& slice, std::span<std::byte> out) override {
      if (dump().tensors[slice.tensor].name == "0.4") fail(ErrorCode::corrupt, "damaged");
      MemoryReader::read(slice, out);
    }
  };
  const auto reader = mlx_values(std::make_unique<Damaged>(QuantisedCache(true).dump));
  CHECK(stored_blocks(*reader) == nullptr);
  CHECK(mlx_quantised_lines(*reader).at(0).find("cannot be read (damaged)") != std::string::npos);
}

TEST_CASE("quantised caches of MLX that come through a pipe stay as they are, and a line says so") {
  struct Piped final : MemoryReader {
    using MemoryReader::MemoryReader;
    ReaderTraits traits() override { return {.container = nullptr, .once = true}; }
  };
  const auto reader = mlx_values(std::make_unique<Piped>(QuantisedCache(true).dump));
  CHECK(stored_blocks(*reader) == nullptr);
  CHECK(mlx_quantised_lines(*reader).at(0).find("they come through a pipe") != std::string::npos);
}

}  // namespace
}  // namespace kvzip::test
