// SPDX-License-Identifier: Apache-2.0
#include "codec/stages/klt_basis.hpp"

#include <algorithm>
#include <cmath>

#include "codec/fail.hpp"
#include "codec/stages/eigen_order.hpp"

#include <Eigen/Eigenvalues>

namespace kvzip {
namespace {

constexpr std::size_t kBlockRows = 256;  // a block of a wide tile stays in the second cache

template <typename T>
using RowMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Eigen::Index;

/// Centred and scaled rows first to first + rows of the part.
template <typename T>
void load_block(const KltPart& part, std::size_t first, RowMajor<T>& block) {
  for (Index r = 0; r < block.rows(); ++r) {
    const float* x = part.x + (first + static_cast<std::size_t>(r)) * part.stride;
    T* out = block.data() + r * block.cols();
    // The factor first: a difference of the largest floats would overflow. But where a mean is much larger than what is
    // around it, the products do.
    for (std::size_t c = 0; c < part.cols; ++c) {
      const T difference = T{x[c]} * part.factor - T{part.mean[c]} * part.factor;
      out[c] = std::isfinite(difference) ? difference
                                         : static_cast<T>((double{x[c]} - double{part.mean[c]}) * double{part.factor});
    }
  }
}

template <typename T, typename F>
void for_each_block(const KltPart& part, F&& use) {
  RowMajor<T> block;
  for (std::size_t first = 0; first < part.rows; first += kBlockRows) {
    const std::size_t rows = std::min(kBlockRows, part.rows - first);
    block.resize(static_cast<Index>(rows), static_cast<Index>(part.cols));
    load_block(part, first, block);
    use(block, static_cast<Index>(first));
  }
}

/// Without the division by the rows, which changes no eigenvector.
Eigen::MatrixXd covariance(const KltPart& part) {
  const auto cols = static_cast<Index>(part.cols);
  Eigen::MatrixXd sum = Eigen::MatrixXd::Zero(cols, cols);
  for_each_block<double>(part, [&](const RowMajor<double>& block, Index) {
    sum.selfadjointView<Eigen::Lower>().rankUpdate(block.transpose());
  });
  return sum;
}

/// Eigenvectors in columns, by ascending eigenvalue. Where most eigenvalues are rounding errors, as of few different
/// rows, Eigen 3.4 can use up its steps on these: a multiple of the identity changes no eigenvector and hides them.
Eigen::MatrixXd eigenvectors_of(Eigen::MatrixXd matrix) {
  Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(matrix);  // reads the lower half
  if (solver.info() != Eigen::Success) {
    constexpr double kAboveErrors = 1024;
    matrix.diagonal().array() += kAboveErrors * matrix.diagonal().maxCoeff();
    solver.compute(matrix);
  }
  if (solver.info() != Eigen::Success) fail(ErrorCode::limit, "klt: the eigenvectors do not converge");
  return solver.eigenvectors();
}

}  // namespace

std::vector<float> klt_basis(const KltPart& part, std::size_t count) {
  fix_order_of_sums();
  const Eigen::MatrixXd vectors = eigenvectors_of(covariance(part));
  std::vector<float> basis(count * part.cols);
  for (std::size_t k = 0; k < count; ++k) {
    const auto vector = vectors.col(static_cast<Index>(part.cols - 1 - k));  // ascending there
    Index at = 0;
    vector.cwiseAbs().maxCoeff(&at);
    const double sign = vector[at] < 0 ? -1 : 1;
    for (std::size_t c = 0; c < part.cols; ++c) {
      basis[k * part.cols + c] = static_cast<float>(sign * vector[static_cast<Index>(c)]);
    }
  }
  return basis;
}

std::vector<float> klt_coefficients(const KltPart& part, const std::vector<float>& basis, std::size_t count) {
  fix_order_of_sums();
  const auto columns = static_cast<Index>(count);
  std::vector<float> coefficients(part.rows * count);
  const Eigen::Map<const RowMajor<float>> vectors(basis.data(), columns, static_cast<Index>(part.cols));
  Eigen::Map<RowMajor<float>> all(coefficients.data(), static_cast<Index>(part.rows), columns);
  for_each_block<float>(part, [&](const RowMajor<float>& block, Index first) {
    all.middleRows(first, block.rows()).noalias() = block * vectors.transpose();
  });
  return coefficients;
}

}  // namespace kvzip
