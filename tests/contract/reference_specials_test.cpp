// SPDX-License-Identifier: Apache-2.0
// Values and shapes that arithmetic trips over, through every preset: NaN and infinities in their places, bounded
// errors elsewhere, nothing infinite out of finite input.
#include <array>
#include <limits>

#include "tests/contract/reference_drive.hpp"

using namespace kvzip;
using namespace kvzip::test;
namespace ref = kvzip::reference;

namespace {

struct Preset {
  std::string name;
  double bound;  // largest error as a share of the tile's largest magnitude: half a step, and room for low rank
};
const std::array<Preset, 19>& presets() {
  static const std::array<Preset, 19> list{{{"kivi-2", 0.34},
                                            {"kivi-4", 0.07},
                                            {"gear-2", 0.7},
                                            {"gear-4", 0.15},
                                            {"gear-l-2", 0.7},
                                            {"cachegen-1", 0.15},
                                            {"cachegen-2", 0.075},
                                            {"cachegen-3", 0.075},
                                            {"cachegen-lmcache", 0.035},
                                            {"int8", 0.006},
                                            {"int4", 0.07},
                                            {"near-lossless", 0.009},
                                            {"fp8", 0.0625},
                                            {"kvtc-1", 2},  // a short tile earns no basis: its mean is all
                                            {"kvtc-2", 2},
                                            {"kvtc-4", 2},
                                            {"zstd-19", 0},
                                            {"zstd-planes", 0},
                                            {"lossless", 0}}};
  return list;
}

constexpr std::array kDTypes{DType::f16, DType::bf16, DType::f32, DType::f64};

/// An element of a 2, 4 or 8-byte float as bits.
void set_bits(Bytes& elements, std::size_t i, std::size_t unit, std::uint64_t bits) {
  std::memcpy(elements.data() + i * unit, &bits, unit);
}

/// Finite in, finite out; the error stays below the preset's share of the largest magnitude, and half a step of the
/// dump's own format. E4M3 is judged value by value inside its range and saturates beyond.
void check_bounded(const Preset& preset, const Format& f, const std::vector<float>& in, const std::vector<float>& out) {
  double largest = 0, worst = 0;
  std::size_t bad = 0;
  for (const float x : in) {
    if (std::isfinite(x)) largest = std::max(largest, std::fabs(double{x}));
  }
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (!std::isfinite(in[i])) continue;
    bad += !std::isfinite(out[i]);
    const double error = std::fabs(double{in[i]} - out[i]);
    if (preset.name == "fp8") {
      const double x = std::clamp(double{in[i]}, -448.0, 448.0);
      bad += std::fabs(x - out[i]) > std::max(std::fabs(x) / 16, 0x1p-10);
    } else {
      worst = std::max(worst, error);
    }
  }
  CHECK(bad == 0);
  const int exponent = largest == 0 ? f.least_exponent : std::max(std::ilogb(largest), f.least_exponent);
  const double own = preset.bound == 0 ? 0 : std::ldexp(1.0, exponent - f.significand);
  CHECK(worst <= preset.bound * largest + own + 1e-36);  // below 1e-36 M / m leaves the range of float
}

template <typename F>
void for_each_case(F&& run) {
  for (const Preset& preset : presets()) {
    for (const Role role : {Role::key, Role::value}) {
      for (const DType dtype : kDTypes) {
        CAPTURE(preset.name);
        CAPTURE(role_name(role));
        CAPTURE(dtype_name(dtype));
        run(preset, role, dtype);
      }
    }
  }
}

Decoded coded(const Preset& preset, Role role, const Matrix& m, DType dtype, const Bytes& elements) {
  return through_pipeline(preset_text(preset.name, role), role, m, dtype, elements);
}

}  // namespace

TEST_CASE("specials: NaN and infinities come back bit for bit, the rest stays bounded") {
  for_each_case([](const Preset& preset, Role role, DType dtype) {
    const Format& f = format_of(dtype);
    Matrix m = ref::synthetic(150, 2, 64, f, 70);
    Bytes elements = elements_of(m.v, dtype);
    const auto unit = static_cast<std::size_t>(f.width / 8);
    const std::uint64_t sign = std::uint64_t{1} << (f.width - 1), infinity = ref::bits_of(HUGE_VAL, f);
    ref::Random random(71);
    std::vector<std::size_t> places{0, 1, m.cols(), m.v.size() - 1};
    for (int i = 0; i < 400; ++i) places.push_back(random.below(m.v.size()));
    for (std::size_t r = 0; r < m.rows; ++r) places.push_back(r * m.cols() + 77);  // a whole channel
    for (const std::size_t i : places) {
      const std::uint64_t payload = 1 + random.next() % (ref::bits_of(1.0, f) & -ref::bits_of(1.0, f));
      const std::array<std::uint64_t, 4> kinds{infinity, infinity | sign, infinity | payload,
                                               infinity | sign | payload};
      set_bits(elements, i, unit, kinds[random.below(4)]);
      m.v[i] = std::numeric_limits<float>::quiet_NaN();
    }
    const Decoded out = coded(preset, role, m, dtype, elements);
    std::size_t wrong = 0;
    for (const std::size_t i : places) wrong += std::memcmp(&out.elements[i * unit], &elements[i * unit], unit) != 0;
    CHECK(wrong == 0);
    check_bounded(preset, f, m.v, out.values);
  });
}

TEST_CASE("specials: doubles beyond float are kept") {
  for (const Preset& preset : presets()) {
    const Matrix m = ref::synthetic(20, 1, 64, ref::kSingle, 72);
    Bytes elements = elements_of(m.v, DType::f64);
    for (const auto& [i, x] : {std::pair<std::size_t, double>{3, 1e300}, {200, -1e39}, {640, 1.7e308}}) {
      set_bits(elements, i, 8, ref::bits_of(x, ref::kDouble));
    }
    const Decoded out = coded(preset, Role::key, m, DType::f64, elements);
    for (const std::size_t i : {3u, 200u, 640u}) {
      CHECK(std::memcmp(&out.elements[i * 8], &elements[i * 8], 8) == 0);
    }
  }
}

TEST_CASE("specials: tiles of nothing but one value") {
  for_each_case([](const Preset& preset, Role role, DType dtype) {
    const Format& f = format_of(dtype);
    const double least = std::max(std::ldexp(1.0, f.least_exponent - f.significand + 1), 0x1p-149);
    for (const double x : {0.0, -0.0, 1.0, -3.140625, 448.0, least, -least, 3 * least}) {
      CAPTURE(x);
      const Matrix m{70, 2, 32, std::vector<float>(70 * 64, static_cast<float>(x))};
      const Decoded out = coded(preset, role, m, dtype, elements_of(m.v, dtype));
      check_bounded(preset, f, m.v, out.values);
      // Quantisers by minimum and maximum keep a constant to the precision of a half.
      const bool by_range = preset.name.find("kivi") == 0 || preset.name.find("gear") == 0 || preset.name == "int4";
      if (by_range) {
        CHECK(*std::min_element(out.values.begin(), out.values.end()) == doctest::Approx(x).epsilon(5e-4));
        CHECK(*std::max_element(out.values.begin(), out.values.end()) == doctest::Approx(x).epsilon(5e-4));
      }
    }
    const auto unit = static_cast<std::size_t>(f.width / 8);
    for (const std::uint64_t bits : {ref::bits_of(HUGE_VAL, f), ref::bits_of(std::nan(""), f) | 1}) {
      const Matrix m{70, 2, 32, std::vector<float>(70 * 64)};
      Bytes elements(m.v.size() * unit);
      for (std::size_t i = 0; i < m.v.size(); ++i) set_bits(elements, i, unit, bits);
      CHECK(coded(preset, role, m, dtype, elements).elements == elements);
    }
  });
}

TEST_CASE("specials: -0 and subnormals among ordinary values, and subnormals alone") {
  for_each_case([](const Preset& preset, Role role, DType dtype) {
    const Format& f = format_of(dtype);
    ref::Random random(73);
    Matrix mixed = ref::synthetic(90, 2, 64, f, 74), tiny = mixed;
    const double normal = std::max(std::ldexp(1.0, f.least_exponent), 0x1p-126);
    for (std::size_t i = 0; i < mixed.v.size(); ++i) {
      const float small = ref::saturated((random.uniform() * 2 - 1) * normal, f);
      tiny.v[i] = small;
      if (i % 5 == 0) mixed.v[i] = i % 2 == 0 ? -0.0f : small;
    }
    check_bounded(preset, f, mixed.v, coded(preset, role, mixed, dtype, elements_of(mixed.v, dtype)).values);
    check_bounded(preset, f, tiny.v, coded(preset, role, tiny, dtype, elements_of(tiny.v, dtype)).values);
  });
}

TEST_CASE("specials: short and uneven token counts") {
  for_each_case([](const Preset& preset, Role role, DType dtype) {
    for (const std::size_t tokens : {1u, 2u, 5u, 31u, 33u, 63u, 65u, 129u}) {
      CAPTURE(tokens);
      for (const std::size_t dim : {1u, 3u, 40u}) {
        CAPTURE(dim);
        const std::size_t heads = dim == 40 ? 3 : 1;
        const Format& f = format_of(dtype);
        const Matrix m = ref::synthetic(tokens, heads, dim, f, 75 + tokens);
        check_bounded(preset, f, m.v, coded(preset, role, m, dtype, elements_of(m.v, dtype)).values);
      }
    }
  });
}

TEST_CASE("specials: the ends of each format's range") {
  for_each_case([](const Preset& preset, Role role, DType dtype) {
    const Format& f = format_of(dtype);
    std::vector<double> magnitudes{1e-7, 100};
    if (dtype == DType::f16) {
      magnitudes.push_back(20000);  // the sink and offset channels then meet 65504
    } else {
      magnitudes.insert(magnitudes.end(), {1e30, 1e-30, 1e35});
    }
    for (const double magnitude : magnitudes) {
      CAPTURE(magnitude);
      Matrix m = ref::synthetic(150, 2, 64, f, 76, magnitude);
      check_bounded(preset, f, m.v, coded(preset, role, m, dtype, elements_of(m.v, dtype)).values);
    }
    if (dtype != DType::f16) return;
    // Nothing but the two ends.
    Matrix m = ref::synthetic(150, 2, 64, f, 77);
    for (float& x : m.v) x = x < 0 ? -65504.0f : 65504.0f;
    check_bounded(preset, f, m.v, coded(preset, role, m, dtype, elements_of(m.v, dtype)).values);
  });
}

TEST_CASE("specials: a value far beyond all others comes back bit for bit and leaves them alone") {
  for (const std::string name : {"uniform-4", "kvzip-near", "kivi-4", "gear-2", "int8", "cachegen-3"}) {
    CAPTURE(name);
    const Preset preset{name, 1};
    for (const float stray : {1e18f, -6e4f, std::numeric_limits<float>::max()}) {
      CAPTURE(stray);
      Matrix m = ref::synthetic(100, 2, 64, ref::kSingle, 75);
      const std::size_t at = 99 * m.cols() + 4;
      m.v[at] = m.v[at - m.cols()];
      const Decoded usual = coded(preset, Role::key, m, DType::f32, elements_of(m.v, DType::f32));
      m.v[at] = stray;
      Decoded out = coded(preset, Role::key, m, DType::f32, elements_of(m.v, DType::f32));
      CHECK(out.values[at] == stray);
      out.values[at] = usual.values[at];
      CHECK(out.values == usual.values);
    }
  }
}

TEST_CASE("specials: what is not finite below a value far beyond all others is stored once") {
  for (const float hole : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Matrix m = ref::synthetic(100, 2, 64, ref::kSingle, 75);
    const std::size_t at = 50 * m.cols() + 4, below = at + m.cols();
    m.v[at] = 1e18f;
    m.v[below] = m.v[below + m.cols()] = hole;
    const Decoded out = coded({"int8", 1}, Role::key, m, DType::f32, elements_of(m.v, DType::f32));
    CHECK(out.values[at] == 1e18f);
    CHECK(std::memcmp(&out.values[below], &hole, sizeof hole) == 0);
    CHECK(std::memcmp(&out.values[below + m.cols()], &hole, sizeof hole) == 0);
  }
}
