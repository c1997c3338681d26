// SPDX-License-Identifier: Apache-2.0
// GEAR (arXiv 2403.05527): X = D + L + S. Outliers exact, quantiser by the formulas, low rank against a published power
// iteration and against the best approximation there is.
#include <fmt/format.h>

#include <array>

#include "codec/stages/stages.hpp"
#include "tests/contract/reference_drive.hpp"

using namespace kvzip;
using namespace kvzip::test;
namespace ref = kvzip::reference;

namespace {

/// The vectors outliers are taken from: a key channel's tokens, a value token's channels.
std::vector<ref::Group> vectors_of(const Matrix& m, Role role) {
  return role == Role::key ? ref::along_tokens(m, 0, m.rows, m.rows)
                           : ref::along_channels(m, 0, m.rows, m.cols(), m.cols());
}
std::vector<ref::Group> groups_of(const Matrix& m, Role role, std::size_t g) {
  return role == Role::key ? ref::along_tokens(m, 0, m.rows, g == 0 ? m.rows : g)
                           : ref::along_channels(m, 0, m.rows, m.cols(), g == 0 ? m.cols() : g);
}

struct Parts {
  std::vector<bool> outlier;
  std::vector<float> backbone;  // D, with the quantised fillers where outliers were
  std::vector<float> residual;  // X - D - S
};

/// Of each vector of n values the floor(n s / 2) least and most leave; the vector's mean stands in for them.
Parts gear_parts(const Matrix& m, Role role, int bits, std::size_t g, double share) {
  Parts p;
  p.outlier.resize(m.v.size());
  std::vector<float> filled = m.v;
  for (ref::Group vector : vectors_of(m, role)) {
    const auto k = static_cast<std::size_t>(static_cast<double>(vector.size()) * share / 2 + 1e-9);
    double sum = 0;
    for (const std::size_t i : vector) sum += double{m.v[i]};
    const auto mean = static_cast<float>(sum / static_cast<double>(vector.size()));
    const auto take = [&](auto first) {
      for (std::size_t n = 0; n < k; ++n) p.outlier[*(first + static_cast<std::ptrdiff_t>(n))] = true;
    };
    std::stable_sort(vector.begin(), vector.end(), [&](std::size_t a, std::size_t b) { return m.v[a] < m.v[b]; });
    take(vector.begin());
    std::sort(vector.begin() + static_cast<std::ptrdiff_t>(k), vector.end(),
              [&](std::size_t a, std::size_t b) { return m.v[a] != m.v[b] ? m.v[a] > m.v[b] : a < b; });
    take(vector.begin() + static_cast<std::ptrdiff_t>(k));
    for (const std::size_t i : vector) {
      if (p.outlier[i]) filled[i] = mean;
    }
  }
  p.backbone = ref::asymmetric(filled, groups_of(m, role, g), bits);
  p.residual.resize(m.v.size());
  for (std::size_t i = 0; i < m.v.size(); ++i) p.residual[i] = p.outlier[i] ? 0 : m.v[i] - p.backbone[i];
  return p;
}

/// The encoder's start: splitmix64 (Steele, Lea, Flood 2014), seed 0 for the first head, 1 for the next.
ref::Dense random_start(std::size_t dim, std::size_t rank, std::size_t head) {
  ref::Dense p(dim, rank);
  std::uint64_t state = head;
  for (double& x : p.v) {
    std::uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    x = static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
  }
  return p;
}

Tile tile_of(const Matrix& m, const TileContext& context, const std::vector<float>& values) {
  Tile tile(context, shape_of(m));
  tile.values.assign(values.begin(), values.end());
  return tile;
}
std::vector<float> values_of(const Tile& tile) {
  return {tile.values.begin(), tile.values.end()};
}
std::vector<Stream> encode_stage(std::unique_ptr<Stage> stage, std::vector<std::string_view> fields, Tile& tile) {
  parse_fields(*stage, "stage", fields);
  stage->check();
  std::vector<Stream> streams;
  StreamWriter writer(streams);
  EncodeContext to{writer};
  stage->encode(tile, to);
  return streams;
}

struct Case {
  std::string preset;
  int bits;
  std::size_t group;
  double share;
};
const std::array<Case, 3> kCases{{{"gear-2", 2, 64, 0.02}, {"gear-4", 4, 0, 0.02}, {"gear-l-2", 2, 64, 0}}};

}  // namespace

TEST_CASE("gear: decoded values are D + L, outliers exact, L that of the published iteration") {
  for (const Case& c : kCases) {
    for (const Role role : {Role::key, Role::value}) {
      CAPTURE(c.preset);
      CAPTURE(role_name(role));
      const Matrix m = ref::synthetic(300, 4, 64, ref::kSingle, 40);
      const Parts parts = gear_parts(m, role, c.bits, c.group, c.share);
      const auto out = through_pipeline(preset_text(c.preset, role), role, m, DType::f32);
      CHECK_FALSE(out.sizes.raw);
      double largest = 0, worst = 0;
      std::size_t outliers = 0, inexact = 0;
      for (std::size_t h = 0; h < m.heads; ++h) {
        const ref::Dense e = ref::head_of(parts.residual, m, h);
        const ref::Dense l = ref::power_iteration(e, random_start(m.dim, 4, h), 3);
        double error = 0;
        for (std::size_t r = 0; r < m.rows; ++r) {
          for (std::size_t d = 0; d < m.dim; ++d) {
            const std::size_t i = r * m.cols() + h * m.dim + d;
            error += (double{m.v[i]} - out.values[i]) * (double{m.v[i]} - out.values[i]);
            if (parts.outlier[i]) {
              ++outliers;
              inexact += out.values[i] != m.v[i];
              continue;
            }
            largest = std::max(largest, std::fabs(l.at(r, d)));
            worst = std::max(worst, std::fabs(double{out.values[i]} - parts.backbone[i] - l.at(r, d)));
          }
        }
        // The rest of the error is what rank 4 cannot carry, within 5 % of the best rank 4 can do.
        const double best = ref::least_error(e, 4);
        CHECK(error <= 1.05 * best);
        if (c.share == 0) CHECK(error >= best * (1 - 1e-6));
      }
      // Factors are halves: two of 11 bits and a sum of four products.
      CHECK(worst <= 4e-3 * largest);
      CHECK(inexact == 0);
      const std::size_t length = role == Role::key ? m.rows : m.cols();
      const std::size_t per_vector = 2 * static_cast<std::size_t>(static_cast<double>(length) * c.share / 2 + 1e-9);
      CHECK(outliers == per_vector * (m.v.size() / length));
    }
  }
}

TEST_CASE("gear: without low rank the decoded values are the formulas', bit for bit") {
  for (const Case& c : kCases) {
    for (const Role role : {Role::key, Role::value}) {
      for (const DType dtype : {DType::f16, DType::bf16, DType::f32}) {
        CAPTURE(c.preset);
        CAPTURE(role_name(role));
        CAPTURE(dtype_name(dtype));
        const Format& f = format_of(dtype);
        const Matrix m = ref::synthetic(250, 3, 48, f, 41);  // 250 tokens and 144 channels: short last groups
        const Parts parts = gear_parts(m, role, c.bits, c.group, c.share);
        std::vector<float> expected = parts.backbone;
        for (std::size_t i = 0; i < expected.size(); ++i) {
          if (parts.outlier[i]) expected[i] = m.v[i];
        }
        ref::to_format(expected, f);
        std::string text = preset_text(c.preset, role);
        const auto at = text.find("lowrank");
        REQUIRE(at != std::string::npos);
        text.erase(at, text.find(',', at) + 1 - at);
        const auto out = through_pipeline(text, role, m, dtype);
        CHECK_FALSE(out.sizes.raw);
        CHECK(differences(out.values, expected) == 0);
      }
    }
  }
}

TEST_CASE("gear: error falls strictly with rank") {
  const Matrix m = ref::synthetic(256, 4, 64, ref::kHalf, 42);
  for (const Role role : {Role::key, Role::value}) {
    double before = 1e300;
    for (const int rank : {0, 1, 2, 4, 8}) {
      std::string text = preset_text("gear-2", role);
      const auto at = text.find("lowrank");
      const std::string stage = rank == 0 ? "" : fmt::format("lowrank:rank={}:loops=3,", rank);
      text.replace(at, text.find(',', at) + 1 - at, stage);
      const auto out = through_pipeline(text, role, m, DType::f16);
      const double error = squared_error(out.values, m.v);
      CAPTURE(rank);
      CHECK(error < before);
      before = error;
    }
  }
}

TEST_CASE("gear: low rank sees X - D - S, zero where outliers are") {
  for (const Role role : {Role::key, Role::value}) {
    const Matrix m = ref::synthetic(300, 4, 64, ref::kSingle, 43);
    const Parts parts = gear_parts(m, role, 2, 64, 0.02);
    const TileContext context = context_of(m, role, DType::f32);
    const char* axis = role == Role::key ? "axis=channel" : "axis=token";
    Tile tile = tile_of(m, context, m.v);
    const auto taken = encode_stage(make_outliers(), {"share=0.02", axis}, tile);
    REQUIRE(taken.size() == 2);
    // Outliers as stored are the tile's own values at the stored places.
    const Stream& places = taken[0];
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < places.count(); ++i) {
      const std::size_t vector = i / places.cols, j = places.positions[i];
      const std::size_t at = role == Role::key ? j * m.cols() + vector : vector * m.cols() + j;
      float value;
      std::memcpy(&value, taken[1].data.data() + i * 4, 4);
      wrong += value != m.v[at] || !parts.outlier[at];
    }
    CHECK(wrong == 0);
    encode_stage(make_quant(), {"bits=2", "group=64", axis}, tile);
    CHECK(differences(values_of(tile), parts.residual) == 0);
    std::size_t zeros = 0, outliers = 0;
    for (std::size_t i = 0; i < m.v.size(); ++i) {
      outliers += parts.outlier[i];
      zeros += parts.outlier[i] && tile.values[i] == 0;
    }
    CHECK(outliers == places.count());
    CHECK(zeros == outliers);
  }
}

TEST_CASE("gear: low rank takes what rank r can carry") {
  // A residual with a decaying spectrum: each direction holds half the energy of the one before, over noise.
  const Matrix like = ref::synthetic(200, 2, 32, ref::kSingle, 44);
  ref::Random random(45);
  std::vector<float> e(like.v.size());
  for (int k = 0; k < 12; ++k) {
    std::vector<double> left(like.rows), right(like.cols());
    for (double& x : left) x = random.normal();
    for (double& x : right) x = random.normal() * std::pow(0.7, k);
    for (std::size_t i = 0; i < e.size(); ++i) {
      e[i] += static_cast<float>(left[i / like.cols()] * right[i % like.cols()]);
    }
  }
  const TileContext context = context_of(like, Role::key, DType::f32);
  for (const std::size_t rank : {1u, 2u, 4u, 8u}) {
    for (const std::size_t loops : {3u, 16u}) {
      CAPTURE(rank);
      CAPTURE(loops);
      Tile tile = tile_of(like, context, e);
      const std::string r = fmt::format("rank={}", rank), n = fmt::format("loops={}", loops);
      encode_stage(make_lowrank(), {r, n}, tile);
      for (std::size_t h = 0; h < like.heads; ++h) {
        const ref::Dense before = ref::head_of(e, like, h), after = ref::head_of(values_of(tile), like, h);
        const double best = ref::least_error(before, rank), all = before.energy();
        CHECK(after.energy() >= best * (1 - 1e-6));
        if (loops == 3) {  // no worse than the published iteration from the same start
          ref::Dense published = ref::power_iteration(before, random_start(like.dim, rank, h), 3);
          for (std::size_t i = 0; i < published.v.size(); ++i) published.v[i] = before.v[i] - published.v[i];
          CHECK(after.energy() == doctest::Approx(published.energy()).epsilon(1e-4));
        } else {  // converged
          CHECK(after.energy() <= 1.05 * best);
          CHECK(after.energy() - best <= 1e-3 * (all - best));
        }
      }
    }
  }
}

TEST_CASE("gear: the share of key outliers depends on the tokens alone") {
  for (const std::size_t heads : {1u, 4u, 16u}) {
    for (const std::size_t tokens : {64u, 100u, 512u, 1000u}) {
      const std::size_t each_end = tokens / 100;
      CAPTURE(heads);
      CAPTURE(tokens);
      const Matrix m = ref::synthetic(tokens, heads, 16, ref::kHalf, 46);
      const TileContext context = context_of(m, Role::key, DType::f16);
      Tile tile = tile_of(m, context, m.v);
      const auto streams = encode_stage(make_outliers(), {"share=0.02", "axis=channel"}, tile);
      CHECK(streams.at(0).rows == m.cols());
      CHECK(streams.at(0).cols == 2 * each_end);
      // As many below the vector's middle as above it.
      std::size_t low = 0;
      for (std::size_t i = 0; i < streams[0].count(); ++i) {
        const std::size_t c = i / streams[0].cols;
        std::vector<float> channel;
        for (std::size_t r = 0; r < tokens; ++r) channel.push_back(m.at(r, c));
        std::nth_element(channel.begin(), channel.begin() + static_cast<std::ptrdiff_t>(tokens / 2), channel.end());
        low += m.at(streams[0].positions[i], c) < channel[tokens / 2];
      }
      CHECK(low * 2 == streams[0].count());
    }
  }
}

TEST_CASE("gear: a whole file decodes to the same values as its tiles") {
  const Matrix key = ref::synthetic(300, 4, 64, ref::kHalf, 47), value = ref::synthetic(300, 4, 64, ref::kHalf, 48);
  for (const Case& c : kCases) {
    CAPTURE(c.preset);
    const Layer file = through_file(c.preset, {key, value}, DType::f16);
    const auto k = through_pipeline(preset_text(c.preset, Role::key), Role::key, key, DType::f16);
    const auto v = through_pipeline(preset_text(c.preset, Role::value), Role::value, value, DType::f16);
    CHECK(differences(file.key.v, k.values) == 0);
    CHECK(differences(file.value.v, v.values) == 0);
  }
}
