// SPDX-License-Identifier: Apache-2.0
// The stage `klt`: its streams are read by a second decoder, written from man/kvz.5; basis and error are held against
// eigenvalues found by other means.
#include <fmt/format.h>

#include "codec/stages/klt_bits.hpp"
#include "codec/stages/stages.hpp"
#include "tests/contract/reference_drive.hpp"

using namespace kvzip;
using namespace kvzip::test;
namespace ref = kvzip::reference;

namespace {

/// What a stage wrote, as a stage reads it, and as numbers by kvz.5.
class Streams final : public StreamReader {
 public:
  std::vector<Stream> all;
  std::size_t next = 0;

  void get(Stream& s) override {
    REQUIRE(next < all.size());
    const Stream& stored = all[next++];
    CHECK(stored.type == s.type);
    CHECK(stored.label == s.label);
    CHECK(stored.rows == s.rows);
    CHECK(stored.cols == s.cols);
    CHECK(stored.width == s.width);
    CHECK(stored.alphabet == s.alphabet);
    s.data = stored.data;
  }
  const Stream& take() { return all.at(next++); }
  /// numbers(f16, ..)
  std::vector<float> numbers() {
    const int e = static_cast<std::int8_t>(take().data.at(0));
    const Stream& s = take();
    std::vector<float> out = values_of(std::as_bytes(std::span(s.data)), e == -128 ? DType::f32 : DType::f16);
    if (e == -128) return out;
    for (float& x : out) x = static_cast<float>(std::ldexp(double{x}, e));
    return out;
  }
};

struct Group {
  std::size_t size, type, part;
};
/// Everything that the streams hold.
struct Content {
  std::vector<float> mean, basis, scales, shifts;
  std::vector<Group> groups;
  std::vector<std::size_t> components;  // of each part
  std::array<Stream, 3> codes;
  std::size_t columns() const { return basis.empty() ? 0 : basis.size() / width; }
  std::size_t width = 0;  // channels of a part
};

Content content_of(Streams& in, const Matrix& m, std::size_t parts) {
  Content c;
  c.width = m.cols() / parts;
  c.mean = in.numbers();
  const Stream& counts = in.take();
  const Stream& table = in.take();
  const std::size_t sizes[] = {1, 16, 64, 256, 1024};
  std::size_t next = 0;
  for (std::size_t p = 0; p < parts; ++p) {
    c.components.push_back(0);
    for (std::size_t i = 0; i < counts.data.at(4 * p) + 256u * counts.data.at(4 * p + 1); ++i) {
      const unsigned entry = table.data.at(next++);
      c.groups.push_back({sizes[entry / 4], entry % 4 - 1, p});
      c.components.back() += sizes[entry / 4];
    }
  }
  CHECK(next == table.data.size());
  c.basis = in.numbers();
  c.scales = in.numbers();
  c.shifts = in.numbers();
  for (Stream& s : c.codes) s = in.take();
  CHECK(in.next == in.all.size());
  return c;
}

/// V = mean + sum of coefficients times basis, formed in float in the order of the components.
std::vector<float> decoded(const Content& c, const Matrix& m) {
  std::vector<float> v(m.v.size());
  const std::size_t columns = c.columns();
  for (std::size_t t = 0; t < m.rows; ++t) {
    std::vector<float> d;
    std::array<std::size_t, 3> at{};
    for (std::size_t g = 0; g < c.groups.size(); ++g) {
      const Stream& codes = c.codes[c.groups[g].type];
      for (std::size_t i = 0; i < c.groups[g].size; ++i) {
        const auto q = static_cast<float>(codes.data.at(t * codes.cols + at[c.groups[g].type]++));
        d.push_back(q * c.scales.at(t * c.groups.size() + g) + c.shifts.at(t * c.groups.size() + g));
      }
    }
    for (std::size_t col = 0; col < m.cols(); ++col) {
      const std::size_t part = col / c.width;
      std::size_t first = 0;
      for (std::size_t p = 0; p < part; ++p) first += c.components[p];
      float sum = 0;
      for (std::size_t k = first; k < first + c.components[part]; ++k) {
        sum += d[k] * c.basis[col % c.width * columns + k];
      }
      v[t * m.cols() + col] = 0 + c.mean.at(col);
      if (c.components[part] != 0) v[t * m.cols() + col] += sum;
    }
  }
  return v;
}

struct Coded {
  Content content;
  std::vector<float> left, stage;  // what the encoder leaves; what the decoder adds to zeros
};
Coded coded(const Matrix& m, double bits, bool per_head) {
  const auto stage = make_klt();
  const std::string text = fmt::format("bits={}", bits);
  const std::vector<std::string_view> items{text, per_head ? "per=head" : "per=tile"};
  parse_fields(*stage, "klt", items);
  const TileContext context = context_of(m, Role::value, DType::f32);
  Tile tile(context, shape_of(m));
  tile.values.assign(m.v.begin(), m.v.end());
  Streams streams;
  StreamWriter writer(streams.all);
  EncodeContext to{writer};
  stage->encode(tile, to);
  Coded out;
  out.left.assign(tile.values.begin(), tile.values.end());
  Tile back(context, shape_of(m));
  std::fill(back.values.begin(), back.values.end(), 0.0f);
  DecodeContext from{streams};
  stage->decode(back, shape_of(m), from);
  out.stage.assign(back.values.begin(), back.values.end());
  streams.next = 0;
  out.content = content_of(streams, m, per_head ? m.heads : 1);
  return out;
}

ref::Dense centred(const Matrix& m) {
  ref::Dense out(m.rows, m.cols());
  for (std::size_t c = 0; c < m.cols(); ++c) {
    double mean = 0;
    for (std::size_t r = 0; r < m.rows; ++r) mean += double{m.at(r, c)} / static_cast<double>(m.rows);
    for (std::size_t r = 0; r < m.rows; ++r) out.at(r, c) = m.at(r, c) - mean;
  }
  return out;
}

}  // namespace

TEST_CASE("klt: decoding is that of kvz.5, and the encoder leaves the rest") {
  for (const bool per_head : {false, true}) {
    for (const double bits : {0.5, 2.0, 6.0, 40.0}) {
      for (const std::size_t rows : {1u, 2u, 15u, 120u}) {
        CAPTURE(per_head);
        CAPTURE(bits);
        CAPTURE(rows);
        const Matrix m = ref::synthetic(rows, 3, 40, ref::kSingle, 11);
        const Coded c = coded(m, bits, per_head);
        const std::vector<float> expected = decoded(c.content, m);
        CHECK(differences(c.stage, expected) == 0);
        double worst = 0;
        for (std::size_t i = 0; i < m.v.size(); ++i) {
          worst = std::max(worst, std::fabs(double{c.left[i]} - (double{m.v[i]} - expected[i])));
        }
        CHECK(worst < 1e-4);  // values up to 200, in float
        for (std::size_t p = 0, n = per_head ? 3 : 1; p < n; ++p) {
          const std::size_t channels = m.cols() / n;
          CHECK(c.content.components[p] <= std::min(rows, channels));
          std::size_t cost = 0;  // of a token: codes, and 32 bits a group
          for (const Group& g : c.content.groups) cost += g.part == p ? g.size * (2u << g.type) + 32 : 0;
          CHECK(static_cast<double>(cost) <= bits * static_cast<double>(channels));
        }
      }
    }
  }
}

TEST_CASE("klt: the basis is orthonormal, its components are the principal ones, and nothing else is lost") {
  const Matrix m = ref::synthetic(200, 2, 48, ref::kSingle, 12);
  const ref::Dense x = centred(m);
  const std::vector<double> eigenvalues = ref::eigenvalues(ref::product(ref::transposed(x), x));
  for (const double bits : {1.0, 3.0, 8.0, 40.0}) {
    CAPTURE(bits);
    const Coded c = coded(m, bits, false);
    const std::size_t columns = c.content.columns();
    REQUIRE(columns > 0);
    ref::Dense basis(m.cols(), columns);
    for (std::size_t i = 0; i < basis.v.size(); ++i) basis.v[i] = double{c.content.basis[i]};
    const ref::Dense gram = ref::product(ref::transposed(basis), basis);
    const ref::Dense d = ref::product(x, basis);
    double off = 0, energy_off = 0;
    for (std::size_t i = 0; i < columns; ++i) {
      double energy = 0;
      for (std::size_t r = 0; r < m.rows; ++r) energy += d.at(r, i) * d.at(r, i);
      energy_off = std::max(energy_off, std::fabs(energy - eigenvalues[i]) / eigenvalues[0]);
      for (std::size_t j = 0; j < columns; ++j) off = std::max(off, std::fabs(gram.at(i, j) - (i == j ? 1 : 0)));
    }
    CHECK(off < 1e-3);  // half precision
    CHECK(energy_off < 1e-3);
    // The error is at least what no approximation of this rank reaches, and at most that and half a step a coefficient.
    double least = 0, steps = 0;
    for (std::size_t i = columns; i < eigenvalues.size(); ++i) least += std::max(0.0, eigenvalues[i]);
    for (std::size_t r = 0; r < m.rows; ++r) {
      for (std::size_t g = 0; g < c.content.groups.size(); ++g) {
        const double half = 0.51 * double{c.content.scales[r * c.content.groups.size() + g]};
        steps += static_cast<double>(c.content.groups[g].size) * half * half;
      }
    }
    const double error = squared_error(m.v, c.stage);
    const double rounding = x.energy() * 1e-5;  // of basis, mean and shifts
    CHECK(error >= least * 0.999);
    CHECK(error <= least + steps + rounding);
    if (bits == 40) CHECK(error < 1e-5 * x.energy());
    if (bits == 8) CHECK(error < 1e-2 * x.energy());
  }
}

TEST_CASE("klt: one component holds a tile of rank 1, none a constant one") {
  Matrix m{90, 2, 32, std::vector<float>(90 * 64)};
  ref::Random random(13);
  std::vector<double> direction(64);
  for (double& x : direction) x = random.normal();
  for (std::size_t r = 0; r < m.rows; ++r) {
    const double along = random.normal();
    for (std::size_t c = 0; c < 64; ++c) {
      m.at(r, c) = static_cast<float>(3 + static_cast<double>(c % 4) + along * direction[c]);
    }
  }
  const Coded c = coded(m, 0.6, false);  // 38 bits a token: one group of one
  CHECK(c.content.columns() == 1);
  REQUIRE(c.content.groups.size() == 1);
  CHECK(squared_error(m.v, c.stage) < 3e-6 * centred(m).energy());  // mean, basis and value in half precision
  const Coded poor = coded(m, 0.5, false);                          // 32 bits hold no group
  CHECK(poor.content.columns() == 0);
  for (std::size_t r = 1; r < m.rows; ++r) {
    for (std::size_t col = 0; col < 64; ++col) m.at(r, col) = m.at(0, col);
  }
  const Coded constant = coded(m, 8, false);
  CHECK(constant.content.components[0] <= 1);  // what half precision leaves of the mean
  CHECK(squared_error(m.v, constant.stage) < 1e-6 * 64 * 90);
}

TEST_CASE("klt: inspection finds codes, scales, the basis and the groups where they belong") {
  const Matrix m = ref::synthetic(300, 2, 64, ref::kHalf, 15);
  const Decoded out = through_pipeline("klt:bits=4,pack", Role::value, m, DType::f16);
  const auto bytes = [&](StreamLabel label) { return out.sizes.bytes[static_cast<std::size_t>(label)]; };
  const Content c = coded(m, 4, false).content;
  std::uint64_t codes = 0;
  for (const Stream& s : c.codes) {
    codes += (std::uint64_t{s.rows} * s.cols * static_cast<unsigned>(std::log2(s.alphabet)) + 7) / 8;
  }
  CHECK(bytes(StreamLabel::codes) == codes);
  CHECK(bytes(StreamLabel::factors) == 2 * 128 * c.columns());
  CHECK(bytes(StreamLabel::scales) == 2 * (128 + 2 * 300 * c.groups.size()));
  CHECK(bytes(StreamLabel::flags) < 100);
  CHECK(8 * (codes + 4 * 300 * c.groups.size()) <= 4 * 300 * 128);  // the budget, in the file
}

TEST_CASE("klt: damaged tables of groups are refused") {
  const Matrix m = ref::synthetic(40, 2, 16, ref::kSingle, 14);
  const auto stage = make_klt();
  const std::vector<std::string_view> items{"bits=6"};
  parse_fields(*stage, "klt", items);
  const TileContext context = context_of(m, Role::value, DType::f32);
  Tile tile(context, shape_of(m));
  tile.values.assign(m.v.begin(), m.v.end());
  Streams good;
  StreamWriter writer(good.all);
  EncodeContext to{writer};
  stage->encode(tile, to);
  // Streams: exponent, mean, number of groups, groups.
  const auto refused = [&](auto&& damage) {
    struct Loose final : StreamReader {
      std::vector<Stream> all;
      std::size_t next = 0;
      void get(Stream& s) override {
        REQUIRE(next < all.size());
        // A coder gives exactly what is asked for.
        s.data = all[next++].data;
        s.data.resize(s.type == StreamType::elements ? s.count() * s.width : s.count());
      }
    } streams;
    streams.all = good.all;
    damage(streams.all);
    Tile back(context, shape_of(m));
    std::fill(back.values.begin(), back.values.end(), 0.0f);
    try {
      DecodeContext from{streams};
      stage->decode(back, shape_of(m), from);
    } catch (const Error& e) {
      return e.code() == ErrorCode::corrupt;
    }
    return false;
  };
  CHECK_FALSE(refused([](std::vector<Stream>&) {}));
  REQUIRE(good.all.at(3).data.size() > 0);
  for (const unsigned entry : {0u, 4u, 8u, 20u, 23u, 255u}) {  // no type; no such size
    CHECK(refused([&](std::vector<Stream>& s) { s[3].data[0] = static_cast<std::uint8_t>(entry); }));
  }
  CHECK(refused([](std::vector<Stream>& s) { s[3].data[0] = 4 * 2 + 1; }));  // 64 of at most 32 components
  CHECK(refused([](std::vector<Stream>& s) { s[2].data[3] = 0xff; }));       // 2^32 groups
  CHECK(refused([](std::vector<Stream>& s) {                                 // 33 components, one by one
    s[2].data.assign({33, 0, 0, 0});
    s[3].data.assign(33, 1);
  }));
  CHECK_FALSE(refused([](std::vector<Stream>& s) {
    s[2].data.assign({32, 0, 0, 0});
    s[3].data.assign(32, 1);
  }));
}
