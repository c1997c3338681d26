// SPDX-License-Identifier: Apache-2.0
// Keys made here: of each head one vector, turned from token to token by rotary
// embedding, so that turned back all neighbours along the tokens are the same,
// and those along the heads have nothing in common.
#include "formats/rope_axes.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "tests/support/memory_dump.hpp"

namespace kvzip::test {
namespace {

// Shapes are 9 x 8 x 64 in either order: of 8 x 9 x 64 the shape alone says that heads come first.
constexpr std::size_t kFirst = 9, kSecond = 8, kChannels = 64;

struct Keys {
  std::size_t layers = 8;
  bool tokens_first = false, interleaved = false, turned = true;
  double theta = 1e4;
  std::vector<Attribute> attributes{};
};

/// One head's vector at a token, as the model's formula has it.
std::vector<float> at_token(const std::vector<float>& own, std::size_t token, const Keys& keys) {
  std::vector<float> out = own;
  for (std::size_t p = 0; p < kChannels / 2 && keys.turned; ++p) {
    const std::size_t x = keys.interleaved ? 2 * p : p, y = keys.interleaved ? 2 * p + 1 : p + kChannels / 2;
    const double angle = static_cast<double>(token) * std::pow(keys.theta, -2.0 * static_cast<double>(p) / kChannels);
    out[x] = static_cast<float>(own[x] * std::cos(angle) - own[y] * std::sin(angle));
    out[y] = static_cast<float>(own[x] * std::sin(angle) + own[y] * std::cos(angle));
  }
  return out;
}

std::unique_ptr<MemoryReader> reader_of(const Keys& keys) {
  Dump dump{.tensors = {}, .attributes = keys.attributes};
  const std::vector<std::uint64_t> shape{kFirst, kSecond, kChannels};
  const std::size_t heads = keys.tokens_first ? kSecond : kFirst, tokens = keys.tokens_first ? kFirst : kSecond;
  for (std::size_t l = 0; l < keys.layers; ++l) {
    for (const char* role : {"key", "value"}) {
      dump.tensors.push_back({fmt::format("layers.{}.{}", l, role), DType::f32, shape});
    }
  }
  auto reader = std::make_unique<MemoryReader>(std::move(dump));
  std::mt19937 random(7);  // its numbers are the same everywhere
  for (std::size_t t = 0; t < reader->dump().tensors.size(); t += 2) {
    for (std::size_t h = 0; h < heads; ++h) {
      std::vector<float> own(kChannels);
      for (float& v : own) v = static_cast<float>(random() % 2001) / 1000 - 1;
      for (std::size_t token = 0; token < tokens; ++token) {
        const std::vector<float> row = at_token(own, token, keys);
        const std::size_t at = keys.tokens_first ? token * heads + h : h * tokens + token;
        std::memcpy(reader->data(t).data() + at * kChannels * sizeof(float), row.data(), kChannels * sizeof(float));
      }
    }
  }
  return reader;
}

/// Axes of the first keys and values, and how many tensors are recognised.
std::string settled(const Keys& keys) {
  const auto reader = reader_of(keys);
  Recognition recognition = recognise(reader->dump());
  REQUIRE(recognition.recognised == 0);
  REQUIRE(recognition.tensors[0].readings.size() == 2);
  settle_by_rotation(*reader, recognition);
  return fmt::format("{} {} {}", recognition.tensors[0].axes.text(), recognition.tensors[1].axes.text(),
                     recognition.recognised);
}

}  // namespace

TEST_CASE(
    "keys that rotary embedding has turned say which axis counts tokens, "
    "in either order") {
  CHECK(settled({}) == "HTD HTD 16");
  CHECK(settled({.tokens_first = true}) == "THD THD 16");
  CHECK(settled({.interleaved = true}) == "HTD HTD 16");
  CHECK(settled({.tokens_first = true, .interleaved = true, .theta = 1e6}) == "THD THD 16");
  // A theta that is not usual, which the file says; without a word it is not
  // found, and nothing is taken.
  CHECK(settled({.theta = 300, .attributes = {text_attribute("rope_theta", "300")}}) == "HTD HTD 16");
}

TEST_CASE(
    "too few layers, keys that were not turned and files that say so "
    "leave the axes open") {
  CHECK(settled({.layers = 7}) == "  0");
  CHECK(settled({.turned = false}) == "  0");
  CHECK(settled({.attributes = {text_attribute("rope", "pre")}}) == "  0");
  CHECK(settled({.attributes = {text_attribute("rope", "none")}}) == "  0");
}

TEST_CASE("keys of nothing but zeros or not-a-numbers leave the axes open") {
  for (const int byte : {0x00, 0xff}) {
    const auto reader = reader_of({});
    for (std::size_t t = 0; t < 16; t += 2) std::ranges::fill(reader->data(t), static_cast<std::byte>(byte));
    Recognition recognition = recognise(reader->dump());
    settle_by_rotation(*reader, recognition);
    CHECK(recognition.recognised == 0);
  }
}

TEST_CASE(
    "what recognition has settled stays, and why the rest is settled is "
    "said with its figures") {
  const auto stated = reader_of({.attributes = {text_attribute("axes", "THD")}});
  Recognition recognition = recognise(stated->dump());
  REQUIRE(recognition.tensors[0].axes == Axes("THD"));
  settle_by_rotation(*stated, recognition);
  CHECK(recognition.tensors[0].axes == Axes("THD"));
  CHECK(stated->reads == 0);

  const auto open = reader_of({});
  recognition = recognise(open->dump());
  settle_by_rotation(*open, recognition);
  // Turned back, neighbours along the tokens are the same: they differ 100 %
  // less.
  CHECK(recognition.tensors[0].why.find("neighbouring keys differ 100 % less as HTD, ") != std::string::npos);
  CHECK(recognition.model.layers == 8);
  CHECK(recognition.tensors[14].layer == 7u);
}

}  // namespace kvzip::test
