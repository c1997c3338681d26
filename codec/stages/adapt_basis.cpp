// SPDX-License-Identifier: Apache-2.0
#include "codec/stages/adapt_basis.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "codec/kernels/multiply.hpp"
#include "codec/kernels/products.hpp"

namespace kvzip {
namespace {

constexpr float kLeastOfNoise = 0.25f;  // of a vector that is turned; beyond that it costs more than it saves
constexpr std::size_t kBlock = 16;      // vectors that are removed from the others at once

/// `rows` x `cols` of `from`, columns as rows.
std::vector<float> transpose(const float* from, std::size_t rows, std::size_t cols) {
  std::vector<float> out(rows * cols);
  for (std::size_t begin = 0; begin < rows; begin += kBlock) {
    const std::size_t end = std::min(rows, begin + kBlock);
    for (std::size_t c = 0; c < cols; ++c) {
      for (std::size_t r = begin; r < end; ++r) out[c * rows + r] = from[r * cols + c];
    }
  }
  return out;
}

/// A matrix as L R: R has orthonormal rows, L is zero above its diagonal. Both are size x size.
struct Factors {
  std::size_t size;
  std::vector<float> l, r;
};

/// Takes from the rows after `end` what lies along those from `begin` to it.
void remove_block(Factors& f, std::size_t begin, std::size_t end) {
  const std::size_t size = f.size, n = end - begin, rest = size - end;
  const float* block = f.r.data() + begin * size;
  float* others = f.r.data() + end * size;
  const std::vector<float> columns = transpose(block, n, size);
  std::vector<float> along(rest * n);
  kernels::multiply_add({others, size, 1}, rest, size, columns.data(), n, n, along.data(), n);
  for (std::size_t i = 0; i < rest; ++i) std::copy_n(along.data() + i * n, n, f.l.data() + (end + i) * size + begin);
  for (float& a : along) a = -a;
  kernels::multiply_add({along.data(), n, 1}, rest, n, block, size, size, others, size);
}

enum class Pass { good, lossy, failed };

/// The modified Gram-Schmidt process by blocks of rows (Golub and Van Loan, 5.2.8), from a matrix in f.r. It is lossy
/// where little of a row is left when the others are taken out, since rounding errors then weigh; it fails where a row
/// vanishes or is not finite.
Pass orthonormalise(Factors& f) {
  constexpr double kLittle = 0x1p-10;  // of a row's energy
  f.l.assign(f.size * f.size, 0.0f);
  std::vector<double> whole;
  for (std::size_t k = 0; k < f.size; ++k) {
    whole.push_back(kernels::dot(f.r.data() + k * f.size, f.r.data() + k * f.size, f.size));
  }
  Pass pass = Pass::good;
  for (std::size_t begin = 0; begin < f.size; begin += kBlock) {
    const std::size_t end = std::min(f.size, begin + kBlock);
    for (std::size_t k = begin; k < end; ++k) {
      float* row = f.r.data() + k * f.size;
      const double energy = kernels::dot(row, row, f.size);
      if (!(energy > 1e-30) || !std::isfinite(energy)) return Pass::failed;
      if (energy < kLittle * whole[k]) pass = Pass::lossy;
      const double length = std::sqrt(energy);
      f.l[k * f.size + k] = static_cast<float>(length);
      const auto factor = static_cast<float>(1 / length);
      for (std::size_t c = 0; c < f.size; ++c) row[c] *= factor;
      for (std::size_t j = k + 1; j < end; ++j) {
        float* other = f.r.data() + j * f.size;
        const auto along = static_cast<float>(kernels::dot(row, other, f.size));
        f.l[j * f.size + k] = along;
        kernels::add_multiple(row, f.size, -along, other);
      }
    }
    remove_block(f, begin, end);
  }
  return pass;
}

/// From a matrix in f.r; false where that fails. What a lossy pass gives is no longer ill-conditioned, so that the next
/// one makes it orthonormal.
bool factorise(Factors& f) {
  constexpr int kMostPasses = 4;
  Pass pass = orthonormalise(f);
  for (int passes = 1; pass == Pass::lossy && passes < kMostPasses; ++passes) {
    const std::vector<float> before = std::move(f.l);
    pass = orthonormalise(f);
    const std::vector<float> now = std::exchange(f.l, std::vector<float>(f.size * f.size));
    kernels::multiply_add({before.data(), f.size, 1}, f.size, f.size, now.data(), f.size, f.size, f.l.data(), f.size);
  }
  return pass != Pass::failed;
}

/// The lower half of R L, and whatever above it.
std::vector<float> swapped(const Factors& f) {
  constexpr std::size_t kColumns = 64;
  std::vector<float> out(f.size * f.size);
  for (std::size_t j = 0; j < f.size; j += kColumns) {
    const std::size_t n = std::min(kColumns, f.size - j), at = j * f.size + j;
    kernels::multiply_add({f.r.data() + at, f.size, 1}, f.size - j, f.size - j, f.l.data() + at, f.size, n,
                          out.data() + at, f.size);
  }
  return out;
}

}  // namespace

bool is_usual(const float* row, std::size_t size) {
  return kernels::dot(row, row, size) <= kMostEnergy * static_cast<double>(size);
}

void AdaptBasis::project(const float* rows, std::size_t stride, std::size_t count, float* coefficients) {
  if (vectors_.empty()) {
    for (std::size_t r = 0; r < count; ++r) std::copy_n(rows + r * stride, size_, coefficients + r * size_);
    return;
  }
  if (transposed_.empty()) transposed_ = transpose(vectors_.data(), size_, size_);
  std::fill_n(coefficients, count * size_, 0.0f);
  kernels::multiply_add({rows, stride, 1}, count, size_, transposed_.data(), size_, size_, coefficients, size_);
}

void AdaptBasis::combine(const float* coefficients, std::size_t count, float* rows, std::size_t stride) const {
  if (vectors_.empty()) {
    for (std::size_t r = 0; r < count; ++r) std::copy_n(coefficients + r * size_, size_, rows + r * stride);
    return;
  }
  kernels::multiply_add({coefficients, size_, 1}, count, size_, vectors_.data(), size_, size_, rows, stride);
}

void AdaptBasis::observe(const float* coefficients, std::size_t count) {
  std::vector<float> usual;
  usual.reserve(count * size_);
  for (const float* row = coefficients; row < coefficients + count * size_; row += size_) {
    if (is_usual(row, size_)) usual.insert(usual.end(), row, row + size_);
  }
  const std::size_t taken = usual.size() / size_;
  covariance_.resize(size_ * size_);
  for (std::size_t i = 0; i < size_; i += kBlock) {
    const std::size_t end = std::min(size_, i + kBlock);
    kernels::multiply_add({usual.data() + i, 1, size_}, end - i, taken, usual.data(), size_, end,
                          covariance_.data() + i * size_, size_);
  }
  observed_ += taken;
}

void AdaptBasis::refresh() {
  const float noise = noise_ * static_cast<float>(observed_);
  std::vector<std::size_t> which;
  for (std::size_t k = 0; k < size_; ++k) {
    if (covariance_[k * size_ + k] > kLeastOfNoise * noise) which.push_back(k);
  }
  const std::size_t n = which.size();
  Factors f{n, {}, std::vector<float>(n * n)};
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < i; ++j) f.r[i * n + j] = f.r[j * n + i] = covariance_[which[i] * size_ + which[j]];
    f.r[i * n + i] = covariance_[which[i] * size_ + which[i]] + noise;
  }
  if (!factorise(f)) return;
  turn_vectors(which, f.r);
  // With C + noise = L R the turned coefficients have the covariance R C R' = R L - noise.
  const std::vector<float> turned = swapped(f);
  for (std::size_t k = 0; k < size_; ++k) std::fill_n(covariance_.data() + k * size_, k, 0.0f);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j <= i; ++j) covariance_[which[i] * size_ + which[j]] = turned[i * n + j];
    covariance_[which[i] * size_ + which[i]] -= noise;
  }
}

/// The vectors `which` become `rotation` times these vectors.
void AdaptBasis::turn_vectors(const std::vector<std::size_t>& which, const std::vector<float>& rotation) {
  const std::size_t n = which.size();
  if (vectors_.empty()) {
    vectors_.resize(size_ * size_);
    for (std::size_t k = 0; k < size_; ++k) vectors_[k * size_ + k] = 1;
  }
  std::vector<float> old(n * size_), turned(n * size_);
  for (std::size_t i = 0; i < n; ++i) std::copy_n(vectors_.data() + which[i] * size_, size_, old.data() + i * size_);
  kernels::multiply_add({rotation.data(), n, 1}, n, n, old.data(), size_, size_, turned.data(), size_);
  for (std::size_t i = 0; i < n; ++i) std::copy_n(turned.data() + i * size_, size_, vectors_.data() + which[i] * size_);
  transposed_.clear();
}

}  // namespace kvzip
