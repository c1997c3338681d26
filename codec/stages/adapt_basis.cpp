// SPDX-License-Identifier: Apache-2.0
#include "codec/stages/adapt_basis.hpp"

#include <algorithm>

#include "codec/kernels/gram_schmidt.hpp"
#include "codec/kernels/multiply.hpp"
#include "codec/kernels/products.hpp"

namespace kvzip {
namespace {

constexpr float kLeastOfNoise = 0.25f;  // of a vector that is turned; beyond that it costs more than it saves
constexpr std::size_t kBlock = 16;      // rows of the covariance that are added to at once
constexpr std::size_t kRows = 128;      // that are observed at once: they stay in the cache

}  // namespace

bool is_usual(const float* row, std::size_t size) {
  return kernels::dot(row, row, size) <= kMostEnergy * static_cast<double>(size);
}

void AdaptBasis::project(const float* rows, std::size_t stride, std::size_t count, float* coefficients) {
  if (vectors_.empty()) {
    for (std::size_t r = 0; r < count; ++r) std::copy_n(rows + r * stride, size_, coefficients + r * size_);
    return;
  }
  if (transposed_.empty()) {
    transposed_.resize(size_ * size_);
    kernels::transpose({vectors_.data(), size_}, size_, size_, transposed_.data(), size_);
  }
  kernels::multiply({rows, stride}, count, size_, {transposed_.data(), size_}, size_, coefficients, size_);
}

void AdaptBasis::combine(const float* coefficients, std::size_t count, float* rows, std::size_t stride) const {
  if (vectors_.empty()) {
    for (std::size_t r = 0; r < count; ++r) std::copy_n(coefficients + r * size_, size_, rows + r * stride);
    return;
  }
  kernels::multiply({coefficients, size_}, count, size_, {vectors_.data(), size_}, size_, rows, stride);
}

void AdaptBasis::observe(const float* coefficients, std::size_t count) {
  covariance_.resize(size_ * size_);
  work_.columns.resize(kRows * size_);
  work_.rows.resize(kRows * size_);
  for (std::size_t r = 0; r < count;) {
    std::size_t taken = 0;
    for (; r < count && taken < kRows; ++r) {
      const float* row = coefficients + r * size_;
      if (is_usual(row, size_)) std::copy_n(row, size_, work_.rows.data() + taken++ * size_);
    }
    kernels::transpose({work_.rows.data(), size_}, taken, size_, work_.columns.data(), kRows);
    for (std::size_t i = 0; i < size_; i += kBlock) {
      const std::size_t end = std::min(size_, i + kBlock);
      kernels::multiply_add({work_.columns.data() + i * kRows, kRows}, end - i, taken, {work_.rows.data(), size_}, end,
                            covariance_.data() + i * size_, size_);
    }
    observed_ += taken;
  }
}

void AdaptBasis::refresh() {
  const float noise = noise_ * static_cast<float>(observed_);
  std::vector<std::size_t> which;
  for (std::size_t k = 0; k < size_; ++k) {
    if (covariance_[k * size_ + k] > kLeastOfNoise * noise) which.push_back(k);
  }
  const std::size_t n = which.size(), stride = kernels::padded(n);
  work_.r.assign(n * stride, 0.0f);
  for (std::size_t i = 0; i < n; ++i) {
    const float* row = covariance_.data() + which[i] * size_;
    for (std::size_t j = 0; j < i; ++j) work_.r[i * stride + j] = work_.r[j * stride + i] = row[which[j]];
    work_.r[i * stride + i] = row[which[i]] + noise;
  }
  if (!factorise(n)) return;
  turn_vectors(which);
  // With C + noise = L R the turned coefficients have the covariance R C R' = R L - noise.
  const float* turned = swapped(n);
  for (std::size_t k = 0; k < size_; ++k) std::fill_n(covariance_.data() + k * size_, k, 0.0f);
  for (std::size_t i = 0; i < n; ++i) {
    float* row = covariance_.data() + which[i] * size_;
    for (std::size_t j = 0; j <= i; ++j) row[which[j]] = turned[i * stride + j];
    row[which[i]] -= noise;
  }
}

/// The matrix in r, n x n, as L R: R has orthonormal rows, L is zero above its diagonal. False where that fails. What a
/// lossy pass gives is no longer ill-conditioned, so that the next one makes it orthonormal.
bool AdaptBasis::factorise(std::size_t n) {
  constexpr int kMostPasses = 4;
  const std::size_t stride = kernels::padded(n);
  work_.l.assign(n * stride, 0.0f);
  work_.columns.resize(std::max(work_.columns.size(), stride * kernels::kPadding));
  work_.energies.resize(n);
  const auto pass = [&] {
    return kernels::gram_schmidt(work_.r.data(), work_.l.data(), n, work_.columns.data(), work_.energies.data());
  };
  kernels::GramSchmidt result = pass();
  for (int passes = 1; result == kernels::GramSchmidt::lossy && passes < kMostPasses; ++passes) {
    const std::vector<float> before = work_.l;
    result = pass();
    const std::vector<float> now = work_.l;
    kernels::multiply({before.data(), stride}, n, n, {now.data(), stride}, stride, work_.l.data(), stride);
  }
  return result != kernels::GramSchmidt::failed;
}

/// The vectors `which` become R times these vectors.
void AdaptBasis::turn_vectors(const std::vector<std::size_t>& which) {
  const std::size_t n = which.size(), stride = kernels::padded(n);
  transposed_.clear();
  if (vectors_.empty()) {  // they are the unit vectors
    vectors_.resize(size_ * size_);
    for (std::size_t k = 0; k < size_; ++k) vectors_[k * size_ + k] = 1;
    for (std::size_t i = 0; i < n; ++i) {
      // As a sum from +0 on, which is never -0.
      for (std::size_t j = 0; j < n; ++j) vectors_[which[i] * size_ + which[j]] = work_.r[i * stride + j] + 0.0f;
    }
    return;
  }
  work_.rows.resize(std::max(work_.rows.size(), n * size_));
  work_.product.resize(n * size_);
  for (std::size_t i = 0; i < n; ++i) {
    std::copy_n(vectors_.data() + which[i] * size_, size_, work_.rows.data() + i * size_);
  }
  kernels::multiply({work_.r.data(), stride}, n, n, {work_.rows.data(), size_}, size_, work_.product.data(), size_);
  for (std::size_t i = 0; i < n; ++i) {
    std::copy_n(work_.product.data() + i * size_, size_, vectors_.data() + which[i] * size_);
  }
}

/// The lower half of R L, and whatever above it; padded.
const float* AdaptBasis::swapped(std::size_t n) {
  constexpr std::size_t kColumns = kernels::kPadding;
  const std::size_t stride = kernels::padded(n);
  work_.product.resize(n * stride);
  for (std::size_t j = 0; j < n; j += kColumns) {
    const std::size_t at = j * stride + j;
    kernels::multiply({work_.r.data() + at, stride}, n - j, n - j, {work_.l.data() + at, stride}, kColumns,
                      work_.product.data() + at, stride);
  }
  return work_.product.data();
}

}  // namespace kvzip
