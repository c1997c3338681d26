// SPDX-License-Identifier: Apache-2.0
// The uniform quantiser with an absolute step against its formula, code by code.
#include <fmt/format.h>

#include <array>

#include "codec/kernels/uniform_steps.hpp"
#include "codec/stages/stages.hpp"
#include "tests/contract/every_instruction_set.hpp"

using namespace kvzip;
using namespace kvzip::test;
namespace ref = kvzip::reference;

namespace {

/// |q| of a magnitude in steps.
double steps_of(double magnitude, double round) {
  const double q = round < 0.5 ? std::floor(magnitude + round) : std::nearbyint(magnitude);
  return std::min(q, 32767.0);
}

/// The decoded values. Steps are powers of two, so that every quotient here is exact.
std::vector<float> expected(const std::vector<float>& x, double step, double round, bool centroid) {
  std::array<double, 2> sum{}, count{};
  for (const float v : x) {
    const double m = std::fabs(double{v}) / step, q = steps_of(m, round);
    if (q == 0) continue;
    sum[q > 1] += std::max(-1.0, q - m);  // a limited value counts as one step off
    count[q > 1] += 1;
  }
  std::array<double, 2> offset{};
  for (std::size_t i = 0; i < 2; ++i) {
    const double mean = count[i] == 0 ? 0 : sum[i] / count[i];
    if (centroid) offset[i] = std::min(127.0, std::max(-128.0, std::nearbyint(mean * 256))) / 256;
  }
  std::vector<float> out;
  for (const float v : x) {
    const double q = steps_of(std::fabs(double{v}) / step, round);
    const double level = q == 0 ? 0 : q - offset[q > 1];
    out.push_back(static_cast<float>(std::copysign(level * step, v)));
  }
  return out;
}

Matrix spread(double size, std::uint64_t seed) {
  Matrix m{90, 2, 33, normal(90 * 66, seed)};
  for (float& v : m.v) v = static_cast<float>(v * size);
  for (std::size_t i = 0; i < 40; ++i) m.v[i * 7] = static_cast<float>((static_cast<double>(i) - 20) * 0.125);  // ties
  return m;
}

struct OneStream final : StreamReader {
  std::vector<std::vector<std::uint8_t>> data;
  std::size_t next = 0;
  void get(Stream& s) override {
    s.data.assign(data.at(next).begin(), data.at(next).end());
    ++next;
  }
};

std::unique_ptr<Stage> uniform_stage(std::vector<std::string_view> items) {
  auto stage = make_uniform();
  parse_fields(*stage, "uniform", items);
  return stage;
}

}  // namespace

TEST_CASE("uniform: decoded values are those of the formula") {
  for (const double size : {0.05, 1.0, 20.0, 3000.0}) {
    for (const double round : {0.5, 0.375, 0.0}) {
      for (const bool centroid : {false, true}) {
        for (const std::string_view coder : {"pack", "ac", "zstd", "rans"}) {
          CAPTURE(size);
          CAPTURE(round);
          CAPTURE(centroid);
          const Matrix m = spread(size, 7);
          const auto text =
              fmt::format("uniform:step=0.25:round={}:points={},{}", round, centroid ? "centroid" : "middle", coder);
          const auto out = through_pipeline(text, Role::key, m, DType::f32);
          CHECK_FALSE(out.sizes.raw);
          CHECK(differences(out.values, expected(m.v, 0.25, round, centroid)) == 0);
        }
      }
    }
  }
}

TEST_CASE("uniform: nearest is to even, a dead zone rounds down, far values are limited") {
  const auto decoded = [](std::string_view text, const std::vector<float>& x) {
    Matrix m{x.size(), 1, 1, x};
    m.v.resize(x.size() + 400);  // zeros, so that the frame shrinks
    m.rows = m.v.size();
    auto out = through_pipeline(std::string(text), Role::value, m, DType::f32);
    CHECK_FALSE(out.sizes.raw);
    out.values.resize(x.size());
    return out.values;
  };
  using Floats = std::vector<float>;
  CHECK(decoded("uniform:step=1,rans", {0.5f, -0.5f, 1.5f, -1.5f, 2.5f, 3.5f, 2.4999f}) ==
        Floats{0, 0, 2, -2, 2, 4, 2});
  CHECK(decoded("uniform:step=2:round=0.25,rans", {1.49f, 1.5f, -1.5f, 3.49f, 3.5f}) == Floats{0, 2, -2, 2, 4});
  CHECK(decoded("uniform:step=1:round=0,rans", {0.999f, 1.0f, 1.999f, -2.5f}) == Floats{0, 1, 1, -2});
  CHECK(decoded("uniform:step=1,zstd", {40000.0f, -1e30f, 32767.4f, 32766.6f}) == Floats{32767, -32767, 32767, 32767});
  // One mean offset for |q| = 1, another beyond: 1 - 1.25 and -1.25, and 3 - 2.75.
  CHECK(decoded("uniform:step=1:points=centroid,rans", {1.25f, -1.25f, 2.75f, -2.75f, 2.75f}) ==
        Floats{1.25f, -1.25f, 2.75f, -2.75f, 2.75f});
}

TEST_CASE("uniform: tiles of zeros need no codes, and senseless fields are refused") {
  const Matrix m{300, 2, 32, std::vector<float>(300 * 64)};
  for (const std::string_view coder : {"pack", "ac", "ac:model=static", "ac:model=cachegen", "zstd", "rans"}) {
    CAPTURE(coder);
    const auto out =
        through_pipeline(fmt::format("uniform:step=0.1:points=centroid,{}", coder), Role::key, m, DType::f16);
    CHECK(differences(out.values, m.v) == 0);
    // One symbol, no information. The published tables of cachegen do not ask: a table and a length per channel.
    CHECK(out.payload < (coder == "ac:model=cachegen" ? 64u * (3 * 2 + 2 * 5) + 40 : 80u));
  }
  for (const std::string_view text :
       {"uniform:step=0,rans", "uniform:step=1e-31,rans", "uniform:step=-1,rans", "uniform:step=nan,rans",
        "uniform:step=1:round=0.6,rans", "uniform:step=1:bits=4,rans"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(Pipeline::parse(text), Error);
  }
  CHECK(Pipeline::parse("uniform:step=0.2:round=0.5:points=middle,rans").text() == "uniform:step=0.2,rans");
}

TEST_CASE("uniform: a decoder takes any codes and refuses a range beyond 32767") {
  const Matrix m{1, 1, 2, {0, 0}};
  const TileContext context = context_of(m, Role::key, DType::f32);
  const auto stage = uniform_stage({"step=0.5", "points=centroid"});
  const auto decoded = [&](std::vector<std::vector<std::uint8_t>> data) {
    Tile tile(context, shape_of(m));

    OneStream streams;
    streams.data = std::move(data);
    DecodeContext from{streams, true};
    stage->decode(tile, shape_of(m), from);
    return std::vector<float>(tile.values.begin(), tile.values.end());
  };
  // M = 2: codes 0 to 4 are -2 to 2; offsets 64/256 for 1 and -64/256 for 2.
  CHECK(decoded({{2, 0}, {64, 192}, {0, 3}}) == std::vector<float>{-1.125f, 0.375f});
  // M = 128, n = 257: high and low halves; 511 - 128 is no code of an encoder, and still defined.
  CHECK(decoded({{128, 0}, {0, 0}, {1, 0}, {255, 0}}) == std::vector<float>{191.5f, -64.0f});
  CHECK(decoded({{0xff, 0x7f}, {0, 0}, {255, 0}, {254, 0}}) == std::vector<float>{16383.5f, -16383.5f});
  try {
    decoded({{0x00, 0x80}, {0, 0}, {0, 0}, {0, 0}});
    FAIL("a range of 32768 was taken");
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::corrupt);
  }
}

TEST_CASE("uniform: what is left for later stages is the value minus its approximation") {
  const Matrix m = spread(1, 9);
  const auto once = through_pipeline("uniform:step=0.5:points=centroid,rans", Role::key, m, DType::f32);
  const auto twice =
      through_pipeline("uniform:step=0.5:points=centroid,uniform:step=0.03125,rans", Role::key, m, DType::f32);
  std::vector<float> left;
  for (std::size_t i = 0; i < m.v.size(); ++i) left.push_back(m.v[i] - once.values[i]);
  const std::vector<float> fine = expected(left, 0.03125, 0.5, false);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < m.v.size(); ++i) wrong += twice.values[i] != fine[i] + once.values[i];
  CHECK(wrong == 0);
}

TEST_CASE("uniform: kernels at every length, on every instruction set, as a plain loop") {
  for (std::size_t n = 0; n <= 70; ++n) {
    for (const float zero : {0.0f, 5.0f, 127.0f, 128.0f, 32767.0f}) {
      for (const float round : {0.5f, 0.3f}) {
        kernels::UniformSteps u{0.1f, zero};
        u.dead_zone = round < 0.5f;
        u.round = round;
        u.one = 0.125f;
        u.more = -0.0625f;
        std::vector<float> x = n % 2 == 0 ? normal(n, n + 1) : awkward(n, 2 * n);
        std::vector<std::uint8_t> low(n), high(n);
        std::vector<float> values(n);
        for (std::size_t i = 0; i < n; ++i) {
          const float m = std::min(std::fabs(x[i]) / 0.1f, zero);
          const int q = static_cast<int>(u.dead_zone ? std::floor(m + round) : std::nearbyint(m));
          const int code = static_cast<int>(zero) + (x[i] < 0 ? -q : q);
          low[i] = static_cast<std::uint8_t>(code % 256);
          high[i] = static_cast<std::uint8_t>(code / 256);
          const float d = q == 0 ? 0.0f : q == 1 ? 0.125f : -0.0625f;
          values[i] = (x[i] < 0 ? -1.0f : 1.0f) * ((static_cast<float>(q) - d) * 0.1f);
        }
        const auto got_low = on_every_instruction_set([&] {
          std::vector<std::uint8_t> a(n), b(n);
          kernels::uniform_codes(x.data(), n, u, a.data(), b.data());
          CHECK(b == high);
          kernels::uniform_codes(x.data(), n, u, b.data(), nullptr);
          CHECK(a == b);
          return a;
        });
        CHECK(got_low == low);
        const auto got = on_every_instruction_set([&] {
          std::vector<float> out(n, 7.0f);
          kernels::uniform_values(low.data(), high.data(), n, u, out.data());
          return out;
        });
        CHECK(differences(got, values) == 0);
        const auto sums = on_every_instruction_set([&] {
          std::vector<float> out(n, 1.0f);
          kernels::uniform_values_add(low.data(), high.data(), n, u, out.data());
          return out;
        });
        for (std::size_t i = 0; i < n; ++i) CHECK(sums[i] == 1.0f + values[i]);
        if (zero <= 127.0f) {
          const auto short_codes = on_every_instruction_set([&] {
            std::vector<float> out(n);
            kernels::uniform_values(low.data(), nullptr, n, u, out.data());
            return out;
          });
          CHECK(short_codes == got);
        }
      }
    }
  }
}

TEST_CASE("uniform: every instruction set writes the same bytes and reads the same values") {
  for (const double size : {0.1, 1.0, 500.0}) {
    const Matrix m = spread(size, 21);
    for (const std::string_view fields : {"", ":round=0.3", ":points=centroid", ":round=0.2:points=centroid"}) {
      const std::string text = fmt::format("uniform:step=0.1{},uniform:step=0.01:points=centroid,pack", fields);
      Pipeline pipeline = Pipeline::parse(text);
      const TileContext context = context_of(m, Role::key, DType::f32);
      const Bytes payload =
          on_every_instruction_set([&] { return pipeline.encode(context, shape_of(m), elements_of(m.v, DType::f32)); });
      CHECK(payload[0] == std::byte{0});
      on_every_instruction_set([&] {
        Bytes out(m.v.size() * 4);
        pipeline.decode(context, shape_of(m), payload, out);
        return out;
      });
    }
  }
}
