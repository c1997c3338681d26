// SPDX-License-Identifier: Apache-2.0
// How the coder `rans` codes magnitudes: a second decoder, written from man/kvz.5 with one lane after the other and
// without vectors, reads what it wrote; its length is held against the logarithms of the intervals.
#include <fmt/format.h>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "codec/coders/coders.hpp"
#include "codec/kernels/rans_lanes.hpp"
#include "codec/magnitudes.hpp"
#include "kvzip/error.hpp"
#include "tests/contract/every_instruction_set.hpp"
#include "tests/contract/reference_adapt.hpp"

namespace kvzip::test {
namespace {

constexpr std::uint64_t kTotal = 32768;

struct Words {
  const Bytes& body;
  std::size_t at = 0;

  unsigned byte() { return static_cast<unsigned>(body.at(at++)); }
  unsigned word() {
    const unsigned low = byte();
    return low | byte() << 8;
  }
};

using Row = std::array<std::uint64_t, 17>;  // boundaries

Row boundaries(const std::array<std::uint64_t, 16>& x) {
  std::uint64_t sum = 0, below = 0;
  for (const std::uint64_t w : x) sum += w;
  Row b{};
  for (std::size_t i = 0; i < 16; ++i) {
    b[i] = below * (kTotal - 16) / sum + i;
    below += x[i];
  }
  b[16] = kTotal;
  return b;
}

std::vector<Row> stored_rows(const Bytes& table) {
  std::size_t bit = 8;
  const auto next = [&] {
    const unsigned b = static_cast<unsigned>(table.at(bit / 8)) >> bit % 8 & 1;
    ++bit;
    return b;
  };
  std::vector<Row> rows;
  int j = 0;
  for (int context = 0; context < 16; ++context) {
    std::array<std::uint64_t, 16> x{};
    for (std::uint64_t& w : x) {
      unsigned v = 0;
      while (next() == 1) ++v;
      for (unsigned i = 0, rice = static_cast<unsigned>(table.at(0)); i < rice; ++i) {
        if (i == 0) v <<= rice;
        v |= next() << i;
      }
      j += v % 2 == 0 ? static_cast<int>(v / 2) : -static_cast<int>((v + 1) / 2);
      REQUIRE(j >= 0);
      REQUIRE(j < 64);
      const unsigned octave = j == 0 ? 0 : static_cast<unsigned>(j - 1) / 2;
      w = j == 0 ? 1 : j % 2 == 1 ? std::uint64_t{4} << octave : (std::uint64_t{724} << octave) >> 7;
    }
    rows.push_back(boundaries(x));
  }
  CHECK((bit + 7) / 8 == table.size());
  return rows;
}

std::vector<Row> geometric_rows(unsigned first, unsigned h) {
  static constexpr unsigned kBits[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 3, 5, 8, 14};
  std::vector<Row> rows;
  for (unsigned k = 0; k < 16; ++k) {
    const double m = std::bit_cast<float>(((first + k) << h) + (1u << (h - 1))), p = m / (1 + m);
    std::array<std::uint64_t, 16> x{};
    double a = 1;
    for (unsigned i = 0; i < 16; ++i) {
      double n = a;
      for (unsigned times = 1u << std::min(kBits[i], 9u); times > 0; --times) n = n * p;
      if (i == 15) n = 0;
      x[i] = 1 + static_cast<std::uint64_t>(std::floor((a - n) * 1048576));
      a = n;
    }
    rows.push_back(boundaries(x));
  }
  return rows;
}

struct Read {
  std::vector<std::uint8_t> symbols;
  unsigned flags = 0;
  double bits = 0;  // that the intervals say
};

int gain_of(const Stream& s, std::size_t row, std::size_t column) {
  std::size_t span = 0;
  while (!s.gains.values.empty() && s.gains.spans[span] <= column) ++span;
  return s.gains.values.empty() ? 0 : s.gains.values[row * s.gains.spans.size() + span];
}

Read by_the_page(const Stream& shape, const Bytes& table, const Bytes& body) {
  Words in{body};
  REQUIRE(in.byte() == 5);
  Read out;
  out.flags = in.byte();
  const unsigned base = in.word(), start = in.word();
  const unsigned h = (out.flags & 2) != 0 ? 23 : 22, first = (out.flags & 2) != 0 ? base / 2 : base;
  const std::vector<Row> rows = (out.flags & 1) != 0 ? stored_rows(table) : geometric_rows(first, h);
  CHECK(((out.flags & 1) != 0 || table.empty()));
  std::array<std::uint32_t, 64> states{};
  for (std::uint32_t& x : states) {
    const unsigned half = in.word();
    x = half | in.word() << 16;
  }
  const std::size_t cols = shape.cols;
  out.symbols.resize(shape.count());
  for (std::size_t group = 0; group < cols; group += 64) {
    std::array<float, 64> means{};
    means.fill(std::bit_cast<float>(start << 22));
    for (std::size_t t = 0; t < shape.rows; ++t) {
      for (std::size_t l = 0; l < 64 && group + l < cols; ++l) {
        const int g = gain_of(shape, t, group + l);
        float& m = means[l];
        const float expected = m * reference::half_octaves(g);
        const int k = static_cast<int>(std::bit_cast<std::uint32_t>(expected) >> h) - static_cast<int>(first);
        const Row& b = rows[static_cast<std::size_t>(std::min(std::max(k, 0), 15))];
        std::uint32_t& x = states[l];
        const std::uint32_t v = x % 32768;
        unsigned s = 0;
        while (b[s + 1] <= v) ++s;
        const auto from = static_cast<std::uint32_t>(b[s]), size = static_cast<std::uint32_t>(b[s + 1] - b[s]);
        out.bits += 15 - std::log2(size);
        x = x / 32768 * size + v - from;
        if (x < 32768) x = x * 65536 + in.word();
        out.symbols[t * cols + group + l] = static_cast<std::uint8_t>(s);
        const auto magnitude = static_cast<float>(s < 8 ? s : s + (s - 8) * (s - 8));
        const float d = 1.0f / static_cast<float>(std::min<std::size_t>(t + 2, 25));
        m = m + (magnitude * reference::half_octaves(-g) - m) * d;
        if (m < 0x1p-20f) m = 0x1p-20f;
      }
    }
  }
  for (const std::uint32_t x : states) CHECK(x == 32768);
  CHECK(in.at == body.size());
  return out;
}

enum class Law : std::uint8_t { laplace, uniform, spread, zeros, late };

/// Classes of magnitudes whose channels differ in size; rows follow their gains, of which each has `gains`.
Stream classes(std::uint32_t rows, std::uint32_t cols, Law law, std::uint32_t gains) {
  Stream s = symbol_stream(StreamLabel::codes, rows, cols, kMagnitudeClasses);
  s.magnitudes = true;
  reference::Random random(rows * 31 + cols + 1000 * gains);
  // Spans that grow, from one column on; two or three of them as wide as groups of lanes, where there is room.
  for (std::uint32_t i = 1; i <= gains; ++i) {
    const std::uint32_t wide = cols > 64 * (gains - 1) && gains < 4 ? 64 * i : i * (i + 1) / 2;
    s.gains.spans.push_back(i == gains ? cols : wide);
  }
  for (std::uint32_t i = 0; i < rows * gains; ++i)
    s.gains.values.push_back(static_cast<std::int8_t>(random.below(9)) - 4);
  if (rows > 2 && gains > 0) s.gains.values[1] = 31, s.gains.values[2] = -31;
  for (std::size_t i = 0; i < s.count(); ++i) {
    const std::size_t c = i % cols;
    const float gain = reference::half_octaves(gain_of(s, i / cols, c));
    const double size =
        law == Law::spread ? std::exp2(static_cast<double>(c % 16)) / 32 : 0.3 * static_cast<double>(1 + c % 5);
    const double u = static_cast<double>(random.next() >> 11) * 0x1p-53;
    const auto magnitude = static_cast<unsigned>(std::min(-std::log(1 - u) * size * gain, 16703.0));
    unsigned symbol = 0;
    while (symbol < 15 && kClassBase[symbol + 1] <= magnitude) ++symbol;
    if (law == Law::uniform) symbol = static_cast<unsigned>(random.below(16));
    if (law == Law::zeros) symbol = 0;
    // Silent until running means have come down to their least, then of few classes.
    if (law == Law::late) symbol = i / cols < rows / 2 ? 0 : static_cast<unsigned>(3 * random.below(4));
    s.data.push_back(static_cast<std::uint8_t>(symbol));
  }
  s.data[s.count() - 1] = 1;  // so that they are never of one class
  return s;
}

std::unique_ptr<Coder> rans(std::string_view model = "model=both") {
  auto coder = make_rans();
  const std::vector<std::string_view> items{model};
  parse_fields(*coder, "rans", items);
  return coder;
}

}  // namespace

TEST_CASE("rans: a decoder written from the page reads magnitudes, and every instruction set writes the same bytes") {
  struct Size {
    std::uint32_t rows, cols;
  };
  const auto coder = rans();
  unsigned seen = 0, unseen = 0;
  for (const Size size : {Size{400, 64}, Size{1100, 1}, Size{300, 5}, Size{20, 200}, Size{64, 70}, Size{2, 1000},
                          Size{1, 1024}, Size{150, 129}}) {
    for (const Law law : {Law::laplace, Law::uniform, Law::spread, Law::zeros, Law::late}) {
      for (const std::uint32_t gains : {0u, 1u, 2u, 3u, 14u}) {
        if (gains * gains > 2 * size.cols) continue;
        CAPTURE(size.rows);
        CAPTURE(size.cols);
        CAPTURE(static_cast<int>(law));
        CAPTURE(gains);
        const Stream s = classes(size.rows, size.cols, law, gains);
        Bytes table;
        const Bytes body = on_every_instruction_set([&] {
          Bytes t, b;
          coder->encode(s, t, b);
          table = t;
          t.insert(t.end(), b.begin(), b.end());
          return t;
        });
        const Bytes coded(body.begin() + static_cast<std::ptrdiff_t>(table.size()), body.end());
        const Read read = by_the_page(s, table, coded);
        CHECK(std::ranges::equal(read.symbols, s.data));
        seen |= read.flags;
        unseen |= ~read.flags;
        CHECK(std::fabs(static_cast<double>(8 * coded.size()) - read.bits) < 0.02 * read.bits + 64 * 32 + 48);
        const std::vector<std::uint8_t> back = on_every_instruction_set([&] {
          Stream decoded = s;
          decoded.data.clear();
          coder->decode(decoded, table, coded);
          return std::vector<std::uint8_t>(decoded.data.begin(), decoded.data.end());
        });
        CHECK(std::ranges::equal(back, s.data));
      }
    }
  }
  CHECK((seen & 3) == 3);  // with and without a table, contexts of octaves and of half octaves
  CHECK((unseen & 3) == 3);
}

TEST_CASE("rans: gains tell how large magnitudes are") {
  const Stream with = classes(400, 64, Law::laplace, 1);
  Stream without = with;
  without.gains = {};
  Bytes t1, b1, t2, b2;
  rans()->encode(with, t1, b1);
  rans()->encode(without, t2, b2);
  CHECK(t1.size() + b1.size() < 0.95 * static_cast<double>(t2.size() + b2.size()));
  // Those of seven spans, too, against the first one's for all.
  const Stream seven = classes(400, 64, Law::laplace, 7);
  Stream one = seven;
  one.gains = {{}, {64}};
  for (std::size_t r = 0; r < 400; ++r) one.gains.values.push_back(seven.gains.row(r)[0]);
  t1.clear(), b1.clear(), t2.clear(), b2.clear();
  rans()->encode(seven, t1, b1);
  rans()->encode(one, t2, b2);
  CHECK(t1.size() + b1.size() < 0.95 * static_cast<double>(t2.size() + b2.size()));
}

TEST_CASE("rans: magnitudes are ordinary symbols to the other models, and where they are few") {
  const Stream s = classes(100, 64, Law::laplace, 1), few = classes(3, 100, Law::laplace, 0);
  Stream plain = s;
  plain.magnitudes = false;
  plain.gains = {};
  Bytes t1, b1, t2, b2;
  for (const std::string_view model : {"model=adaptive", "model=static"}) {
    rans(model)->encode(s, t1, b1);
    rans(model)->encode(plain, t2, b2);
    CHECK(b1 == b2);
    CHECK(t1 == t2);
    Stream back = s;
    back.data.clear();
    rans()->decode(back, t1, b1);
    CHECK(back.data == s.data);
  }
  t1.clear(), b1.clear();
  rans()->encode(few, t1, b1);
  CHECK(b1[0] <= std::byte{1});
  // A stream of other symbols has no such form.
  rans()->encode(s, t1, b1);
  CHECK(b1[0] == std::byte{5});
  CHECK_THROWS_AS(rans()->decode(plain, t1, b1), Error);
}

TEST_CASE("rans: contexts an octave apart begin at whole octaves") {
  const Stream s = classes(400, 64, Law::spread, 0);
  Bytes table, body;
  rans()->encode(s, table, body);
  REQUIRE((std::to_integer<unsigned>(body[1]) & 2) != 0);
  body[2] |= std::byte{1};  // an odd base is that of the octave it lies in
  Stream back = s;
  back.data.clear();
  rans()->decode(back, table, body);
  CHECK(back.data == s.data);
  CHECK(std::ranges::equal(by_the_page(s, table, body).symbols, s.data));
}

TEST_CASE("rans: magnitudes of one class take two bytes") {
  for (const std::uint32_t rows : {1u, 3u, 2048u}) {
    Stream s = classes(rows, 192, Law::laplace, 1);
    std::fill(s.data.begin(), s.data.end(), static_cast<std::uint8_t>(rows == 3 ? 15 : 0));
    Bytes table, body;
    rans()->encode(s, table, body);
    CHECK(table.empty());
    CHECK(body == Bytes{std::byte{6}, std::byte{s.data[0]}});
    Stream back = s;
    back.data.clear();
    rans()->decode(back, table, body);
    CHECK(back.data == s.data);
    for (const Bytes& bad :
         {Bytes{std::byte{6}}, Bytes{std::byte{6}, std::byte{16}}, Bytes{std::byte{6}, std::byte{0}, std::byte{0}}}) {
      CHECK_THROWS_AS(rans()->decode(back, table, bad), Error);
    }
    CHECK_THROWS_AS(rans()->decode(back, Bytes(1), body), Error);
    back.magnitudes = false;  // other symbols have no such form
    CHECK_THROWS_AS(rans()->decode(back, table, body), Error);
  }
}

TEST_CASE("rans: fields of magnitudes that mean nothing are refused") {
  const Stream s = classes(100, 64, Law::laplace, 0);
  Bytes table, body;
  rans()->encode(s, table, body);
  const auto refused = [&](std::size_t at, unsigned low, unsigned high) {
    Bytes bad = body;
    bad[at] = static_cast<std::byte>(low);
    if (at > 1) bad[at + 1] = static_cast<std::byte>(high);
    Stream back = s;
    back.data.clear();
    try {
      rans()->decode(back, table, bad);
    } catch (const Error& e) {
      return e.code() == ErrorCode::corrupt || e.code() == ErrorCode::truncated;
    }
    return false;
  };
  CHECK(refused(1, 4, 0));
  CHECK(refused(1, 128, 0));
  for (const std::size_t at : {2u, 4u}) {
    CHECK(refused(at, 205, 0));
    CHECK(refused(at, 303 - 256, 1));
    CHECK(refused(at, 0, 255));
  }
}

TEST_CASE("rans: gains are powers of the root of two, and classes count as their lower ends or a little more") {
  for (int g = -31; g <= 31; ++g) {
    CAPTURE(g);
    CHECK(kernels::rans_gain(g) == reference::half_octaves(g));
    CHECK(std::fabs(kernels::rans_gain(g) / std::exp2(g / 2.0) - 1) < 1e-7);
  }
  const float expected[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 14, 20, 28, 38, 50, 64};
  for (unsigned c = 0; c < 16; ++c) CHECK(kernels::rans_magnitude(c) == expected[c]);
}

TEST_CASE("rans: running means begin where they are told and stop falling at 2^-20") {
  const std::vector<std::uint8_t> silent(700, 0);
  const auto codes = on_every_instruction_set([&] {
    std::vector<std::uint16_t> out(silent.size());
    kernels::rans_scale_codes({nullptr, {}, 8.0f, 22, 0}, {silent.size(), 1}, 0, silent.data(), out.data());
    return out;
  });
  CHECK(codes[0] == 2 * (127 + 3));
  CHECK(codes[1] == 2 * (127 + 2));  // halved
  CHECK(codes.back() == 2 * (127 - 20));
}

}  // namespace kvzip::test
