// SPDX-License-Identifier: Apache-2.0
// The coder `rans`: its streams are read by a second decoder, written from man/kvz.5 with one state after the other and
// without vectors; their length is held against the logarithms of the intervals and against the channels' entropy.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "codec/coders/coders.hpp"
#include "codec/kernels/instruction_set.hpp"
#include "tests/contract/sample_tiles.hpp"

namespace kvzip::test {
namespace {

constexpr int kTotal = 32768;

struct BestSetAgain {
  ~BestSetAgain() { kernels::use_instruction_set(0); }
};

std::unique_ptr<Coder> rans(std::string_view model) {
  for (const auto& row : coder_table()) {
    if (row.name != "rans") continue;
    auto coder = row.make();
    const std::string item = fmt::format("model={}", model);
    const std::vector<std::string_view> items{item};
    parse_fields(*coder, "rans", items);
    return coder;
  }
  return nullptr;
}

/// Channels of different means and widths, each symbol pulled towards the one before.
Stream walk(std::uint32_t alphabet, std::uint32_t rows, std::uint32_t cols, double width, double memory) {
  Stream s;
  s.type = StreamType::symbols;
  s.alphabet = alphabet;
  s.rows = rows;
  s.cols = cols;
  s.data.resize(s.count());
  Random random(alphabet + rows);
  for (std::uint32_t c = 0; c < cols; ++c) {
    const double mean = alphabet / 2.0 + width * random.normal(), own = width * (0.4 + 0.2 * (c % 5));
    double x = random.normal();
    for (std::uint32_t t = 0; t < rows; ++t) {
      x = memory * x + std::sqrt(1 - memory * memory) * random.normal();
      const double v = std::clamp(std::round(mean + own * x), 0.0, alphabet - 1.0);
      s.data[std::size_t{t} * cols + c] = static_cast<std::uint8_t>(v);
    }
  }
  return s;
}

std::vector<int> bounds(const std::vector<std::uint64_t>& x) {
  const std::uint64_t n = x.size();
  std::uint64_t sum = 0, below = 0;
  for (const auto w : x) sum += w;
  std::vector<int> b;
  for (std::uint64_t i = 0; i < n; ++i) {
    b.push_back(static_cast<int>(below * (kTotal - n) / sum + i));
    below += x[i];
  }
  b.push_back(kTotal);
  return b;
}

std::uint64_t weight(unsigned j) {
  if (j == 0) return 1;
  return j % 2 == 1 ? std::uint64_t{4} << ((j - 1) / 2) : (std::uint64_t{724} << ((j - 2) / 2)) >> 7;
}

/// The second decoder. Also adds up what the intervals say the words should cost.
struct Reader {
  const Bytes& body;
  std::size_t at = 0;
  std::array<std::uint32_t, 64> states{};
  double bits = 0;

  unsigned byte() { return static_cast<unsigned>(body.at(at++)); }
  unsigned word() {
    const unsigned low = byte();
    return low | byte() << 8;
  }
  unsigned varint() {
    unsigned v = 0;
    for (unsigned shift = 0;; shift += 7) {
      const unsigned b = byte();
      v |= (b & 127) << shift;
      if (b < 128) return v;
    }
  }
  int symbol(std::size_t lane, const std::vector<int>& b) {
    std::uint32_t& x = states[lane];
    const int v = static_cast<int>(x % kTotal);
    int s = 0;
    while (b[static_cast<std::size_t>(s) + 1] <= v) ++s;
    const int from = b[static_cast<std::size_t>(s)], size = b[static_cast<std::size_t>(s) + 1] - from;
    bits += 15 - std::log2(size);
    x = x / kTotal * static_cast<std::uint32_t>(size) + static_cast<std::uint32_t>(v - from);
    if (x < kTotal) x = x * 65536 + word();
    return s;
  }
};

struct Decoded {
  std::vector<std::uint8_t> symbols;
  double bits = 0, word_bytes = 0;
  unsigned flags = 0;
};

Decoded decode_lanes(const Stream& shape, const Bytes& table, const Bytes& body) {
  Reader in{body};
  REQUIRE(in.byte() == 2);
  Decoded out;
  out.flags = in.byte();
  const unsigned k = out.flags % 8, u = in.byte(), base = in.byte();
  std::vector<unsigned> apart;
  if ((out.flags & 64) != 0) {
    apart.resize(in.varint());
    for (unsigned& s : apart) s = in.byte();
  }
  const std::size_t n = shape.count();
  std::vector<unsigned> low(n, 0), upper(n);
  if (k > 0 && (out.flags & 32) == 0) {
    std::size_t bit = 0;
    for (unsigned& v : low) {
      for (unsigned i = 0; i < k; ++i, ++bit)
        v |= (static_cast<unsigned>(body.at(in.at + bit / 8)) >> bit % 8 & 1) << i;
    }
    in.at += (bit + 7) / 8;
  }
  const std::size_t uppers = (out.flags & 16) != 0 ? u * u : 0, lows = (out.flags & 32) != 0 ? std::size_t{u} << k : 0;
  std::vector<unsigned> classes;
  if (uppers + lows != 0) {
    const unsigned j = static_cast<unsigned>(table.at(0));
    std::size_t bit = 8;
    const auto next_bit = [&] {
      const unsigned b = static_cast<unsigned>(table.at(bit / 8)) >> bit % 8 & 1;
      ++bit;
      return b;
    };
    int before = 0;
    while (classes.size() < uppers + lows) {
      unsigned v = 0;
      while (next_bit() == 1) ++v;
      v <<= j;
      for (unsigned i = 0; i < j; ++i) v |= next_bit() << i;
      before += v % 2 == 0 ? static_cast<int>(v / 2) : -static_cast<int>(v / 2) - 1;
      classes.push_back(static_cast<unsigned>(before));
    }
    CHECK((bit + 7) / 8 == table.size());
  }
  const auto row = [&](std::size_t from, std::size_t count) {
    std::vector<std::uint64_t> x;
    for (std::size_t i = 0; i < count; ++i) x.push_back(weight(classes.at(from + i)));
    return x;
  };

  for (auto& x : in.states) {
    const unsigned half = in.word();
    x = half | in.word() << 16;
  }
  const std::size_t words = in.at;
  const std::size_t w = shape.cols >= 64 ? shape.cols : shape.cols * (64 / shape.cols), rows = (n + w - 1) / w;
  std::vector<std::uint64_t> sums(u, 1);
  if (uppers != 0) {
    std::fill(sums.begin(), sums.end(), 0);
    for (unsigned c = 0; c < u; ++c) {
      const auto x = row(c * u, u);
      for (unsigned i = 0; i < u; ++i) sums[i] += x[i];
    }
  }
  const auto in_order = [&](auto&& f) {
    for (std::size_t g = 0; g < w; g += 64) {
      for (std::size_t t = 0; t < rows; ++t) {
        for (std::size_t l = 0; l < 64 && g + l < w && t * w + g + l < n; ++l) f(t, l, t * w + g + l);
      }
    }
  };
  std::vector<std::vector<int>> a(64);
  in_order([&](std::size_t t, std::size_t l, std::size_t i) {
    if (t == 0) a[l] = bounds(sums);
    const unsigned context = t == 0 ? u / 2 : upper[i - w];
    std::vector<int> b = a[l];
    if (uppers != 0) {
      const auto fixed = bounds(row(context * u, u));
      for (unsigned j = 1; j < u; ++j) b[j] = (out.flags & 8) != 0 ? (b[j] + fixed[j] + 1) >> 1 : fixed[j];
    }
    upper[i] = static_cast<unsigned>(in.symbol(l, b));
    const int h = t < 2 ? 3 : t < 24 ? 4 : t < 96 ? 5 : t < 384 ? 6 : t < 1536 ? 7 : 8;
    for (unsigned j = 1; j < u; ++j) {
      const int target = static_cast<int>(j) + (j <= upper[i] ? 0 : 32752);
      a[l][j] += (target - a[l][j]) >> h;
    }
  });
  if (lows != 0) {
    in_order([&](std::size_t, std::size_t l, std::size_t i) {
      low[i] = static_cast<unsigned>(in.symbol(l, bounds(row(uppers + (upper[i] << k), std::size_t{1} << k))));
    });
  }
  for (const auto x : in.states) CHECK(x == kTotal);
  CHECK(in.at == body.size());
  std::size_t next = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const bool escaped = (out.flags & 64) != 0 && upper[i] == u - 1;
    out.symbols.push_back(static_cast<std::uint8_t>(escaped ? apart.at(next++) : ((upper[i] + base) << k) + low[i]));
  }
  CHECK(next == apart.size());
  out.bits = in.bits;
  out.word_bytes = static_cast<double>(body.size() - words);
  return out;
}

}  // namespace

TEST_CASE("rans: a decoder written from the page reads every form, and every target writes the same bytes") {
  const BestSetAgain again;
  unsigned seen = 0;
  for (const std::string_view model : {"both", "adaptive", "static"}) {
    CAPTURE(model);
    const auto coder = rans(model);
    for (const Stream& s :
         {walk(16, 300, 64, 2.5, 0.6), walk(3, 200, 45, 0.7, 0), walk(31, 256, 70, 3, 0.5), walk(128, 256, 64, 18, 0.5),
          walk(256, 600, 33, 2.6, 0.3), walk(256, 500, 40, 9, 0.9), walk(40, 1001, 7, 4, 0.2)}) {
      CAPTURE(s.alphabet);
      Bytes table, body;
      kernels::use_instruction_set(0);
      coder->encode(s, table, body);
      const Decoded decoded = decode_lanes(s, table, body);
      CHECK(std::ranges::equal(decoded.symbols, s.data));
      seen |= decoded.flags;
      // 16-bit words from states of at least 2^15: hardly more than the intervals' logarithms.
      CHECK(decoded.word_bytes * 8 <= decoded.bits * 1.001 + 64 * 16);
      for (const auto& target : kernels::instruction_sets()) {
        CAPTURE(target.name);
        kernels::use_instruction_set(target.id);
        Bytes table2, body2;
        coder->encode(s, table2, body2);
        CHECK(table2 == table);
        CHECK(body2 == body);
        Stream back = s;
        back.data.clear();
        coder->decode(back, table, body);
        CHECK(back.data == s.data);
      }
    }
  }
  CHECK((seen & 120) == 120);  // adaptive, table, coded low bits, escapes: all were met
}

TEST_CASE("rans: within 2 % of the channels' entropy once there is something to learn from") {
  const Stream s = walk(16, 4096, 64, 2.5, 0);
  double entropy = 0;
  for (std::uint32_t c = 0; c < s.cols; ++c) {
    std::array<double, 16> count{};
    for (std::uint32_t t = 0; t < s.rows; ++t) ++count[s.data[std::size_t{t} * s.cols + c]];
    for (const double n : count) entropy -= n == 0 ? 0 : n * std::log2(n / s.rows);
  }
  for (const std::string_view model : {"both", "adaptive"}) {
    CAPTURE(model);
    Bytes table, body;
    rans(model)->encode(s, table, body);
    CHECK(static_cast<double>(table.size() + body.size()) * 8 < 1.02 * entropy);
  }
}

TEST_CASE("rans: few numbers are stored as distances in the order of floats") {
  Stream s;
  s.type = StreamType::elements;
  s.width = 2;
  s.rows = 1;
  s.cols = 8;
  // Half precision 1.0, 1.0 + 2^-10, 1.5, 2.0 - 2^-10, 2.0, 1.25, 1.0, 1.0: 0x3c00 + 0, 1, 0x200, 0x3ff, 0x400, 0x100,
  // 0, 0.
  for (const unsigned v : {0x3c00u, 0x3c01u, 0x3e00u, 0x3fffu, 0x4000u, 0x3d00u, 0x3c00u, 0x3c00u}) {
    s.data.push_back(static_cast<std::uint8_t>(v));
    s.data.push_back(static_cast<std::uint8_t>(v >> 8));
  }
  Bytes table, body;
  rans("both")->encode(s, table, body);
  // Method 4, 11 bits, 0x3c00 with its sign bit turned over, then 88 bits of distances, least significant first.
  const std::vector<unsigned> expected{4,    11,   0x00, 0xbc, 0x00, 0x08, 0x00, 0x80,
                                       0xfe, 0x07, 0x40, 0x80, 0x00, 0x00, 0x00};
  std::vector<unsigned> found;
  for (const std::byte b : body) found.push_back(static_cast<unsigned>(b));
  CHECK(found == expected);
  CHECK(table.empty());
  // Around zero: -2^-24 and 2^-24 are two steps apart, past -0 and +0.
  s.data.clear();
  for (const unsigned v : {0x8001u, 0x8000u, 0x0000u, 0x0001u, 0x8001u, 0x0001u, 0x0000u, 0x8000u}) {
    s.data.push_back(static_cast<std::uint8_t>(v));
    s.data.push_back(static_cast<std::uint8_t>(v >> 8));
  }
  rans("both")->encode(s, table, body);
  CHECK(body.size() == 4 + 2);
  Stream back = s;
  back.data.clear();
  rans("both")->decode(back, table, body);
  CHECK(back.data == s.data);
}

}  // namespace kvzip::test
