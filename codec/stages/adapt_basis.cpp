// SPDX-License-Identifier: Apache-2.0
#include "codec/stages/adapt_basis.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "codec/kernels/products.hpp"
#include "codec/kernels/weighted_rows.hpp"

namespace kvzip {
namespace {

constexpr double kMostEnergy = 16;  // a value, where 1 is usual: sinks and the like would turn the basis to themselves

}  // namespace

AdaptBasis::AdaptBasis(std::size_t size, float noise)
    : size_(size), noise_(noise), vectors_(size * size), covariance_(size * size), every_(size) {
  for (std::size_t k = 0; k < size; ++k) vectors_[k * size + k] = 1;
  transposed_ = vectors_;
  std::iota(every_.begin(), every_.end(), 0u);
}

void AdaptBasis::project(const float* row, float* coefficients) const {
  std::fill_n(coefficients, size_, 0.0f);
  kernels::add_weighted_rows({row, every_.data(), size_, transposed_.data(), size_}, size_, coefficients);
}

void AdaptBasis::combine(const float* coefficients, float* row) const {
  std::fill_n(row, size_, 0.0f);
  // Most are zero at low rates.
  std::vector<float> weights(size_);
  std::vector<std::uint32_t> which(size_);
  std::size_t count = 0;
  for (std::size_t k = 0; k < size_; ++k) {
    weights[count] = coefficients[k];
    which[count] = static_cast<std::uint32_t>(k);
    count += coefficients[k] != 0 ? 1 : 0;
  }
  kernels::add_weighted_rows({weights.data(), which.data(), count, vectors_.data(), size_}, size_, row);
}

void AdaptBasis::observe(const float* rows, std::size_t count) {
  std::vector<std::uint32_t> usual;
  const double most = kMostEnergy * static_cast<double>(size_);
  for (std::size_t r = 0; r < count; ++r) {
    if (kernels::dot(rows + r * size_, rows + r * size_, size_) <= most) usual.push_back(static_cast<std::uint32_t>(r));
  }
  std::vector<float> column(usual.size());
  for (std::size_t i = 0; i < size_; ++i) {
    for (std::size_t r = 0; r < usual.size(); ++r) column[r] = rows[usual[r] * size_ + i];
    // The lower half is enough: refresh() fills in the other.
    kernels::add_weighted_rows({column.data(), usual.data(), usual.size(), rows, size_}, i + 1,
                               covariance_.data() + i * size_);
  }
  observed_ += usual.size();
}

void AdaptBasis::refresh() {
  for (std::size_t i = 0; i < size_; ++i) {
    for (std::size_t j = 0; j < i; ++j) covariance_[j * size_ + i] = covariance_[i * size_ + j];
  }
  std::vector<float> next;
  multiply(vectors_, covariance_, next);
  const float noise = noise_ * static_cast<float>(observed_);
  for (std::size_t i = 0; i < next.size(); ++i) next[i] += noise * vectors_[i];
  if (!orthonormalise(next)) return;
  vectors_ = std::move(next);
  for (std::size_t k = 0; k < size_; ++k) {
    for (std::size_t c = 0; c < size_; ++c) transposed_[c * size_ + k] = vectors_[k * size_ + c];
  }
}

void AdaptBasis::multiply(const std::vector<float>& by, const std::vector<float>& rows, std::vector<float>& out) const {
  out.assign(size_ * size_, 0.0f);
  for (std::size_t k = 0; k < size_; ++k) {
    kernels::add_weighted_rows({by.data() + k * size_, every_.data(), size_, rows.data(), size_}, size_,
                               out.data() + k * size_);
  }
}

/// The modified Gram-Schmidt process. False where a vector vanishes or is not finite.
bool AdaptBasis::orthonormalise(std::vector<float>& vectors) const {
  for (std::size_t k = 0; k < size_; ++k) {
    float* vector = vectors.data() + k * size_;
    const double energy = kernels::dot(vector, vector, size_);
    if (!(energy > 1e-30) || !std::isfinite(energy)) return false;
    const auto factor = static_cast<float>(1 / std::sqrt(energy));
    for (std::size_t c = 0; c < size_; ++c) vector[c] *= factor;
    for (std::size_t j = k + 1; j < size_; ++j) {
      float* other = vectors.data() + j * size_;
      kernels::add_multiple(vector, size_, static_cast<float>(-kernels::dot(vector, other, size_)), other);
    }
  }
  return true;
}

}  // namespace kvzip
