// SPDX-License-Identifier: Apache-2.0
// Every kernel on every instruction set of this machine: the same bits as a plain loop written here, at every small
// length and at odd addresses; and whole presets, whose bytes and decoded values no instruction set may change.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "codec/kernels/bit_packing.hpp"
#include "codec/kernels/instruction_set.hpp"
#include "codec/kernels/quantise.hpp"
#include "codec/kernels/rows.hpp"
#include "tests/contract/sample_dumps.hpp"

namespace kvzip::test {
namespace {

using Codes = std::vector<std::uint8_t>;
using Floats = std::vector<float>;

/// Runs a check on every target, then goes back to the best one, whatever happened.
template <typename F>
void on_every_instruction_set(F&& check) {
  struct Restore {
    ~Restore() { kernels::use_instruction_set(0); }
  } restore;
  REQUIRE(!kernels::instruction_sets().empty());
  for (const kernels::InstructionSet& target : kernels::instruction_sets()) {
    kernels::use_instruction_set(target.id);
    CAPTURE(target.name);
    REQUIRE(kernels::instruction_set_name() == target.name);
    check();
  }
}

std::vector<std::uint32_t> bits_of(const Floats& values) {
  std::vector<std::uint32_t> bits;
  for (const float v : values) bits.push_back(std::bit_cast<std::uint32_t>(v));
  return bits;
}

float wild(Random& random) {
  static constexpr std::uint32_t kSome[] = {0x00000000, 0x80000000, 0x00000001, 0x807fffff, 0x7f7fffff, 0xff7fffff,
                                            0x7f800000, 0xff800000, 0x7fc00000, 0xffc00001, 0x7f800001, 0xffbfffff,
                                            0x477fe000, 0x477fefff, 0x477ff000, 0x387fffff, 0x38800000, 0x33000000,
                                            0x33000001, 0x7f7f7fff, 0x7f7f8000, 0x43e00000, 0x43e80000, 0x43e80001};
  const std::uint64_t r = random.next();
  if (r % 4 == 0) return std::bit_cast<float>(kSome[r / 4 % std::size(kSome)]);
  if (r % 4 == 1) return std::bit_cast<float>(static_cast<std::uint32_t>(r >> 32));
  return random.normal() * std::ldexp(1.0f, static_cast<int>(r >> 8 & 31) - 20);
}
Floats wild_values(std::size_t n, std::uint64_t seed) {
  Random random(seed);
  Floats values(n);
  for (float& v : values) v = wild(random);
  return values;
}
/// Finite values, zeros of both signs among them.
Floats tame_values(std::size_t n, std::uint64_t seed) {
  Random random(seed);
  Floats values(n);
  for (float& v : values) {
    const std::uint64_t r = random.below(8);
    v = r == 0 ? 0.0f : r == 1 ? -0.0f : r == 2 ? 1e-41f * random.normal() : random.normal();
  }
  return values;
}

float converted(DType type, const std::byte* element) {
  std::uint16_t two = 0;
  switch (type) {
    case DType::f16:
      std::memcpy(&two, element, 2);
      return f16_to_float(two);
    case DType::bf16:
      std::memcpy(&two, element, 2);
      return bf16_to_float(two);
    case DType::f32: {
      float value = 0;
      std::memcpy(&value, element, 4);
      return value;
    }
    case DType::f64: {
      double value = 0;
      std::memcpy(&value, element, 8);
      return static_cast<float>(value);
    }
    default:
      return f8_to_float(type, std::to_integer<std::uint8_t>(*element));
  }
}

void convert(DType type, float value, std::byte* element) {
  const float max = dtype_max(type);
  if (std::isfinite(value) && std::fabs(value) > max) value = std::copysign(max, value);
  const double wide = value;
  const std::uint16_t two = type == DType::f16 ? f16_from_float(value) : bf16_from_float(value);
  if (type == DType::f32) {
    std::memcpy(element, &value, 4);
  } else if (type == DType::f64) {
    std::memcpy(element, &wide, 8);
  } else if (type == DType::f16 || type == DType::bf16) {
    std::memcpy(element, &two, 2);
  } else {
    *element = static_cast<std::byte>(f8_from_float(type, value));
  }
}

/// Lane by lane, then lane after lane, then the rest: see rows.hpp.
void plain_min_max(const Floats& x, float* low, float* high) {
  const std::size_t whole = x.size() / 16 * 16;
  for (std::size_t j = 0; j < std::min<std::size_t>(16, whole); ++j) {
    float lane_low = x[j], lane_high = x[j];
    for (std::size_t i = j + 16; i < whole; i += 16) {
      if (x[i] < lane_low) lane_low = x[i];
      if (x[i] > lane_high) lane_high = x[i];
    }
    if (lane_low < *low) *low = lane_low;
    if (lane_high > *high) *high = lane_high;
  }
  for (std::size_t i = whole; i < x.size(); ++i) {
    if (x[i] < *low) *low = x[i];
    if (x[i] > *high) *high = x[i];
  }
}

}  // namespace

TEST_CASE("kernels: elements to floats, as the scalar conversions") {
  on_every_instruction_set([] {
    for (const DType type : codable_dtypes()) {
      CAPTURE(dtype_name(type));
      const std::size_t unit = dtype_unit(type);
      Random random(1);
      for (std::size_t n = 0; n <= 130; ++n) {
        Bytes elements(n * unit + 1);
        for (std::byte& b : elements) b = static_cast<std::byte>(random.next());
        const ByteView in = ByteView(elements).subspan(1);
        Floats expected(n), got(n);
        for (std::size_t i = 0; i < n; ++i) expected[i] = converted(type, in.data() + i * unit);
        to_float(type, in, got);
        CHECK(bits_of(got) == bits_of(expected));
      }
    }
    for (const DType type : {DType::f16, DType::bf16}) {
      Bytes all(2 << 16);
      for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::byte>(i % 2 == 0 ? i / 2 : i >> 9);
      Floats expected(1 << 16), got(1 << 16);
      for (std::size_t i = 0; i < got.size(); ++i) expected[i] = converted(type, all.data() + 2 * i);
      to_float(type, all, got);
      CHECK(bits_of(got) == bits_of(expected));
    }
  });
}

TEST_CASE("kernels: floats to elements, as the scalar conversions of values within range") {
  on_every_instruction_set([] {
    for (const DType type : codable_dtypes()) {
      CAPTURE(dtype_name(type));
      const std::size_t unit = dtype_unit(type);
      for (std::size_t n = 0; n <= 131; n == 130 ? n = 131 : ++n) {
        const std::size_t count = n == 131 ? 100000 : n;
        const Floats values = wild_values(count, n + 7);
        Bytes expected(count * unit + 1), got(count * unit + 1);
        for (std::size_t i = 0; i < count; ++i) convert(type, values[i], expected.data() + 1 + i * unit);
        from_float(type, values, std::span(got).subspan(1));
        CHECK(got == expected);
      }
    }
  });
}

TEST_CASE("kernels: what is finite, smallest, largest") {
  on_every_instruction_set([] {
    for (std::size_t n = 0; n <= 130; ++n) {
      CAPTURE(n);
      Floats x = tame_values(n, n);
      CHECK(kernels::all_finite(x.data(), n));
      for (const bool from_nothing : {true, false}) {
        float low = from_nothing ? INFINITY : 0.0f, high = from_nothing ? -INFINITY : -0.0f, lo = low, hi = high;
        plain_min_max(x, &low, &high);
        kernels::min_max(x.data(), n, &lo, &hi);
        CHECK(bits_of({lo, hi}) == bits_of({low, high}));
      }
      if (n == 0) continue;
      const float bad[] = {INFINITY, -INFINITY, NAN, -NAN};
      x[n * 7 / 11] = bad[n % 4];
      CHECK_FALSE(kernels::all_finite(x.data(), n));
    }
    // Nothing but zeros: which one is found depends on the order alone.
    for (std::size_t n = 1; n <= 130; ++n) {
      Random random(n);
      Floats x(n);
      for (float& v : x) v = random.below(2) == 0 ? 0.0f : -0.0f;
      float low = INFINITY, high = -INFINITY, lo = low, hi = high;
      plain_min_max(x, &low, &high);
      kernels::min_max(x.data(), n, &lo, &hi);
      CHECK(bits_of({lo, hi}) == bits_of({low, high}));
    }
  });
}

TEST_CASE("kernels: smallest and largest by segments and columns") {
  on_every_instruction_set([] {
    const std::vector<std::uint32_t> edges{0, 1, 33, 33, 65, 72, 200};
    const Floats x = tame_values(200, 5);
    Floats low(6, INFINITY), high(6, -INFINITY), lo = low, hi = high;
    for (std::size_t s = 0; s < 6; ++s) plain_min_max({&x[edges[s]], x.data() + edges[s + 1]}, &low[s], &high[s]);
    kernels::min_max_segments(x.data(), edges.data(), 6, lo.data(), hi.data());
    CHECK(bits_of(lo) == bits_of(low));
    CHECK(bits_of(hi) == bits_of(high));
    for (std::size_t n = 0; n <= 130; ++n) {
      low.assign(n, INFINITY), high.assign(n, -INFINITY), lo = low, hi = high;
      for (std::uint64_t row = 0; row < 3; ++row) {
        const Floats values = tame_values(n, row);
        for (std::size_t i = 0; i < n; ++i) {
          if (values[i] < low[i]) low[i] = values[i];
          if (values[i] > high[i]) high[i] = values[i];
        }
        kernels::min_max_columns(values.data(), n, lo.data(), hi.data());
      }
      CHECK(bits_of(lo) == bits_of(low));
      CHECK(bits_of(hi) == bits_of(high));
    }
  });
}

TEST_CASE("kernels: codes of a quantiser and their values") {
  on_every_instruction_set([] {
    for (std::size_t n = 0; n <= 130; ++n) {
      CAPTURE(n);
      const Floats x = n % 3 == 0 ? wild_values(n, n) : tame_values(n, n), low = tame_values(n, n + 1);
      const Floats sum = wild_values(n, n + 3);
      Floats step = tame_values(n, n + 2);
      if (n > 5) step[5] = INFINITY;
      for (const float top : {3.0f, 254.0f, 65534.0f}) {
        for (const bool multiply : {false, true}) {
          const float zero = multiply ? top / 2 : 0;
          const kernels::QuantColumns q{low.data(), step.data(), step.data(), multiply, zero, multiply ? top / 2 : 1.0f,
                                        top};
          Codes codes(n), high(n), expected_codes(n), expected_high(n);
          Floats expected(n), expected_sum(n);
          for (std::size_t i = 0; i < n; ++i) {
            const float v = (multiply ? (x[i] - low[i]) * step[i] : (x[i] - low[i]) / step[i]) + zero;
            const float held = !(v > 0) ? 0 : v < top ? v : top;
            const auto code = static_cast<unsigned>(std::nearbyint(held));
            expected_codes[i] = static_cast<std::uint8_t>(code);
            expected_high[i] = static_cast<std::uint8_t>(code >> 8);
            expected[i] = (static_cast<float>(code) - zero) / q.unit * step[i] + low[i];
            expected_sum[i] = sum[i] + expected[i];
            expected[i] += 0.0f;
          }
          const bool wide = top > 255;
          kernels::quantise(x.data(), n, q, codes.data(), wide ? high.data() : nullptr);
          CHECK(codes == expected_codes);
          if (wide) CHECK(high == expected_high);
          Floats got(n), got_sum = sum;
          kernels::dequantise(codes.data(), wide ? high.data() : nullptr, n, q, got.data());
          kernels::dequantise_add(codes.data(), wide ? high.data() : nullptr, n, q, got_sum.data());
          for (std::size_t i = 0; i < n; ++i) {
            if (std::isnan(expected[i])) expected[i] = got[i] = NAN;  // its sign and payload are the machine's
            if (std::isnan(expected_sum[i]) && std::isnan(got_sum[i])) expected_sum[i] = got_sum[i] = NAN;
          }
          CHECK(bits_of(got) == bits_of(expected));
          CHECK(bits_of(got_sum) == bits_of(expected_sum));
        }
      }
    }
  });
}

TEST_CASE("kernels: numbers of segments spread over columns") {
  on_every_instruction_set([] {
    const std::vector<std::uint32_t> edges{0, 1, 2, 34, 34, 67, 130};
    const Floats values = tame_values(6, 1);
    Floats out(130 + kernels::kSpreadSlack, -1.0f);
    kernels::spread(values.data(), edges.data(), 6, out.data());
    for (std::size_t s = 0; s < 6; ++s) {
      for (std::size_t i = edges[s]; i < edges[s + 1]; ++i) CHECK(bits_of({out[i]}) == bits_of({values[s]}));
    }
  });
}

TEST_CASE("kernels: differences of rows") {
  on_every_instruction_set([] {
    for (std::size_t n = 0; n <= 130; ++n) {
      CAPTURE(n);
      const Floats a = tame_values(n, n), b = tame_values(n, n + 1);
      Codes taken(n);
      for (std::size_t i = 0; i < n; ++i) taken[i] = i % 5 == 2 ? 1 : 0;
      for (const bool some : {false, true}) {
        Floats got = a, expected = a;
        for (std::size_t i = 0; i < n; ++i) expected[i] = some && taken[i] != 0 ? 0.0f : a[i] - b[i];
        kernels::subtract(b.data(), some ? taken.data() : nullptr, n, got.data());
        CHECK(bits_of(got) == bits_of(expected));
      }
    }
  });
}

TEST_CASE("kernels: bits of every width, least significant first") {
  on_every_instruction_set([] {
    for (unsigned width = 1; width <= 8; ++width) {
      CAPTURE(width);
      for (std::size_t n = 0; n <= 130; ++n) {
        Random random(n);
        Codes symbols(n + 1), expected((n * width + 7) / 8), got(expected.size() + 1), back(n + 1);
        for (std::size_t i = 0; i < n; ++i) {
          symbols[i + 1] = static_cast<std::uint8_t>(random.below(1u << width));
          for (std::size_t bit = 0; bit < width; ++bit) {
            const std::size_t at = i * width + bit;
            expected[at / 8] = static_cast<std::uint8_t>(expected[at / 8] | (symbols[i + 1] >> bit & 1) << at % 8);
          }
        }
        kernels::pack_bits(symbols.data() + 1, n, width, got.data() + 1);
        CHECK(Codes(got.begin() + 1, got.end()) == expected);
        kernels::unpack_bits(got.data() + 1, n, width, back.data() + 1);
        CHECK(back == symbols);
        std::uint8_t most = 0;
        for (std::size_t i = 1; i <= n; ++i) most = std::max(most, symbols[i]);
        CHECK(kernels::largest(symbols.data() + 1, n) == most);
      }
    }
  });
}

TEST_CASE("kernels: presets give the same bytes and values on every target") {
  // Each type and each kind of data; types meet kinds in the tests of single kernels.
  constexpr std::array<std::pair<DType, Fill>, 4> kKinds{{{DType::bf16, Fill::ordinary},
                                                          {DType::bf16, Fill::huge},
                                                          {DType::f16, Fill::specials},
                                                          {DType::f8_e5m2, Fill::ordinary}}};
  for (const std::pair<DType, Fill>& kind : kKinds) {
    auto reader = sample_reader(sample_specs(2, 131, kind.first, 2, 37), kind.second);
    for (const PresetText& preset : builtin_presets()) {
      CAPTURE(preset.name);
      const KvzOptions options{RuleSet::builtin(preset.name), 70, {}};
      const Bytes container = compressed(*reader, options);
      const auto values = decompressed(container);
      on_every_instruction_set([&] {
        CHECK(compressed(*reader, options) == container);
        CHECK(decompressed(container) == values);
      });
    }
  }
}

}  // namespace kvzip::test
