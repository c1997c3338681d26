// SPDX-License-Identifier: Apache-2.0
// CacheGen (arXiv 2310.07240) and the serde of its released code: arithmetic coder, tables, quantiser, differences to
// anchors, and which layer gets how many bins.
#include <fmt/format.h>

#include <array>
#include <set>

#include "codec/coders/cachegen_ac.hpp"
#include "tests/contract/reference_drive.hpp"

using namespace kvzip;
using namespace kvzip::test;
namespace ref = kvzip::reference;

namespace {

using Symbols = std::vector<std::uint8_t>;

std::string hex(const Bytes& bytes) {
  std::string text;
  for (const std::byte b : bytes) text += fmt::format("{:02x}", static_cast<unsigned>(b));
  return text;
}

std::string coded(const Symbols& symbols, unsigned bins) {
  Bytes out;
  cachegen_encode(symbols, cachegen_cdf(symbols, bins), out);
  return hex(out);
}

/// B bins hold the B - 1 levels of M = B / 2 - 1 on each side of zero.
constexpr int levels_of_bins(int bins) {
  return 2 * (bins / 2 - 1) + 1;
}

/// One absolute maximum per token over all heads.
std::vector<float> direct(const Matrix& m, int levels, const Format& f) {
  auto x = ref::absolute_maximum(m.v, ref::along_channels(m, 0, m.rows, m.cols(), m.cols()), levels, f);
  ref::to_format(x, f);
  return x;
}

/// Of every ten tokens the first at 8 bits, the others as differences to it, each token with its own maximum.
std::vector<float> anchored(const Matrix& m, int levels, const Format& f) {
  const auto tokens = ref::along_channels(m, 0, m.rows, m.cols(), m.cols());
  std::vector<ref::Group> anchors, others;
  for (std::size_t t = 0; t < tokens.size(); ++t) (t % 10 == 0 ? anchors : others).push_back(tokens[t]);
  auto x = ref::absolute_maximum(m.v, anchors, 255, f);
  const auto base = [&](std::size_t i) { return x[i / m.cols() / 10 * 10 * m.cols() + i % m.cols()]; };
  std::vector<float> difference(x.size());
  for (const auto& token : others) {
    for (const std::size_t i : token) difference[i] = m.v[i] - base(i);
  }
  difference = ref::absolute_maximum(difference, others, levels, f);
  for (const auto& token : others) {
    for (const std::size_t i : token) x[i] = base(i) + difference[i];
  }
  ref::to_format(x, f);
  return x;
}

}  // namespace

TEST_CASE("cachegen: golden vectors of the coder") {
  const Symbols symbols{7, 7, 8, 7, 6, 7, 9, 7, 7, 5, 7, 8, 7, 7, 14, 0};
  const auto wide = cachegen_cdf(symbols, 32), narrow = cachegen_cdf(symbols, 16);
  const std::vector<std::uint16_t> wide_first{0, 4094, 4095, 4096, 4097, 4098, 8193, 12288, 49135, 57324};
  const std::vector<std::uint16_t> narrow_first{0, 4095, 4096, 4097, 4098, 4099, 8195, 12291, 49147, 57338};
  REQUIRE(wide.size() == 33);
  REQUIRE(narrow.size() == 17);
  CHECK(std::equal(wide_first.begin(), wide_first.end(), wide.begin()));
  CHECK(std::equal(narrow_first.begin(), narrow_first.end(), narrow.begin()));
  CHECK(coded(symbols, 32) == "8a833e1e60");
  CHECK(coded(symbols, 16) == "8a95cd2780");
  CHECK(coded(Symbols(256, 15), 32) == "40");
}

TEST_CASE("cachegen: random streams come back and cost what their tables say") {
  ref::Random random(11);
  std::size_t longest = 0;
  for (int round = 0; round < 3000; ++round) {
    constexpr std::array<unsigned, 5> kBins{12, 16, 32, 47, 3};
    const unsigned bins = kBins[random.below(kBins.size())];
    // Mostly a few hundred tokens; every 30th stream is far longer than the 256 of the published one.
    const std::size_t count = round % 30 == 0 ? 2000 + random.below(9000) : random.below(700);
    const double spread = 0.1 + 8 * random.uniform() * random.uniform();
    Symbols symbols(count);
    for (auto& s : symbols) {
      const double x = std::clamp((bins - 1) / 2.0 + spread * random.normal(), 0.0, bins - 1.0);
      s = static_cast<std::uint8_t>(x);
    }
    const auto cdf = cachegen_cdf(symbols, bins);
    REQUIRE(cdf.size() == bins + 1);
    std::size_t below = 0;
    bool as_defined = true;
    for (unsigned i = 0; i <= bins; ++i) {
      if (i > 0) below += static_cast<std::size_t>(std::count(symbols.begin(), symbols.end(), i - 1));
      as_defined &= cdf[i] == (count == 0 ? 0 : (65535 - bins) * below / count) + i;
    }
    REQUIRE(as_defined);
    Bytes out;
    cachegen_encode(symbols, cdf, out);
    double bits = 0;
    for (const auto s : symbols) bits -= std::log2(((s + 1u == bins ? 65536 : cdf[s + 1u]) - cdf[s]) / 65536.0);
    REQUIRE(static_cast<double>(out.size()) * 8 <= bits * 1.0001 + 10);  // termination and padding
    Symbols back(count);
    cachegen_decode(out, cdf, back);
    REQUIRE(back == symbols);
    longest = std::max(longest, count);
  }
  CHECK(longest > 10000);
}

TEST_CASE("cachegen: B bins are B - 1 levels, an odd number around zero") {
  static_assert(levels_of_bins(32) == 31 && levels_of_bins(16) == 15 && levels_of_bins(12) == 11);
  for (const int levels : {31, 15, 11}) {
    // Four tokens that sweep from -m to m.
    Matrix m{4, 1, 1024, std::vector<float>(4096)};
    for (std::size_t i = 0; i < m.v.size(); ++i) m.v[i] = static_cast<float>(i % 1024) / 511.5f - 1.0f;
    const auto text = fmt::format("quant:mode=absmax:levels={}:axis=token:scale=source,ac", levels);
    const auto out = through_pipeline(text, Role::key, m, DType::f32);
    const std::set<float> seen(out.values.begin(), out.values.end());
    CHECK(seen.size() == static_cast<std::size_t>(levels));
    CHECK(seen.count(0.0f) == 1);
    CHECK(*seen.begin() == -*seen.rbegin());
    CHECK(differences(out.values, direct(m, levels, ref::kSingle)) == 0);
  }
  for (const int levels : {2, 16, 32}) {
    CHECK_THROWS_AS(Pipeline::parse(fmt::format("quant:mode=absmax:levels={},ac", levels)), Error);
  }
}

TEST_CASE("cachegen-lmcache: decoded values are those of the released encoder's formulas") {
  for (const DType dtype : {DType::f16, DType::bf16, DType::f32}) {
    CAPTURE(dtype_name(dtype));
    const Format& f = format_of(dtype);
    const Matrix m = ref::synthetic(256, 4, 32, f, 5);
    for (const std::uint32_t layer : {0u, 10u, 31u}) {
      for (const Role role : {Role::key, Role::value}) {
        const int levels = role == Role::key ? (layer < 10 ? 31 : 15) : (layer < 2 ? 31 : 15);
        const auto out = through_pipeline(preset_text("cachegen-lmcache", role, layer), role, m, dtype);
        CHECK_FALSE(out.sizes.raw);
        CHECK(differences(out.values, direct(m, levels, f)) == 0);
        // 33 entries of 16 bits per channel, whatever the number of levels.
        CHECK(out.sizes.bytes[static_cast<std::size_t>(StreamLabel::tables)] == m.cols() * 33 * 2);
      }
    }
  }
}

TEST_CASE("cachegen: decoded values are those of the paper's formulas, with anchors where they pay") {
  for (const DType dtype : {DType::f16, DType::bf16, DType::f32}) {
    CAPTURE(dtype_name(dtype));
    const Format& f = format_of(dtype);
    // Differences pay where channels hardly move while one, which sets the token's scale, swings; not without memory.
    Matrix slow = ref::synthetic(256, 4, 32, f, 6), fast = slow;
    ref::Random random(7);
    for (std::size_t r = 0; r < 256; ++r) {
      for (std::size_t c = 0; c < slow.cols(); ++c) {
        const double still = 4 * std::sin(static_cast<double>(c * c)) + 0.01 * random.normal();
        slow.at(r, c) = ref::saturated(c == 7 ? std::exp2(2 + 3 * random.uniform()) : still, f);
        fast.at(r, c) = ref::saturated(random.normal(), f);
      }
    }
    for (const std::string preset : {"cachegen-1", "cachegen-2", "cachegen-3"}) {
      const int levels = levels_of_bins(preset == "cachegen-1" ? 16 : 32);
      CAPTURE(preset);
      for (const Role role : {Role::key, Role::value}) {
        const std::string text = preset_text(preset, role);
        const auto calm = through_pipeline(text, role, slow, dtype), noisy = through_pipeline(text, role, fast, dtype);
        CHECK(differences(calm.values, anchored(slow, levels, f)) == 0);
        CHECK(differences(noisy.values, direct(fast, levels, f)) == 0);
        // Without the choice: differences always, or never.
        std::string always = text, never = text;
        always.replace(always.find("delta"), 5, "delta:keep=always");
        never.erase(never.find("delta"), 6);
        const auto forced = through_pipeline(always, role, fast, dtype);
        CHECK(differences(forced.values, anchored(fast, levels, f)) == 0);
        CHECK(noisy.payload < forced.payload);
        CHECK(calm.payload < through_pipeline(never, role, slow, dtype).payload);
      }
    }
  }
}

TEST_CASE("cachegen: a token count that is no multiple of ten") {
  for (const std::size_t rows : {1u, 2u, 9u, 10u, 11u, 25u}) {
    CAPTURE(rows);
    const Matrix m = ref::synthetic(rows, 2, 64, ref::kHalf, 30 + rows);
    const auto out = through_pipeline("delta:keep=always,quant:mode=absmax:levels=31:axis=token:scale=source,pack",
                                      Role::key, m, DType::f16);
    CHECK_FALSE(out.sizes.raw);
    CHECK(differences(out.values, anchored(m, 31, ref::kHalf)) == 0);
  }
}

namespace {

int levels_in(const std::string& text) {
  const auto at = text.find("levels=");
  return at == std::string::npos ? 0 : std::stoi(text.substr(at + 7));
}

/// Layers of the published 32-layer configuration, scaled to another count.
bool before(std::uint32_t layer, std::uint32_t layers, unsigned published) {
  return layer * 32 < published * layers;
}

}  // namespace

TEST_CASE("cachegen: bins by layer, scaled to the layer count") {
  for (const std::uint32_t layers : {8u, 28u, 32u, 40u, 80u}) {
    CAPTURE(layers);
    for (std::uint32_t l = 0; l < layers; ++l) {
      CAPTURE(l);
      const auto levels = [&](std::string_view preset, Role role) {
        return levels_in(preset_text(preset, role, l, layers));
      };
      CHECK(levels("cachegen-1", Role::key) == levels_of_bins(before(l, layers, 20) ? 16 : 12));
      CHECK(levels("cachegen-1", Role::value) == levels_of_bins(before(l, layers, 2) ? 16 : 12));
      CHECK(levels("cachegen-2", Role::key) == levels_of_bins(before(l, layers, 10) ? 32 : 16));
      CHECK(levels("cachegen-2", Role::value) == levels_of_bins(before(l, layers, 2) ? 32 : 16));
      CHECK(levels("cachegen-3", Role::key) == levels_of_bins(32));
      CHECK(levels("cachegen-3", Role::value) == levels_of_bins(32));
    }
  }
}

TEST_CASE("cachegen-lmcache: the generic fallback counts layers absolutely, and spares small models") {
  for (const std::uint32_t layers : {1u, 4u, 9u, 10u, 11u, 28u, 32u, 80u}) {
    CAPTURE(layers);
    for (std::uint32_t l = 0; l < layers; ++l) {
      CAPTURE(l);
      const bool small = layers < 10;
      const std::string key = preset_text("cachegen-lmcache", Role::key, l, layers);
      const std::string value = preset_text("cachegen-lmcache", Role::value, l, layers);
      CHECK(levels_in(key) == levels_of_bins(small || l <= 9 ? 32 : 16));
      CHECK(levels_in(value) == levels_of_bins(small || l <= 1 ? 32 : 16));
      CHECK(key.find("delta") == std::string::npos);
    }
  }
  CHECK(RuleSet::builtin("cachegen-lmcache").chunk_tokens == 256);
}
