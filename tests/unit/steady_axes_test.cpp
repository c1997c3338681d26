// SPDX-License-Identifier: Apache-2.0
// Keys and values made here: each channel of each head has a mean over tokens, and noise beside it.
#include "formats/steady_axes.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <random>

#include "tests/support/memory_dump.hpp"

namespace kvzip::test {
namespace {

struct Cache {
  const char* axes = "BHTD";  // as written; of values where they differ
  const char* value_axes = nullptr;
  std::uint64_t heads = 4, tokens = 100, channels = 64, batch = 1;
  double steady = 1;  // of channels, beside noise of 1
  std::size_t layers = 4;
  bool shared = false;  // all heads are one
};

std::uint64_t extent(const Cache& cache, char axis) {
  return axis == 'H' ? cache.heads : axis == 'T' ? cache.tokens : axis == 'D' ? cache.channels : cache.batch;
}

void fill(const Cache& cache, const Axes& axes, double steady, std::mt19937& random, Bytes& to) {
  const auto noise = [&] { return static_cast<double>(random() % 2001) / 1000 - 1; };
  std::vector<double> means(cache.heads * cache.channels);
  for (double& mean : means) mean = steady * noise();
  std::vector<std::uint64_t> shape(axes.size()), at(axes.size(), 0);
  for (std::size_t a = 0; a < axes.size(); ++a) shape[a] = extent(cache, axes[a]);
  const auto place = [&](char axis) { return axes.has(axis) ? at[axes.find(axis)] : 0; };
  std::vector<double> shared(cache.tokens * cache.channels);
  for (double& one : shared) one = noise();
  for (std::size_t i = 0; i < to.size() / sizeof(float); ++i) {
    std::uint64_t rest = i;
    for (std::size_t a = axes.size(); a-- > 0; rest /= shape[a]) at[a] = rest % shape[a];
    const double value = cache.shared ? shared[place('T') * cache.channels + place('D')]
                                      : means[place('H') * cache.channels + place('D')] + noise();
    const auto narrow = static_cast<float>(value);
    std::memcpy(to.data() + i * sizeof(float), &narrow, sizeof(float));
  }
}

std::unique_ptr<MemoryReader> reader_of(const Cache& cache) {
  Dump dump;
  const Axes keys(cache.axes), values(cache.value_axes == nullptr ? cache.axes : cache.value_axes);
  for (std::size_t l = 0; l < cache.layers; ++l) {
    for (const Axes& axes : {keys, values}) {
      TensorInfo info{fmt::format("layers.{}.{}", l, dump.tensors.size() % 2 == 0 ? "key" : "value"), DType::f32, {}};
      for (std::size_t a = 0; a < axes.size(); ++a) info.shape.push_back(extent(cache, axes[a]));
      dump.tensors.push_back(std::move(info));
    }
  }
  auto reader = std::make_unique<MemoryReader>(std::move(dump));
  std::mt19937 random(7);  // its numbers are the same everywhere
  for (std::size_t t = 0; t < 2 * cache.layers; ++t) {
    fill(cache, t % 2 == 0 ? keys : values, t % 2 == 0 ? cache.steady : cache.steady / 2, random, reader->data(t));
  }
  return reader;
}

/// Axes of the first keys and values, '?' where they are open.
std::string settled(const Cache& cache) {
  const auto reader = reader_of(cache);
  Recognition recognition = recognise(reader->dump());
  settle_by_means(*reader, recognition);
  std::size_t recognised = 0;
  for (const TensorRole& role : recognition.tensors) {
    CHECK(role.rivals.empty());
    recognised += role.role == Role::other ? 0 : 1;
  }
  CHECK(recognition.recognised == recognised);
  const auto text = [&](std::size_t t) {
    const TensorRole& role = recognition.tensors[t];
    return role.role == Role::other ? std::string("?") : std::string(role.axes.text());
  };
  return text(0) + " " + text(1);
}

}  // namespace

TEST_CASE("channels with a mean of their own say which axis counts tokens, whatever custom says") {
  CHECK(settled({}) == "BHTD BHTD");
  CHECK(settled({.axes = "BTHD"}) == "BTHD BTHD");                             // open by shape
  CHECK(settled({.axes = "BTHD", .heads = 32, .tokens = 12}) == "BTHD BTHD");  // 12 heads of 32 tokens by custom
  CHECK(settled({.axes = "BHDT", .tokens = 128}) == "BHDT BHDT");              // 64 tokens of 128 channels by custom
  CHECK(settled({.axes = "BHDT"}) == "BHDT BHDT");
  CHECK(settled({.axes = "HDT", .tokens = 160}) == "HDT HDT");
  CHECK(settled({.axes = "THD", .heads = 8, .tokens = 5}) == "THD THD");
  // Values that are turned otherwise than keys, of as many tokens as channels.
  CHECK(settled({.axes = "BHDT", .value_axes = "BHTD", .tokens = 64}) == "BHDT BHTD");
}

TEST_CASE("values that say nothing leave things as they are") {
  CHECK(settled({.axes = "BTHD", .steady = 0}) == "? ?");
  CHECK(settled({.axes = "BHDT", .tokens = 128, .steady = 0}) == "BHTD BHTD");
  CHECK(settled({.axes = "BTHD", .layers = 1}) == "? ?");
  // Heads that share their keys are as alike as tokens can be.
  CHECK(settled({.axes = "BHTD", .heads = 8, .tokens = 20, .shared = true}) == "BHTD BHTD");
}

TEST_CASE("pages are not taken for sequences") {
  CHECK(settled({.axes = "BTHD", .tokens = 16, .batch = 8}) == "? ?");
  CHECK(settled({.axes = "BTHD", .tokens = 100, .batch = 2}) == "BTHD BTHD");
}

TEST_CASE("of values nobody can tell how they are turned they are left open beside keys that are turned") {
  const auto reader = reader_of({.axes = "BHDT", .tokens = 64});
  std::mt19937 random(9);
  for (std::size_t t = 1; t < 8; t += 2) fill({.tokens = 64}, Axes("BHTD"), 0, random, reader->data(t));
  Recognition recognition = recognise(reader->dump());
  settle_by_means(*reader, recognition);
  CHECK(recognition.tensors[0].axes == Axes("BHDT"));
  CHECK(recognition.tensors[0].why.find("axes by means of channels: over tokens they keep") != std::string::npos);
  CHECK(recognition.tensors[1].role == Role::other);
  CHECK(recognition.tensors[1].readings.size() == 2);
  CHECK(recognition.recognised == 4);
}

TEST_CASE("means of zeros and not-a-numbers say nothing, and what is stated is not looked at") {
  for (const int byte : {0x00, 0xff}) {
    const auto reader = reader_of({.axes = "BTHD"});
    for (std::size_t t = 0; t < 8; t += 2) std::ranges::fill(reader->data(t), static_cast<std::byte>(byte));
    Recognition recognition = recognise(reader->dump());
    settle_by_means(*reader, recognition);
    CHECK(recognition.recognised == 0);
  }
  const auto reader = reader_of({.axes = "BHDT", .tokens = 128});
  Recognition recognition = recognise(reader->dump(), {.map = {}, .layout = "BHTD"});
  settle_by_means(*reader, recognition);
  CHECK(recognition.tensors[0].axes == Axes("BHTD"));
  CHECK(reader->reads == 0);
}

TEST_CASE("of a dump of many stacked tensors no more is read than of one") {
  Dump dump;
  for (int i = 0; i < 16; ++i)
    dump.tensors.push_back({fmt::format("part{}/key_cache", i), DType::f32, {16, 1, 4, 32, 32}});
  MemoryReader reader(std::move(dump));
  Recognition recognition = recognise(reader.dump());
  REQUIRE(recognition.recognised == 16);
  REQUIRE(recognition.tensors[15].rivals.size() > 0);
  settle_by_means(reader, recognition);
  CHECK(reader.reads == 16);
}

}  // namespace kvzip::test
