// SPDX-License-Identifier: Apache-2.0
// xKV (arXiv 2503.18893) and CSKV (arXiv 2409.10593): errors against the best approximation of the rank, sizes against
// the papers' counts.
#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "tests/contract/reference_drive.hpp"

using namespace kvzip;
using namespace kvzip::test;
namespace ref = kvzip::reference;

namespace {

constexpr std::size_t kTokens = 320, kLayers = 4, kHeads = 2, kDim = 24;

/// What layers share, what is a layer's own, and noise: of both layers and tokens there are more than the rank.
std::vector<Matrix> similar_layers(std::uint64_t seed) {
  ref::Random random(seed);
  const std::size_t cols = kHeads * kDim, shared = 14;
  std::vector<double> tokens(kTokens * shared);
  for (double& x : tokens) x = random.normal();
  std::vector<Matrix> layers;
  for (std::size_t l = 0; l < kLayers; ++l) {
    std::vector<double> direction(shared * cols);
    for (double& x : direction) x = random.normal();
    Matrix m{kTokens, kHeads, kDim, std::vector<float>(kTokens * cols)};
    for (std::size_t r = 0; r < kTokens; ++r) {
      for (std::size_t c = 0; c < cols; ++c) {
        double x = 0.4 * random.normal();
        for (std::size_t k = 0; k < shared; ++k)
          x += tokens[r * shared + k] * direction[k * cols + c] / static_cast<double>(k + 1);
        m.at(r, c) = ref::saturated(x, ref::kHalf);
      }
    }
    layers.push_back(std::move(m));
  }
  return layers;
}

ref::Dense side_by_side(const std::vector<Matrix>& layers) {
  const std::size_t cols = layers[0].cols();
  ref::Dense out(kTokens, layers.size() * cols);
  for (std::size_t l = 0; l < layers.size(); ++l) {
    for (std::size_t r = 0; r < kTokens; ++r) {
      for (std::size_t c = 0; c < cols; ++c) out.at(r, l * cols + c) = double{layers[l].at(r, c)};
    }
  }
  return out;
}

}  // namespace

TEST_CASE("xkv: four layers have the best approximation of the paper's rank, at the paper's size") {
  const std::vector<Matrix> keys = similar_layers(51), values = similar_layers(52);
  const ScratchDirectory scratch;
  const std::string path = scratch.file("cache.kvz");
  const auto matrix = [&](std::size_t tensor) -> const Matrix& {
    return (tensor % 2 == 0 ? keys : values)[tensor / 2];
  };
  const std::uint64_t bytes = write_container(path, "xkv", dump_like(keys[0], kLayers, DType::f16), [&](std::size_t t) {
    return elements_of(head_first(matrix(t)), DType::f16);
  });
  const auto reader = open_kvz(path);
  const std::size_t channels = kLayers * kHeads * kDim;
  double expected_bytes = 0;
  for (const bool key : {true, false}) {
    CAPTURE(key);
    std::vector<Matrix> back;
    for (std::size_t l = 0; l < kLayers; ++l) {
      const std::size_t tensor = 2 * l + (key ? 0 : 1);
      const TensorInfo& info = reader->dump().tensors.at(tensor);
      Bytes elements(info.bytes());
      reader->read({tensor, {0, 0, 0, 0}, info.shape}, elements);
      back.push_back(token_first(values_of(elements, DType::f16), keys[0]));
    }
    const std::size_t rank = channels / 16 * (key ? 2 : 3);  // 512 and 768 of 4096
    const ref::Dense before = side_by_side(key ? keys : values), after = side_by_side(back);
    double error = 0;
    for (std::size_t i = 0; i < before.v.size(); ++i) error += (after.v[i] - before.v[i]) * (after.v[i] - before.v[i]);
    const double least = ref::least_error(before, rank);
    MESSAGE(fmt::format("rank {}: squared error {}, least {}", rank, error, least));
    CHECK(error < 1.02 * least);
    CHECK(error > 0.999 * least);
    // Paper: L r numbers of tokens and G r H D of channels, of 16 bits.
    expected_bytes += 2.0 * static_cast<double>(rank * (kTokens + channels));
  }
  // Header, index and the rest of the file are some thousand bytes, which a cache of this size does not hide.
  std::uint64_t frames = 0;
  for (const KvzGroup& g : reader->summary().groups) frames += g.coded_bytes;
  CHECK(std::fabs(static_cast<double>(frames) / expected_bytes - 1) < 0.02);
  CHECK(static_cast<double>(bytes) > expected_bytes);
}

TEST_CASE("lowrank: the rank is the least with the share of energy that is asked for") {
  // Sums of s u v' with orthonormal u and v (the DCT's), so that the energy of each is s^2.
  const std::size_t rows = 256, cols = 32;
  const auto dct = [](std::size_t n, std::size_t i, std::size_t k) {
    const double angle = std::numbers::pi * (static_cast<double>(i) + 0.5) * static_cast<double>(k + 1);
    return std::sqrt(2 / static_cast<double>(n)) * std::cos(angle / static_cast<double>(n));
  };
  const std::vector<std::vector<double>> lengths{{16, 8, 4, 2, 1}, {2, 2, 2, 2}};  // of two heads: 341 and 16
  Matrix m{rows, lengths.size(), cols, std::vector<float>(rows * lengths.size() * cols)};
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t h = 0; h < lengths.size(); ++h) {
      for (std::size_t c = 0; c < cols; ++c) {
        double x = 0;
        for (std::size_t k = 0; k < lengths[h].size(); ++k) x += lengths[h][k] * dct(rows, r, k) * dct(cols, c, k);
        m.at(r, h * cols + c) = static_cast<float>(x);
      }
    }
  }
  // Of 357: one vector of each head has 260, two have 328, three 348, four 356; what they lack is the error.
  struct Expected {
    double share, energy;
    std::size_t rank;
  };
  for (const Expected e : {Expected{0.7, 260, 1}, {0.73, 328, 2}, {0.9, 328, 2}, {0.95, 348, 3}, {0.99, 356, 4}}) {
    CAPTURE(e.share);
    const std::string pipeline = fmt::format("lowrank:rank=12:loops=8:energy={},pack", e.share);
    const auto out = through_pipeline(pipeline, Role::value, m, DType::f32);
    double error = 0;
    for (std::size_t i = 0; i < m.v.size(); ++i) error += std::pow(double{out.values[i]} - double{m.v[i]}, 2);
    CHECK(std::fabs(error - (357 - e.energy)) < 0.5);
    // Numbers of 16 bits in both factors, and some bytes for the rank and the streams.
    const std::size_t factors = 2 * e.rank * lengths.size() * rows + 2 * e.rank * lengths.size() * cols;
    CHECK(out.payload > factors);
    CHECK(out.payload < factors + 64);
  }
  // A stored rank above what the pipeline allows is refused.
  Pipeline wide = Pipeline::parse("lowrank:rank=3:loops=8:energy=0.95,pack");
  Pipeline narrow = Pipeline::parse("lowrank:rank=2:loops=8:energy=0.95,pack");
  const TileContext context = context_of(m, Role::value, DType::f32);
  wide.resolve(context, shape_of(m));
  narrow.resolve(context, shape_of(m));
  Bytes elements = elements_of(m.v, DType::f32);
  const Bytes payload = wide.encode(context, shape_of(m), elements);
  CHECK_NOTHROW(wide.decode(context, shape_of(m), payload, elements));
  CHECK_THROWS_WITH(narrow.decode(context, shape_of(m), payload, elements), doctest::Contains("a rank of 3, above 2"));
  // No more than the rank, whatever is asked for.
  const auto most = through_pipeline("lowrank:rank=2:loops=8:energy=1,pack", Role::value, m, DType::f32);
  CHECK(most.payload < 2 * 2 * lengths.size() * (rows + cols) + 64);
}

TEST_CASE("cskv: the recent window is exact, the rest near the best approximation, in 4 bits") {
  const Matrix m = ref::synthetic(320, 2, 32, ref::kHalf, 53);
  for (const Role role : {Role::key, Role::value}) {
    const auto out = through_pipeline(preset_text("cskv", role), role, m, DType::f16);
    CHECK_FALSE(out.sizes.raw);
    const auto window = static_cast<std::ptrdiff_t>(288 * 64);
    CHECK(std::equal(m.v.begin() + window, m.v.end(), out.values.begin() + window));
    ref::Dense x(288, 64);
    double error = 0;
    for (std::size_t i = 0; i < x.v.size(); ++i) {
      x.v[i] = double{m.v[i]};
      error += (out.values[i] - x.v[i]) * (out.values[i] - x.v[i]);
    }
    const std::size_t rank = role == Role::key ? 16 : 48;
    const double least = ref::least_error(x, rank);
    MESSAGE(fmt::format("cskv, rank {}: squared error {}, least {}, energy {}", rank, error, least, x.energy()));
    CHECK(error > least);
    CHECK(error < least + 0.05 * x.energy());  // factors of 15 levels
    // 4 bits for both factors, 16 for each of their columns' scales, the window.
    const double expected =
        4.0 * static_cast<double>(rank) * (288 + 64) + 2 * 16.0 * static_cast<double>(rank) + 16.0 * 32 * 64;
    CHECK(std::fabs(static_cast<double>(out.payload) * 8 / expected - 1) < 0.02);
  }
}
