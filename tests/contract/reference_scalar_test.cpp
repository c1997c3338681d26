// SPDX-License-Identifier: Apache-2.0
// Number formats, the integer and float presets, portable mathematics and the rotary embedding against first
// principles.
#include <array>
#include <complex>
#include <limits>

#include "codec/portable_math.hpp"
#include "codec/stages/stages.hpp"
#include "tests/contract/reference_drive.hpp"

using namespace kvzip;
using namespace kvzip::test;
namespace ref = kvzip::reference;

namespace {

struct Small {
  DType dtype;
  const Format& format;
  bool ieee;               // infinities and NaN above the finite values; otherwise NaN codes only
  std::uint32_t top;       // code of the largest finite value
  std::uint32_t overflow;  // code beyond it: infinity, or NaN where there is none
  bool fnuz = false;       // no -0: its code is the one NaN
};
const std::array<Small, 6>& small_formats() {
  static const std::array<Small, 6> formats{{{DType::f16, ref::kHalf, true, 0x7bff, 0x7c00},
                                             {DType::bf16, ref::kBfloat, true, 0x7f7f, 0x7f80},
                                             {DType::f8_e4m3, ref::kE4m3, false, 0x7e, 0x7f},
                                             {DType::f8_e5m2, ref::kE5m2, true, 0x7b, 0x7c},
                                             {DType::f8_e4m3fnuz, ref::kE4m3Fnuz, false, 0x7f, 0x80, true},
                                             {DType::f8_e5m2fnuz, ref::kE5m2Fnuz, false, 0x7f, 0x80, true}}};
  return formats;
}

float decoded(DType dtype, std::uint32_t code) {
  if (dtype == DType::f16) return f16_to_float(static_cast<std::uint16_t>(code));
  if (dtype == DType::bf16) return bf16_to_float(static_cast<std::uint16_t>(code));
  return f8_to_float(dtype, static_cast<std::uint8_t>(code));
}
std::uint32_t encoded(DType dtype, float value) {
  if (dtype == DType::f16) return f16_from_float(value);
  if (dtype == DType::bf16) return bf16_from_float(value);
  return f8_from_float(dtype, value);
}
float saturating(DType dtype, float value) {
  std::array<std::byte, 4> element{};
  from_float(dtype, std::span(&value, 1), std::span(element).first(dtype_unit(dtype)));
  float back = 0;
  to_float(dtype, std::span(element).first(dtype_unit(dtype)), std::span(&back, 1));
  return back;
}

}  // namespace

TEST_CASE("dtypes: every code of the short float formats has the value its fields say") {
  for (const Small& s : small_formats()) {
    CAPTURE(dtype_name(s.dtype));
    const std::uint32_t sign = 1u << (s.format.width - 1);
    std::size_t wrong = 0;
    for (std::uint32_t code = 0; code < 2 * sign; ++code) {
      const std::uint32_t magnitude = code & (sign - 1);
      const float value = decoded(s.dtype, code);
      const bool nan_code = s.fnuz ? code == sign : !s.ieee ? magnitude > s.top : magnitude > s.overflow;
      if (nan_code) {
        wrong += !std::isnan(value) || !std::isnan(decoded(s.dtype, encoded(s.dtype, value)));
        continue;
      }
      wrong += double{value} != ref::value_of(code, s.format, s.ieee) || std::signbit(value) != ((code & sign) != 0);
      wrong += encoded(s.dtype, value) != code;
    }
    CHECK(wrong == 0);
    CHECK(double{dtype_max(s.dtype)} == s.format.largest);
  }
}

TEST_CASE("dtypes: rounding is to nearest, ties to even, at every midpoint") {
  for (const Small& s : small_formats()) {
    CAPTURE(dtype_name(s.dtype));
    const std::uint32_t sign = 1u << (s.format.width - 1);
    std::size_t wrong = 0;
    for (std::uint32_t code = 0; code < s.top; ++code) {
      const float low = decoded(s.dtype, code), high = decoded(s.dtype, code + 1);
      const auto middle = static_cast<float>((double{low} + double{high}) / 2);
      const std::uint32_t even = (code & 1) == 0 ? code : code + 1;
      for (const std::uint32_t minus : {0u, sign}) {
        const auto expect = [&](float x, std::uint32_t to) {
          const std::uint32_t result = s.fnuz && to == 0 ? 0 : to | minus;
          wrong += encoded(s.dtype, minus != 0 ? -x : x) != result;
        };
        expect(middle, even);
        expect(std::nextafter(middle, 0.0f), code);
        expect(std::nextafter(middle, high), code + 1);
      }
    }
    CHECK(wrong == 0);
    // Half a step above the largest value: the type's own overflow, but its largest value where dumps are written.
    const double step = s.format.largest - double{decoded(s.dtype, s.top - 1)};
    const auto tie = static_cast<float>(s.format.largest + step / 2);
    CHECK(encoded(s.dtype, std::nextafter(tie, 0.0f)) == s.top);
    CHECK(encoded(s.dtype, std::nextafter(tie, HUGE_VALF)) == s.overflow);
    CHECK(encoded(s.dtype, tie) == ((s.top & 1) == 0 ? s.top : s.overflow));
    CHECK(double{saturating(s.dtype, std::numeric_limits<float>::max())} == s.format.largest);
    CHECK(double{saturating(s.dtype, -std::numeric_limits<float>::max())} == -s.format.largest);
  }
}

TEST_CASE("dtypes: random floats round as the reference does") {
  ref::Random random(50);
  for (const Small& s : small_formats()) {
    CAPTURE(dtype_name(s.dtype));
    std::size_t wrong = 0;
    for (int i = 0; i < 200000; ++i) {
      const double exponent = s.format.least_exponent - 12 + random.uniform() * 40;
      const auto x = static_cast<float>((random.uniform() * 2 - 1) * std::exp2(exponent));
      wrong += saturating(s.dtype, x) != ref::saturated(double{x}, s.format);
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("portable mathematics agrees with the standard library") {
  ref::Random random(51);
  double log_error = 0, exp_error = 0, near_error = 0, trig_error = 0;
  for (int i = 0; i < 300000; ++i) {
    const double x = std::exp((random.uniform() * 2 - 1) * (i % 3 == 0 ? 1e-3 : i % 3 == 1 ? 3 : 700));
    const long double l = std::log(static_cast<long double>(x));
    if (l != 0) log_error = std::max(log_error, static_cast<double>(std::fabs((portable::log(x) - l) / l)));
    const double y = (random.uniform() * 2 - 1) * (i % 2 == 0 ? 1 : 699);
    const long double e = std::exp(static_cast<long double>(y));
    exp_error = std::max(exp_error, static_cast<double>(std::fabs((portable::exp(y) - e) / e)));
    const double small = (random.uniform() * 2 - 1) * (i % 2 == 0 ? 1 : 1e-6);
    const long double m = std::expm1(static_cast<long double>(small));
    if (m != 0) near_error = std::max(near_error, static_cast<double>(std::fabs((portable::expm1(small) - m) / m)));
    const double above = small > -0.999 ? small * (i % 5 == 0 && small > 0 ? 1e6 : 1) : 0;
    const long double p = std::log1p(static_cast<long double>(above));
    if (p != 0) near_error = std::max(near_error, static_cast<double>(std::fabs((portable::log1p(above) - p) / p)));
    const double range = i % 3 == 0 ? 4 : i % 3 == 1 ? 1e5 : 0x1p30;
    // Angles next to a multiple of pi / 2 too, where the reduction cancels most.
    double angle = (random.uniform() * 2 - 1) * range;
    if (i % 4 == 0) angle = std::nearbyint(angle / 1.5707963267948966) * 1.5707963267948966;
    const auto [s, c] = portable::sincos(angle);
    const long double a = angle;
    trig_error = std::max(trig_error, static_cast<double>(std::fabs(s - std::sin(a))));
    trig_error = std::max(trig_error, static_cast<double>(std::fabs(c - std::cos(a))));
  }
  MESSAGE("relative error of log ", log_error, ", exp ", exp_error, "; absolute error of sincos ", trig_error);
  CHECK(log_error < 1e-15);
  CHECK(exp_error < 1e-15);
  CHECK(near_error < 1e-15);
  CHECK(trig_error < 1e-15);
  CHECK(portable::log(1) == 0);
  CHECK(portable::exp(0) == 1);
}

TEST_CASE("int8, int4, near-lossless: decoded values are those of the formulas") {
  for (const DType dtype : {DType::f16, DType::bf16, DType::f32}) {
    for (const Role role : {Role::key, Role::value}) {
      CAPTURE(dtype_name(dtype));
      CAPTURE(role_name(role));
      const Format& f = format_of(dtype);
      const Matrix m = ref::synthetic(250, 3, 96, f, 52);
      const auto expect = [&](std::string_view preset, std::vector<float> x) {
        ref::to_format(x, f);
        const auto out = through_pipeline(preset_text(preset, role), role, m, dtype);
        CHECK_FALSE(out.sizes.raw);
        return differences(out.values, x);
      };
      const auto per_head = ref::along_channels(m, 0, m.rows, m.dim, m.dim);
      CHECK(expect("int8", ref::symmetric(m.v, per_head, 8)) == 0);
      CHECK(expect("int4", ref::asymmetric(m.v, ref::along_channels(m, 0, m.rows, m.dim, 64), 4)) == 0);
      // The default: 7 bits, minimum and maximum of a key channel, absolute maximum of a value token's head.
      const auto whole_channels = ref::along_tokens(m, 0, m.rows, m.rows);
      CHECK(expect("near-lossless", role == Role::key ? ref::asymmetric(m.v, whole_channels, 7)
                                                      : ref::symmetric(m.v, per_head, 7)) == 0);
    }
  }
}

TEST_CASE("fp8: every value is the nearest E4M3 number, the largest one beyond the range") {
  for (const DType dtype : {DType::f16, DType::bf16, DType::f32}) {
    const Matrix m = ref::synthetic(64, 2, 64, format_of(dtype), 53, 20);
    const auto out = through_pipeline(preset_text("fp8", Role::key), Role::key, m, dtype);
    std::vector<float> expected = m.v;
    std::size_t beyond = 0;
    for (float& x : expected) {
      x = ref::saturated(double{x}, ref::kE4m3);
      beyond += std::fabs(x) == 448;
    }
    CHECK(beyond > 10);
    CHECK(differences(out.values, expected) == 0);
    CHECK(out.payload < m.v.size() + 32);
  }
}

TEST_CASE("lossless: every bit pattern comes back") {
  ref::Random random(54);
  for (const DType dtype : {DType::f16, DType::bf16, DType::f32, DType::f64, DType::f8_e4m3, DType::f8_e5m2}) {
    const Matrix m = ref::synthetic(100, 2, 32, ref::kSingle, 55);
    Bytes elements(m.v.size() * dtype_unit(dtype));
    from_float(dtype, m.v, elements);
    // A quarter of the elements is any bits at all: NaN of every kind, subnormals, -0.
    for (std::size_t i = 0; i < elements.size() / 4; ++i) elements[i] = static_cast<std::byte>(random.next());
    for (const Role role : {Role::key, Role::value, Role::query}) {
      Pipeline pipeline = Pipeline::parse(preset_text("lossless", role));
      const TileContext context = context_of(m, role, dtype);
      pipeline.resolve(context, shape_of(m));
      Bytes back(elements.size());
      pipeline.decode(context, shape_of(m), pipeline.encode(context, shape_of(m), elements), back);
      CHECK(back == elements);
    }
  }
}

namespace {

/// Frequencies as model configurations define them, by wavelength.
double scaled_frequency(const Rope& rope, std::size_t i, double dims) {
  const double f = std::pow(rope.theta, -2.0 * static_cast<double>(i) / dims), wavelength = 2 * M_PI / f;
  switch (rope.scaling) {
    case Rope::Scaling::none:
      return f;
    case Rope::Scaling::linear:
      return f / rope.factor;
    case Rope::Scaling::llama3: {
      if (wavelength > rope.original_context / rope.low_freq_factor) return f / rope.factor;
      if (wavelength < rope.original_context / rope.high_freq_factor) return f;
      const double smooth =
          (rope.original_context / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
      return (1 - smooth) * f / rope.factor + smooth * f;
    }
    case Rope::Scaling::yarn: {
      const auto dim_of = [&](double turns) {
        return dims * std::log(rope.original_context / (turns * 2 * M_PI)) / (2 * std::log(rope.theta));
      };
      const double low = std::max(0.0, std::floor(dim_of(32))), high = std::min(dims - 1, std::ceil(dim_of(1)));
      const double kept = 1 - std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
      return f * kept + f / rope.factor * (1 - kept);
    }
  }
  return f;
}

}  // namespace

TEST_CASE("rope: removal is a complex rotation by the negative angle, and decoding turns back") {
  std::vector<Rope> ropes;
  for (const auto scaling : {Rope::Scaling::none, Rope::Scaling::linear, Rope::Scaling::llama3, Rope::Scaling::yarn}) {
    for (const auto layout : {Rope::Layout::half, Rope::Layout::interleaved}) {
      for (const std::uint32_t dims : {0u, 32u}) {
        Rope rope;
        rope.state = Rope::State::post;
        rope.theta = scaling == Rope::Scaling::llama3 ? 500000 : 10000;
        rope.layout = layout;
        rope.scaling = scaling;
        rope.factor = scaling == Rope::Scaling::none ? 1 : 8;
        rope.dims = dims;
        rope.first_position = 100000;
        ropes.push_back(rope);
      }
    }
  }
  const Matrix m = ref::synthetic(70, 2, 128, ref::kSingle, 56);
  for (const Rope& rope : ropes) {
    CAPTURE(static_cast<int>(rope.scaling));
    CAPTURE(static_cast<int>(rope.layout));
    CAPTURE(rope.dims);
    TileContext context = context_of(m, Role::key, DType::f32);
    context.total_tokens = 1000;
    context.rope = rope;
    const auto stage = make_rope();
    stage->resolve(context);
    TileShape shape = shape_of(m);
    shape.first_token = 512;
    Tile tile(context, shape);
    tile.values.assign(m.v.begin(), m.v.end());
    std::vector<Stream> none;
    StreamWriter writer(none);
    EncodeContext to{writer};
    stage->encode(tile, to);
    CHECK(none.empty());
    const std::size_t dims = rope.dims == 0 ? m.dim : rope.dims;
    double worst = 0, untouched = 0;
    for (std::size_t r = 0; r < m.rows; ++r) {
      const double position = static_cast<double>(100000 + 512 + r);
      for (std::size_t h = 0; h < m.heads; ++h) {
        for (std::size_t i = 0; i < dims / 2; ++i) {
          const bool half = rope.layout == Rope::Layout::half;
          const std::size_t a = h * m.dim + (half ? i : 2 * i), b = half ? a + dims / 2 : a + 1;
          const std::complex<double> z(m.at(r, a), m.at(r, b));
          const auto turned = z * std::polar(1.0, -position * scaled_frequency(rope, i, static_cast<double>(dims)));
          const std::complex<double> got(tile.row(r)[a], tile.row(r)[b]);
          worst = std::max(worst, std::abs(got - turned) / (std::abs(z) + 1e-30));
        }
        for (std::size_t d = dims; d < m.dim; ++d) {
          const std::size_t c = h * m.dim + d;
          untouched = std::max(untouched, std::fabs(double{tile.row(r)[c]} - m.at(r, c)));
        }
      }
    }
    CHECK(worst < 3e-7);  // two products and a sum in float
    CHECK(untouched == 0);
    struct NoStreams final : StreamReader {
      void get(Stream&) override { FAIL("rope stores no streams"); }
    } streams;
    tile.shape = stage->output(context, shape);
    DecodeContext from{streams};
    stage->decode(tile, shape, from);
    double back = 0;
    for (std::size_t i = 0; i < m.v.size(); ++i) back = std::max(back, std::fabs(double{tile.values[i]} - m.v[i]));
    CHECK(back < 1e-4);  // largest values near 200
  }
}
