// SPDX-License-Identifier: Apache-2.0
#include "codec/stages/ridge.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "codec/stages/eigen_order.hpp"

#include <Eigen/Cholesky>

namespace kvzip {
namespace {

using Doubles = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Doubles doubles(const std::vector<float>& values, std::size_t rows, std::size_t cols) {
  Doubles out(static_cast<Eigen::Index>(rows), static_cast<Eigen::Index>(cols));
  std::copy(values.begin(), values.end(), out.data());
  return out;
}

}  // namespace

std::vector<float> ridge_map(const std::vector<float>& x, std::size_t inputs, const std::vector<float>& y,
                             std::size_t outputs, std::size_t rows, double d) {
  fix_order_of_sums();
  std::vector<float> map(inputs * outputs);
  if (map.empty() || rows == 0) return map;
  const Doubles in = doubles(x, rows, inputs), out = doubles(y, rows, outputs);
  Eigen::MatrixXd gram = in.transpose() * in;
  const double mean = gram.diagonal().mean();
  if (!(mean > 0)) return map;
  gram.diagonal().array() += d * mean;
  const Doubles w = gram.ldlt().solve(in.transpose() * out);
  constexpr double kLargest = std::numeric_limits<float>::max();
  for (std::size_t i = 0; i < map.size(); ++i) {
    const double v = w.data()[i];
    map[i] = std::isnan(v) ? 0 : static_cast<float>(std::clamp(v, -kLargest, kLargest));
  }
  return map;
}

}  // namespace kvzip
