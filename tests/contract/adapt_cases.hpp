// SPDX-License-Identifier: Apache-2.0
// What tests of the stage `adapt` share: it and its second decoder on one matrix, and streams made by hand.
#pragma once

#include "codec/magnitudes.hpp"
#include "codec/stages/adapt_basis.hpp"
#include "codec/stages/stages.hpp"
#include "tests/contract/every_instruction_set.hpp"
#include "tests/contract/reference_adapt.hpp"

namespace kvzip::test {

namespace ref = kvzip::reference;

/// Streams as a stage reads them; their types and shapes must be those that it wrote.
class Given final : public StreamReader {
 public:
  explicit Given(const std::vector<Stream>& streams) : streams_(streams) {}
  void get(Stream& s) override {
    REQUIRE(next_ < streams_.size());
    const Stream& stored = streams_[next_++];
    CHECK(stored.type == s.type);
    CHECK(stored.label == s.label);
    CHECK(stored.alphabet == s.alphabet);
    CHECK(stored.rows == s.rows);
    CHECK((s.type == StreamType::bytes || stored.cols == s.cols));
    CHECK(stored.magnitudes == s.magnitudes);
    CHECK(stored.gains == s.gains);
    s.data = stored.data;
  }
  bool done() const { return next_ == streams_.size(); }

 private:
  const std::vector<Stream>& streams_;
  std::size_t next_ = 0;
};

struct Case {
  Matrix m;
  ref::AdaptFields fields;
  std::vector<float> saliency{};
  const TileContext* other_context = nullptr;

  std::string text() const {
    return fmt::format("adapt:step={}:round={}:width={}:growth={}:heads={}{}", fields.step, fields.round, fields.width,
                       fields.growth, fields.heads, fields.repeats.empty() ? "" : ":repeats=dump");
  }
  std::unique_ptr<Stage> stage() const {
    auto stage = make_adapt();
    const std::string step = fmt::format("step={}", fields.step), round = fmt::format("round={}", fields.round);
    const std::string width = fmt::format("width={}", fields.width);
    const std::string growth = fmt::format("growth={}", fields.growth);
    const std::string heads = fmt::format("heads={}", fields.heads);
    const std::vector<std::string_view> items{step, round, width, growth, heads};
    parse_fields(*stage, "adapt", items);
    if (!fields.repeats.empty()) stage->use_table(table(), "repeats");
    return stage;
  }
  std::shared_ptr<const Table> table() const {
    Bytes bytes;
    for (const std::uint32_t d : fields.repeats) {
      for (int i = 0; i < 4; ++i) bytes.push_back(static_cast<std::byte>(d >> 8 * i));
    }
    return std::make_shared<const Table>(Table{"repeats", TableType::repeats, bytes, 1});
  }
  TileContext context() const {
    return other_context != nullptr ? *other_context : context_of(m, Role::value, DType::f32);
  }
  std::vector<Stream> encoded(std::vector<float>* left = nullptr) const {
    const TileContext c = context();
    Tile tile(c, shape_of(m));
    tile.values.assign(m.v.begin(), m.v.end());
    tile.saliency = saliency;
    std::vector<Stream> streams;
    StreamWriter writer(streams);
    EncodeContext to{writer};
    stage()->encode(tile, to);
    if (left != nullptr) left->assign(tile.values.begin(), tile.values.end());
    return streams;
  }
  std::vector<float> decoded(const std::vector<Stream>& streams, bool blank = true) const {
    const TileContext c = context();
    Tile tile(c, shape_of(m));
    std::fill(tile.values.begin(), tile.values.end(), blank ? 7.0f : 0.0f);  // of a blank tile nothing counts
    Given given(streams);
    DecodeContext from{given, blank};
    stage()->decode(tile, shape_of(m), from);
    CHECK(given.done());
    return {tile.values.begin(), tile.values.end()};
  }
  std::vector<float> by_the_page(const std::vector<Stream>& streams) const {
    return ref::adapt_decoded(streams, m.rows, m.cols(), context().head_edges(), fields);
  }
};

/// Rows that share a few directions, with means, and some rows much larger than the others.
inline Matrix directed(std::size_t rows, std::size_t heads, std::size_t dim, std::uint64_t seed) {
  Matrix m{rows, heads, dim, std::vector<float>(rows * heads * dim)};
  ref::Random random(seed);
  std::vector<double> mean(m.cols()), direction(3 * m.cols());
  for (double& x : mean) x = 2 * random.normal();
  for (double& x : direction) x = random.normal();
  for (std::size_t r = 0; r < rows; ++r) {
    const double size = random.below(40) == 0 ? 30 : 1;
    const double a = 3 * random.normal(), b = 2 * random.normal(), c = random.normal();
    for (std::size_t i = 0; i < m.cols(); ++i) {
      const double* d = &direction[3 * i];
      m.at(r, i) = static_cast<float>(mean[i] + size * (a * d[0] + b * d[1] + c * d[2] + 0.3 * random.normal()));
    }
  }
  return m;
}

inline std::vector<float> weights(std::size_t rows, std::uint64_t seed) {
  ref::Random random(seed);
  std::vector<float> saliency(rows);
  for (float& s : saliency) s = static_cast<float>(4 * random.normal() - 1);
  return saliency;
}

/// A text of few words; its first token is far from usual, as the first of a cache.
inline Case of_words(std::size_t rows, std::size_t heads, std::size_t dim, std::uint64_t seed) {
  Case c{directed(rows, heads, dim, seed), {}};
  ref::Random random(seed + 1);
  std::vector<std::size_t> word;
  for (std::size_t t = 0; t < rows; ++t) {
    const std::size_t w = t > 2 && random.below(3) == 0 ? word[random.below(t - 1)] + 1 : random.below(30);
    word.push_back(std::min<std::size_t>(w, 29));
    std::size_t back = 1;
    while (back <= t && word[t - back] != word[t]) ++back;
    c.fields.repeats.push_back(back <= t ? static_cast<std::uint32_t>(back) : 0);
    for (std::size_t i = 0; i < c.m.cols() && back <= t; ++i) {
      c.m.at(t, i) = 0.3f * c.m.at(t, i) + 0.7f * c.m.at(t - back, i);
    }
  }
  if (rows > 40) c.fields.repeats[40] = 4000000000u;  // outside: as if it had none
  for (std::size_t i = 0; i < c.m.cols() && rows > 0; ++i) c.m.at(0, i) *= 50;
  return c;
}

inline Stream classes_of(std::uint32_t rows, std::uint32_t cols, std::vector<std::uint8_t> data,
                         std::vector<std::int8_t> gains = {}) {
  Stream s = symbol_stream(StreamLabel::codes, rows, cols, 16);
  s.magnitudes = true;
  if (!gains.empty()) s.gains = {std::move(gains), {cols}};
  s.data.assign(data.begin(), data.end());
  return s;
}
inline Stream bits_of(std::vector<std::uint8_t> data) {
  Stream s = byte_stream(StreamLabel::codes);
  s.cols = static_cast<std::uint32_t>(data.size());
  s.data.assign(data.begin(), data.end());
  return s;
}
inline Stream root(std::uint32_t bits) {
  Stream s = element_stream(StreamLabel::scales, 1, 1, 4);
  for (int i = 0; i < 4; ++i) s.data.push_back(static_cast<std::uint8_t>(bits >> 8 * i));
  return s;
}
inline Stream gain_stream(std::vector<std::uint8_t> data) {
  Stream s = symbol_stream(StreamLabel::scales, static_cast<std::uint32_t>(data.size()), 1, 63);
  s.data.assign(data.begin(), data.end());
  return s;
}

}  // namespace kvzip::test
