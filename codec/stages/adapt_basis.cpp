// SPDX-License-Identifier: Apache-2.0
#include "codec/stages/adapt_basis.hpp"

#include <algorithm>
#include <array>

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

void mark_usual(const float* rows, std::size_t size, std::span<std::uint8_t> marks) {
  std::array<double, kRows> energies;
  for (std::size_t r = 0; r < marks.size(); r += kRows) {
    const std::size_t some = std::min(kRows, marks.size() - r);
    kernels::row_energies(rows + r * size, some, size, energies.data());
    for (std::size_t i = 0; i < some; ++i) {
      marks[r + i] = energies[i] <= kMostEnergy * static_cast<double>(size) ? 1 : 0;
    }
  }
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
  work_.rows.resize(std::max(work_.rows.size(), kRows * size_));
  for (std::size_t r = 0; r < count; r += kRows) {
    const std::size_t some = std::min(kRows, count - r);
    // In one piece: rows that lie a power of two apart would drive each other from the cache.
    for (std::size_t i = 0; i < some; ++i) {
      std::copy_n(rows + (r + i) * stride, size_, work_.rows.data() + i * size_);
    }
    kernels::multiply({work_.rows.data(), size_}, some, size_, {transposed_.data(), size_}, size_,
                      coefficients + r * size_, size_);
  }
}

void AdaptBasis::combine(const float* coefficients, std::size_t count, float* rows) const {
  if (vectors_.empty()) {
    std::copy_n(coefficients, count * size_, rows);
    return;
  }
  kernels::multiply({coefficients, size_}, count, size_, {vectors_.data(), size_}, size_, rows, size_);
}

void AdaptBasis::observe(const float* coefficients, std::span<const std::uint8_t> usual) {
  if (covariance_.empty()) covariance_.assign(size_ * size_, 0.0f);
  work_.columns.resize(std::max(work_.columns.size(), kRows * size_));
  work_.rows.resize(std::max(work_.rows.size(), kRows * size_));
  for (std::size_t r = 0; r < usual.size();) {
    std::size_t taken = 0;
    for (; r < usual.size() && taken < kRows; ++r) {
      if (usual[r] != 0) std::copy_n(coefficients + r * size_, size_, work_.rows.data() + taken++ * size_);
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
  take_covariance(which, noise);
  if (!factorise(which.size())) return;
  turn_vectors(which);
  // With C + noise = L R the turned coefficients have the covariance R C R' = R L - noise.
  lower_product(work_.r.data(), which.size(), false);
  put_covariance(which, noise);
}

/// To r, with both halves.
void AdaptBasis::take_covariance(const std::vector<std::size_t>& which, float noise) {
  const std::size_t n = which.size(), stride = kernels::padded(n);
  work_.r.resize(n * stride);
  for (std::size_t i = 0; i < n; ++i) {
    const float* from = covariance_.data() + which[i] * size_;
    float* row = work_.r.data() + i * stride;
    if (n == size_) {
      std::copy_n(from, i, row);
    } else {
      for (std::size_t j = 0; j < i; ++j) row[j] = from[which[j]];
    }
    row[i] = from[which[i]] + noise;
    std::fill(row + n, row + stride, 0.0f);
  }
  for (std::size_t i = 0; i < n; i += kBlock) {
    float* rows = work_.r.data() + i * stride;
    const std::size_t count = std::min(kBlock, n - i);
    kernels::transpose({rows, stride}, count, i, work_.r.data() + i, stride);
    for (std::size_t r = 0; r < count; ++r) {
      for (std::size_t c = 0; c < r; ++c) rows[c * stride + i + r] = rows[r * stride + i + c];
    }
  }
}

/// From the product.
void AdaptBasis::put_covariance(const std::vector<std::size_t>& which, float noise) {
  const std::size_t n = which.size(), stride = kernels::padded(n);
  for (std::size_t k = 0; n < size_ && k < size_; ++k) std::fill_n(covariance_.data() + k * size_, k, 0.0f);
  for (std::size_t i = 0; i < n; ++i) {
    const float* turned = work_.product.data() + i * stride;
    float* row = covariance_.data() + which[i] * size_;
    if (n == size_) {
      std::copy_n(turned, i + 1, row);
    } else {
      for (std::size_t j = 0; j <= i; ++j) row[which[j]] = turned[j];
    }
    row[which[i]] -= noise;
  }
}

/// The matrix in r, n x n, as L R: R has orthonormal rows, L is zero above its diagonal. False where that fails. What a
/// lossy pass gives is no longer ill-conditioned, so that the next one makes it orthonormal.
bool AdaptBasis::factorise(std::size_t n) {
  constexpr int kMostPasses = 4;
  const std::size_t stride = kernels::padded(n);
  work_.l.resize(n * stride);
  work_.columns.resize(std::max(work_.columns.size(), stride * kernels::kPadding));
  work_.energies.resize(n);
  const auto pass = [&] {
    return kernels::gram_schmidt(work_.r.data(), work_.l.data(), n, work_.columns.data(), work_.energies.data());
  };
  kernels::GramSchmidt result = pass();
  for (int passes = 1; result == kernels::GramSchmidt::lossy && passes < kMostPasses; ++passes) {
    std::swap(work_.l, work_.before);
    work_.l.resize(n * stride);
    result = pass();
    lower_product(work_.before.data(), n, true);
    std::swap(work_.l, work_.product);
  }
  return result != kernels::GramSchmidt::failed;
}

/// The product of a and L on and below the diagonal; above it, it means nothing. a may be lower triangular, too.
void AdaptBasis::lower_product(const float* a, std::size_t n, bool triangular) {
  static_assert(kBlock == kernels::kPadding);
  const std::size_t stride = kernels::padded(n);
  work_.product.resize(n * stride);
  for (std::size_t j = 0; j < n; j += kBlock) {
    for (std::size_t i = j; i < n; i += kBlock) {
      const std::size_t rows = std::min(kBlock, n - i), terms = (triangular ? i + rows : n) - j;
      kernels::multiply({a + i * stride + j, stride}, rows, terms, {work_.l.data() + j * stride + j, stride}, kBlock,
                        work_.product.data() + i * stride + j, stride);
    }
  }
}

/// The vectors `which` become R times these vectors.
void AdaptBasis::turn_vectors(const std::vector<std::size_t>& which) {
  const std::size_t n = which.size(), stride = kernels::padded(n);
  transposed_.clear();
  if (vectors_.empty()) {  // they are the unit vectors
    vectors_.assign(size_ * size_, 0.0f);
    for (std::size_t k = 0; k < size_; ++k) vectors_[k * size_ + k] = 1;
    for (std::size_t i = 0; i < n; ++i) {
      // As a sum from +0 on, which is never -0.
      for (std::size_t j = 0; j < n; ++j) vectors_[which[i] * size_ + which[j]] = work_.r[i * stride + j] + 0.0f;
    }
    return;
  }
  work_.product.resize(n * size_);
  const float* old = vectors_.data();
  if (n < size_) {
    work_.rows.resize(std::max(work_.rows.size(), n * size_));
    for (std::size_t i = 0; i < n; ++i) std::copy_n(old + which[i] * size_, size_, work_.rows.data() + i * size_);
    old = work_.rows.data();
  }
  kernels::multiply({work_.r.data(), stride}, n, n, {old, size_}, size_, work_.product.data(), size_);
  if (n == size_) return std::swap(vectors_, work_.product);
  for (std::size_t i = 0; i < n; ++i) {
    std::copy_n(work_.product.data() + i * size_, size_, vectors_.data() + which[i] * size_);
  }
}

}  // namespace kvzip
