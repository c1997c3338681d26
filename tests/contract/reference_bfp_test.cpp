// SPDX-License-Identifier: Apache-2.0
// Block floating point (arXiv 2403.20137) and the MX formats (OCP Microscaling Formats 1.0) against their formulas.
#include <fmt/format.h>

#include <numeric>

#include "tests/contract/reference_drive.hpp"

using namespace kvzip;
using namespace kvzip::test;
namespace ref = kvzip::reference;

namespace {

/// Element types of the specification, tables 1 to 5: width, significand, least exponent, largest; then emax.
struct Element {
  std::string text;
  Format format;
  int emax;
};
const Element kElements[] = {
    {"type=e2m1", {4, 2, 0, 6}, 2},    {"type=e2m3", {6, 4, 0, 7.5}, 2},      {"type=e3m2", {6, 3, -2, 28}, 4},
    {"type=e4m3", {8, 4, -6, 448}, 8}, {"type=e5m2", {8, 3, -14, 57344}, 15},
};

/// Section 6.3: the shared scale X is the largest power of two in the block over that of the element type; P = V / X,
/// rounded to nearest even and limited.
double mx(double v, double largest, const Element& e) {
  if (largest == 0) return 0;
  const double x = std::ldexp(1.0, std::ilogb(largest) - e.emax);
  return static_cast<double>(ref::saturated(v / x, e.format)) * x;
}
/// A signed mantissa of b bits, one of them before the point: m 2^(E - (b - 2)).
double mantissa(double v, double largest, int bits) {
  if (largest == 0) return 0;
  const double unit = std::ldexp(1.0, std::ilogb(largest) - (bits - 2)), top = std::ldexp(1.0, bits - 1) - 1;
  return std::clamp(std::nearbyint(v / unit), -top, top) * unit;
}

/// Channels of each head in the order of their energy, the largest first; or as they stand.
std::vector<std::size_t> channel_order(const Matrix& m, bool sorted) {
  std::vector<double> energy(m.cols());
  for (std::size_t i = 0; i < m.v.size(); ++i) energy[i % m.cols()] += double{m.v[i]} * m.v[i];
  std::vector<std::size_t> order(m.cols());
  std::iota(order.begin(), order.end(), 0u);
  for (std::size_t h = 0; sorted && h < m.heads; ++h) {
    const auto first = order.begin() + static_cast<std::ptrdiff_t>(h * m.dim);
    std::stable_sort(first, first + static_cast<std::ptrdiff_t>(m.dim),
                     [&](std::size_t a, std::size_t b) { return energy[a] > energy[b]; });
  }
  return order;
}

/// value(v, largest of its block) for every value of every block.
template <typename F>
std::vector<float> in_blocks(const Matrix& m, std::size_t group, bool sorted, F&& value) {
  const std::vector<std::size_t> order = channel_order(m, sorted);
  std::vector<float> out(m.v.size());
  for (std::size_t r = 0; r < m.rows; ++r) {
    for (std::size_t h = 0; h < m.heads; ++h) {
      for (std::size_t first = 0; first < m.dim; first += group) {
        const std::size_t end = std::min(first + group, m.dim);
        double largest = 0;
        for (std::size_t p = first; p < end; ++p) {
          largest = std::max(largest, std::fabs(double{m.at(r, order[h * m.dim + p])}));
        }
        for (std::size_t p = first; p < end; ++p) {
          const std::size_t c = order[h * m.dim + p];
          out[r * m.cols() + c] = static_cast<float>(value(double{m.at(r, c)}, largest));
        }
      }
    }
  }
  return out;
}

}  // namespace

TEST_CASE("bfp: decoded values are those of the OCP formula") {
  for (const Element& e : kElements) {
    CAPTURE(e.text);
    // Heads of 80 end in a short block; magnitudes from far below to far above 1.
    for (const double magnitude : {1.0, 1e-6, 3e5}) {
      Matrix m = ref::synthetic(41, 3, 80, ref::kSingle, 5, magnitude);
      for (std::size_t c = 0; c < 32; ++c) m.at(7, c) = 0;
      for (std::size_t c = 0; c < 80; ++c) m.at(9, c) = static_cast<float>(c) * 0.0625f;  // ties
      for (const std::size_t group : {16u, 32u}) {
        const auto out = through_pipeline(fmt::format("bfp:{}:group={},pack", e.text, group), Role::key, m, DType::f32);
        CHECK_FALSE(out.sizes.raw);
        const auto expected = in_blocks(m, group, false, [&](double v, double most) { return mx(v, most, e); });
        CHECK(differences(out.values, expected) == 0);
      }
    }
  }
}

TEST_CASE("bfp: every element of the specification's tables is one of the codes") {
  // A block of a power of two of the largest exponent and each value of the type comes back as it is.
  for (const Element& e : kElements) {
    CAPTURE(e.text);
    std::vector<float> values;
    for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << (e.format.width - 1)); ++bits) {
      const double v = ref::value_of(bits, e.format, false);
      if (v <= e.format.largest) values.push_back(static_cast<float>(v)), values.push_back(static_cast<float>(-v));
    }
    Matrix m{values.size(), 1, 4, {}};
    for (const float v : values) m.v.insert(m.v.end(), {std::ldexp(1.0f, e.emax), v, -v, 0});
    const auto out = through_pipeline(fmt::format("bfp:{},pack", e.text), Role::key, m, DType::f32);
    CHECK_FALSE(out.sizes.raw);
    CHECK(differences(out.values, m.v) == 0);
  }
}

TEST_CASE("bfp: signed mantissas, in groups of channels as they stand or sorted") {
  Matrix m = ref::synthetic(50, 2, 96, ref::kSingle, 6);
  for (int bits = 2; bits <= 8; ++bits) {
    for (const bool sorted : {false, true}) {
      CAPTURE(bits);
      CAPTURE(sorted);
      const auto text = fmt::format("bfp:bits={}:order={},pack", bits, sorted ? "magnitude" : "channel");
      const auto out = through_pipeline(text, Role::key, m, DType::f32);
      CHECK_FALSE(out.sizes.raw);
      const auto expected = in_blocks(m, 32, sorted, [&](double v, double most) { return mantissa(v, most, bits); });
      CHECK(differences(out.values, expected) == 0);
    }
  }
}

TEST_CASE("bfp: sorted channels err less where one large channel stands in every group") {
  // A large channel in each block takes the bits of the others; sorted, the large ones have a block of their own.
  Matrix m{200, 2, 128, std::vector<float>(200 * 256)};
  ref::Random random(8);
  for (std::size_t i = 0; i < m.v.size(); ++i) {
    m.v[i] = static_cast<float>(random.normal() * (i % 4 == 1 ? 30 : 1));
  }
  const auto error = [&](std::string_view order) {
    const auto out = through_pipeline(fmt::format("bfp:bits=4:order={},pack", order), Role::key, m, DType::f32);
    double sum = 0;
    for (std::size_t i = 0; i < m.v.size(); ++i) {
      const double d = double{out.values[i]} - m.v[i];
      if (i % 4 != 1) sum += d * d;
    }
    return sum;
  };
  CHECK(error("magnitude") < 0.1 * error("channel"));
}

TEST_CASE("bfp: the presets' sizes are those of the formula") {
  struct Case {
    std::string preset;
    double bits;
    bool sorted;
  };
  const Matrix m = ref::synthetic(1024, 8, 128, ref::kHalf, 9);
  for (const Case& c :
       {Case{"bfp-4", 4, true}, {"bfp-6", 6, true}, {"mxfp4", 4, false}, {"mxfp8", 8, false}, {"mxint8", 8, false}}) {
    CAPTURE(c.preset);
    for (const Role role : {Role::key, Role::value}) {
      const auto out = through_pipeline(preset_text(c.preset, role), role, m, DType::f16);
      const double order = c.sorted && role == Role::key ? 8.0 / 1024 : 0;  // a byte for each channel
      const double measured = static_cast<double>(out.payload) * 8 / static_cast<double>(m.v.size());
      CHECK(std::fabs(measured / (c.bits + 8.0 / 32 + order) - 1) < 0.02);
    }
  }
}

TEST_CASE("bfp: an order that names a channel twice, or one of another head, is refused") {
  const Matrix m = ref::synthetic(40, 2, 8, ref::kSingle, 11);
  Pipeline p = Pipeline::parse("bfp:bits=4:order=magnitude,pack");
  const TileContext context = context_of(m, Role::key, DType::f32);
  p.resolve(context, shape_of(m));
  const Bytes payload = p.encode(context, shape_of(m), elements_of(m.v, DType::f32));
  Bytes out(m.v.size() * 4);
  p.decode(context, shape_of(m), payload, out);
  // flags, left out, count, three entries of a tag and two sizes of one or two bytes: the order's 16 bytes follow.
  const std::vector<std::size_t> order = channel_order(m, true);
  Bytes channels;
  for (std::size_t i = 0; i < 16; ++i) channels.push_back(static_cast<std::byte>(order[i] - i / 8 * 8));
  const auto at = std::search(payload.begin(), payload.end(), channels.begin(), channels.end()) - payload.begin();
  REQUIRE(at < static_cast<std::ptrdiff_t>(payload.size()));
  for (const std::byte wrong : {channels[1], std::byte{8}, std::byte{255}}) {
    Bytes damaged = payload;
    damaged[static_cast<std::size_t>(at)] = wrong;
    CHECK_THROWS_AS(p.decode(context, shape_of(m), damaged, out), Error);
  }
}
