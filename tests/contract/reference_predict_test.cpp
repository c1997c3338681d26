// SPDX-License-Identifier: Apache-2.0
// AQUA-KV (arXiv 2501.19392) against its formulas.
#include <fmt/format.h>

#include <algorithm>

#include "tests/contract/reference_drive.hpp"

using namespace kvzip;
using namespace kvzip::test;
namespace ref = kvzip::reference;

namespace {

/// X W, for matrices of doubles.
ref::Dense times(const ref::Dense& x, const ref::Dense& w) {
  ref::Dense out(x.rows, w.cols);
  for (std::size_t r = 0; r < x.rows; ++r) {
    for (std::size_t i = 0; i < x.cols; ++i) {
      for (std::size_t c = 0; c < w.cols; ++c) out.at(r, c) += x.at(r, i) * w.at(i, c);
    }
  }
  return out;
}

/// (X^T X + d m I)^-1 X^T Y by elimination, m the mean of the diagonal of X^T X; in half precision.
ref::Dense ridge(const ref::Dense& x, const ref::Dense& y, double d) {
  const std::size_t n = x.cols;
  ref::Dense a(n, n + y.cols);
  for (std::size_t r = 0; r < x.rows; ++r) {
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) a.at(i, j) += x.at(r, i) * x.at(r, j);
      for (std::size_t c = 0; c < y.cols; ++c) a.at(i, n + c) += x.at(r, i) * y.at(r, c);
    }
  }
  double mean = 0;
  for (std::size_t i = 0; i < n; ++i) mean += a.at(i, i) / static_cast<double>(n);
  for (std::size_t i = 0; i < n; ++i) a.at(i, i) += d * mean;
  for (std::size_t i = 0; i < n; ++i) {  // symmetric and positive: no pivots
    for (std::size_t k = 0; k < n; ++k) {
      if (k == i) continue;
      const double f = a.at(k, i) / a.at(i, i);
      for (std::size_t j = i; j < a.cols; ++j) a.at(k, j) -= f * a.at(i, j);
    }
  }
  std::vector<float> w;
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t c = 0; c < y.cols; ++c) w.push_back(static_cast<float>(a.at(i, n + c) / a.at(i, i)));
  }
  ref::store_halves(w);
  ref::Dense out(n, y.cols);
  std::copy(w.begin(), w.end(), out.v.begin());
  return out;
}

ref::Dense dense(const Matrix& m) {
  ref::Dense out(m.rows, m.cols());
  std::copy(m.v.begin(), m.v.end(), out.v.begin());
  return out;
}
ref::Dense beside(const ref::Dense& a, const ref::Dense& b) {
  ref::Dense out(a.rows, a.cols + b.cols);
  for (std::size_t r = 0; r < a.rows; ++r) {
    for (std::size_t c = 0; c < a.cols; ++c) out.at(r, c) = a.at(r, c);
    for (std::size_t c = 0; c < b.cols; ++c) out.at(r, a.cols + c) = b.at(r, c);
  }
  return out;
}

/// A prediction, and what is left in `bits`, with a scale for each head of a token.
ref::Dense coded(const Matrix& m, const ref::Dense& predicted, int bits) {
  Matrix rest = m;
  for (std::size_t i = 0; i < m.v.size(); ++i) rest.v[i] = static_cast<float>(m.v[i] - predicted.v[i]);
  rest.v = ref::asymmetric(rest.v, ref::along_channels(rest, 0, rest.rows, rest.dim, rest.dim), bits);
  ref::Dense out = predicted;
  for (std::size_t i = 0; i < out.v.size(); ++i) out.v[i] += rest.v[i];
  return out;
}

/// Keys and values in turn, layer by layer; each follows from those before and a little of its own.
std::vector<Matrix> related_layers(std::size_t layers, std::size_t rows, std::size_t heads, std::size_t dim,
                                   double own) {
  ref::Random random(97);
  std::vector<Matrix> out;
  const std::size_t cols = heads * dim;
  for (std::size_t l = 0; l < layers; ++l) {
    for (std::size_t role = 0; role < 2; ++role) {
      Matrix m{rows, heads, dim, std::vector<float>(rows * cols)};
      std::vector<double> weight(cols * cols);
      for (double& w : weight) w = random.normal() / std::sqrt(static_cast<double>(cols));
      for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t c = 0; c < cols; ++c) {
          double x = l == 0 ? 2 * random.normal() : own * random.normal();
          for (std::size_t i = 0; i < cols && l > 0; ++i) {
            x += weight[i * cols + c] * out[2 * (l - 1) + role].at(r, i);
            if (role == 1) x += 0.5 * weight[c * cols + i] * out[2 * l].at(r, i);
          }
          m.at(r, c) = ref::saturated(x, ref::kHalf);
        }
      }
      out.push_back(std::move(m));
    }
  }
  return out;
}

}  // namespace

TEST_CASE("aquakv: keys follow from the keys before, values from keys and the values before, as a reader has them") {
  constexpr std::size_t kLayers = 3, kRows = 80, kHeads = 2, kDim = 4, kCols = kHeads * kDim;
  const std::vector<Matrix> tensors = related_layers(kLayers, kRows, kHeads, kDim, 0.3);
  TileContext context = context_of(tensors[0], Role::pair, DType::f32);
  context.heads = 2 * kLayers * kHeads;
  Matrix all{kRows, 2 * kLayers * kHeads, kDim, {}};
  for (std::uint32_t i = 0; i < tensors.size(); ++i) {
    const auto first = static_cast<std::uint32_t>(i * kCols);
    context.members.push_back({{first, kHeads, kDim}, i % 2 == 0 ? Role::key : Role::value, i / 2});
  }
  for (std::size_t r = 0; r < kRows; ++r) {
    for (const Matrix& m : tensors) {
      const auto row = m.v.begin() + static_cast<std::ptrdiff_t>(r * kCols);
      all.v.insert(all.v.end(), row, row + kCols);
    }
  }
  Pipeline p = Pipeline::parse("predict,pack");
  p.resolve(context, shape_of(all));
  const Bytes payload = p.encode(context, shape_of(all), elements_of(all.v, DType::f32));
  Bytes bytes(all.v.size() * 4);
  p.decode(context, shape_of(all), payload, bytes);
  const std::vector<float> decoded = values_of(bytes, DType::f32);

  std::vector<ref::Dense> known;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    ref::Dense predicted(kRows, kCols);
    if (i >= 2) {
      const ref::Dense x = i % 2 == 0 ? known[i - 2] : beside(known[i - 1], known[i - 2]);
      predicted = times(x, ridge(x, dense(tensors[i]), 0.001));
    }
    known.push_back(coded(tensors[i], predicted, i < 2 ? 4 : 2));
  }
  // The last bit of a map may differ, and what lies in the middle of two levels then falls to either.
  std::size_t far = 0;
  for (std::size_t r = 0; r < kRows; ++r) {
    for (std::size_t c = 0; c < all.cols(); ++c) {
      far += std::fabs(decoded[r * all.cols() + c] - known[c / kCols].at(r, c % kCols)) > 0.01;
    }
  }
  CHECK(far <= all.v.size() / 200);
}

TEST_CASE("aquakv: prediction takes most of the error away, at the size of codes and maps") {
  constexpr std::size_t kLayers = 4, kTokens = 632, kDim = 64;
  const std::vector<Matrix> tensors = related_layers(kLayers, kTokens, 1, kDim, 0.05);
  const ScratchDirectory scratch;
  const std::string path = scratch.file("cache.kvz");
  write_container(path, "aquakv", dump_like(tensors[0], kLayers, DType::f16),
                  [&](std::size_t t) { return elements_of(head_first(tensors[t]), DType::f16); });
  const auto reader = open_kvz(path);
  double frames = 0;
  for (const KvzGroup& g : reader->summary().groups) frames += 8.0 * static_cast<double>(g.coded_bytes);
  // 132 exact tokens; 4 bits of the first keys and values and 2 of the others, with 32 for 64 channels; three maps of
  // keys, and three of keys and values.
  const double coded = kTokens - 132, scales = 32.0 / 64;
  const double bits =
      8 * 132.0 * kDim * 16 + coded * kDim * (2 * (4 + scales) + 6 * (2 + scales)) + 16.0 * kDim * kDim * (3 + 3 * 2);
  MESSAGE(fmt::format("aquakv: {} bits, formula {}", frames, bits));
  CHECK(std::fabs(frames / bits - 1) < 0.02);

  const TensorInfo& info = reader->dump().tensors.at(6);  // keys of the last layer
  Bytes bytes(info.bytes());
  reader->read({6, {0, 0, 0, 0}, info.shape}, bytes);
  const std::vector<float> values = token_first(values_of(bytes, DType::f16), tensors[6]).v;
  const Decoded plain = through_pipeline("window:sink=4:recent=128,quant:bits=2:axis=token-head:group=64,pack",
                                         Role::key, tensors[6], DType::f16);
  CHECK(squared_error(values, tensors[6].v) < squared_error(plain.values, tensors[6].v) / 4);
}
