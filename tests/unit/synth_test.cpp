// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kvzip/error.hpp"
#include "src/synth/synth.hpp"

using namespace kvzip;

namespace {

SynthOptions small() {
  SynthOptions o;
  o.layers = 3;
  o.heads = 2;
  o.head_dim = 32;
  o.query_heads = 4;
  o.tokens = 512;
  o.dtype = DType::f32;
  o.seed = 7;
  return o;
}

Bytes read_whole(SynthReader& reader, std::size_t tensor) {
  const TensorInfo& info = reader.dump().tensors[tensor];
  Bytes out(info.bytes());
  reader.read({tensor, std::vector<std::uint64_t>(info.shape.size(), 0), info.shape}, out);
  return out;
}

std::vector<float> floats(const Bytes& bytes) {
  std::vector<float> out(bytes.size() / sizeof(float));
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

/// [heads, tokens, dim] as a tokens x channels matrix of zero mean and unit deviation per channel, without the sink.
void append_columns(const std::vector<float>& x, const SynthOptions& o, std::vector<std::vector<double>>& columns) {
  for (std::size_t h = 0; h < o.heads; ++h) {
    for (std::size_t c = 0; c < o.head_dim; ++c) {
      std::vector<double> column;
      double mean = 0, squares = 0;
      for (std::size_t t = 1; t < o.tokens; ++t) column.push_back(x[(h * o.tokens + t) * o.head_dim + c]);
      for (const double v : column) mean += v / static_cast<double>(column.size());
      for (double& v : column) {
        v -= mean;
        squares += v * v;
      }
      for (double& v : column) v /= std::sqrt(squares);
      columns.push_back(column);
    }
  }
}

/// Share of the energy of unit columns that their `rank` strongest directions hold (power iteration with deflation).
double energy_share(std::vector<std::vector<double>> columns, std::size_t rank) {
  const std::size_t tokens = columns[0].size();
  double captured = 0;
  const double total = static_cast<double>(columns.size());
  for (std::size_t r = 0; r < rank; ++r) {
    std::vector<double> u(tokens);
    for (std::size_t t = 0; t < tokens; ++t) u[t] = std::sin(static_cast<double>(t * (r + 1)) + 0.3);
    for (int loop = 0; loop < 15; ++loop) {
      std::vector<double> next(tokens);
      for (const auto& column : columns) {
        double dot = 0;
        for (std::size_t t = 0; t < tokens; ++t) dot += column[t] * u[t];
        for (std::size_t t = 0; t < tokens; ++t) next[t] += dot * column[t];
      }
      double norm = 0;
      for (const double v : next) norm += v * v;
      for (std::size_t t = 0; t < tokens; ++t) u[t] = next[t] / std::sqrt(norm);
    }
    for (auto& column : columns) {
      double dot = 0;
      for (std::size_t t = 0; t < tokens; ++t) dot += column[t] * u[t];
      captured += dot * dot;
      for (std::size_t t = 0; t < tokens; ++t) column[t] -= dot * u[t];
    }
  }
  return captured / total;
}

double max_over_median(const std::vector<float>& x, const SynthOptions& o) {
  std::vector<double> magnitude(std::size_t{o.heads} * o.head_dim);
  for (std::size_t i = 0; i < x.size(); ++i) {
    magnitude[i / (o.tokens * o.head_dim) * o.head_dim + i % o.head_dim] += std::fabs(x[i]);
  }
  std::sort(magnitude.begin(), magnitude.end());
  return magnitude.back() / magnitude[magnitude.size() / 2];
}

double row_norm(const std::vector<float>& x, const SynthOptions& o, std::size_t head, std::size_t token) {
  double sum = 0;
  for (std::size_t c = 0; c < o.head_dim; ++c) {
    const double v = x[(head * o.tokens + token) * o.head_dim + c];
    sum += v * v;
  }
  return std::sqrt(sum);
}

}  // namespace

TEST_CASE("synth: names, shapes and metadata") {
  SynthReader reader(small());
  const Dump& dump = reader.dump();
  REQUIRE(dump.tensors.size() == 10);
  CHECK(dump.tensors[0].name == "layers.0.key");
  CHECK(dump.tensors[5].name == "layers.1.query");
  CHECK(dump.tensors[5].shape == std::vector<std::uint64_t>{4, 512, 32});
  CHECK(dump.tensors[9].name == "token_ids");
  CHECK(dump.tensors[9].dtype == DType::i32);
  const auto text = [&](std::string_view name) {
    const auto at = std::find_if(dump.attributes.begin(), dump.attributes.end(),
                                 [&](const Attribute& a) { return a.object.empty() && a.name == name; });
    return at == dump.attributes.end() ? std::string() : at->strings.at(0);
  };
  CHECK(text("axes") == "HTD");
  CHECK(text("rope") == "post");
  CHECK(text("rope_theta") == "500000");
  CHECK(text("n_heads") == "4");

  SynthOptions plain = small();
  plain.query_heads = 0;
  plain.rope_theta = 0;
  CHECK(SynthReader(plain).dump().tensors.size() == 7);
}

TEST_CASE("synth: parts cover every element once and equal random access") {
  SynthOptions o = small();
  o.tokens = 9000;  // more than one part per head
  SynthReader reader(o), again(o);
  std::vector<Bytes> whole;
  std::vector<std::uint64_t> covered(reader.dump().tensors.size());
  for (std::size_t i = 0; i < covered.size(); ++i) whole.push_back(read_whole(again, i));
  // Backwards: nothing may depend on the order.
  for (std::uint64_t i = reader.part_count(); i-- > 0;) {
    Part part = reader.part(i);
    reader.fetch(part);
    reader.expand(part);
    REQUIRE(part.slices.size() == 1);
    const Slice& slice = part.slices[0];
    std::uint64_t offset = 0;
    for (std::size_t a = 0; a < slice.start.size(); ++a) {
      offset = offset * reader.dump().tensors[slice.tensor].shape[a] + slice.start[a];
    }
    offset *= 4;
    REQUIRE(offset + part.data[0].size() <= whole[slice.tensor].size());
    CHECK(std::memcmp(whole[slice.tensor].data() + offset, part.data[0].data(), part.data[0].size()) == 0);
    covered[slice.tensor] += part.data[0].size();
  }
  for (std::size_t i = 0; i < covered.size(); ++i) CHECK(covered[i] == whole[i].size());

  // A box that begins and ends inside everything.
  const Slice box{3, {1, 61, 5}, {1, 77, 9}};
  Bytes bytes(box.elements() * 4);
  reader.read(box, bytes);
  const std::vector<float> got = floats(bytes), all = floats(whole[3]);
  for (std::size_t t = 0; t < 77; ++t) {
    for (std::size_t c = 0; c < 9; ++c) {
      REQUIRE(got[t * 9 + c] == all[(o.tokens + 61 + t) * o.head_dim + 5 + c]);
    }
  }
}

TEST_CASE("synth: the seed decides") {
  SynthReader a(small()), b(small());
  SynthOptions other = small();
  other.seed = 8;
  SynthReader c(other);
  for (const std::size_t tensor : {0u, 1u, 2u, 9u}) {
    CHECK(read_whole(a, tensor) == read_whole(b, tensor));
    CHECK(read_whole(a, tensor) != read_whole(c, tensor));
  }
  // The types hold the same numbers.
  SynthOptions half = small();
  half.dtype = DType::f16;
  SynthReader d(half);
  const std::vector<float> exact = floats(read_whole(a, 0));
  Bytes rounded(exact.size() * 2);
  from_float(DType::f16, exact, rounded);
  CHECK(read_whole(d, 0) == rounded);
}

TEST_CASE("synth: a longer dump begins like a shorter one") {
  SynthOptions longer = small();
  longer.tokens = 700;
  SynthReader a(small()), b(longer);
  Bytes first(512 * 32 * 4), second(512 * 32 * 4);
  a.read({0, {1, 0, 0}, {1, 512, 32}}, first);
  b.read({0, {1, 0, 0}, {1, 512, 32}}, second);
  CHECK(first == second);
}

TEST_CASE("synth: channels, rank and sink look like a cache") {
  SynthOptions o = small();
  o.heads = 4;
  o.query_heads = 0;
  o.head_dim = 64;
  o.rope_theta = 0;  // the figures are those of keys before rotation
  SynthReader reader(o);
  std::vector<std::vector<double>> keys, one_layer;
  for (std::size_t layer = 0; layer < o.layers; ++layer) {
    const auto key = floats(read_whole(reader, 2 * layer)), value = floats(read_whole(reader, 2 * layer + 1));
    CHECK(max_over_median(key, o) > 7);
    CHECK(max_over_median(key, o) < 25);
    CHECK(max_over_median(value, o) > 4.5);
    CHECK(max_over_median(value, o) < 25);
    append_columns(key, o, keys);
    if (layer == 1) append_columns(value, o, one_layer);
    for (std::size_t head = 0; head < o.heads; ++head) {
      CHECK(row_norm(value, o, head, 0) < 0.3 * row_norm(value, o, head, 100));
      CHECK(row_norm(key, o, head, 0) < 0.8 * row_norm(key, o, head, 100));
    }
  }
  // 24 directions of 768 (all layers) or 256 channels: white noise would hold about a tenth and a fifth.
  const double across = energy_share(keys, 24), within = energy_share(one_layer, 24);
  CHECK(across > 0.5);
  CHECK(across < 0.85);
  CHECK(within > 0.4);
  CHECK(within < 0.75);
}

TEST_CASE("synth: keys are turned by their position") {
  SynthOptions turned = small(), plain = small();
  plain.rope_theta = 0;
  SynthReader a(turned), b(plain);
  const auto rotated = floats(read_whole(a, 3)), before = floats(read_whole(b, 3));
  double worst = 0;
  for (std::size_t t = 0; t < turned.tokens; ++t) {
    for (std::size_t p = 0; p < 16; ++p) {
      const double angle = static_cast<double>(t) * std::pow(500000.0, -2.0 * static_cast<double>(p) / 32);
      const double x = before[t * 32 + p], y = before[t * 32 + 16 + p];
      const double low = x * std::cos(angle) - y * std::sin(angle), high = x * std::sin(angle) + y * std::cos(angle);
      worst = std::max({worst, std::fabs(low - rotated[t * 32 + p]), std::fabs(high - rotated[t * 32 + 16 + p])});
    }
  }
  CHECK(worst < 1e-5);
  // Values are not turned.
  CHECK(read_whole(a, 4) == read_whole(b, 4));
}

TEST_CASE("synth: refuses what is no cache") {
  const auto code = [](auto&& change) {
    SynthOptions o = small();
    change(o);
    try {
      SynthReader reader(o);
    } catch (const Error& error) {
      return static_cast<int>(error.code());
    }
    return -1;
  };
  const int invalid = static_cast<int>(ErrorCode::invalid_argument), limit = static_cast<int>(ErrorCode::limit);
  CHECK(code([](SynthOptions& o) { o.layers = 0; }) == invalid);
  CHECK(code([](SynthOptions& o) { o.head_dim = 31; }) == invalid);
  CHECK(code([](SynthOptions& o) { o.query_heads = 3; }) == invalid);
  CHECK(code([](SynthOptions& o) { o.dtype = DType::f64; }) == invalid);
  CHECK(code([](SynthOptions& o) { o.layers = 0xffffffff; }) == limit);
  CHECK(code([](SynthOptions& o) { o.tokens = ~std::uint64_t{0}; }) == limit);
  SynthOptions none = small();
  none.tokens = 0;
  CHECK(SynthReader(none).part_count() == 0);
}
