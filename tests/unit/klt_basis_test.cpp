// SPDX-License-Identifier: Apache-2.0
// Bases of tiles that have few directions: orthonormal, and these directions first.
#include "codec/stages/klt_basis.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

namespace kvzip {
namespace {

constexpr std::size_t kCols = 64;

/// Fives of zeros and ones, one behind the other: at most five different rows.
std::vector<float> fives(std::size_t rows, unsigned five) {
  std::vector<float> x(rows * kCols);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(five >> i % 5 & 1);
  return x;
}

double product(const float* a, const float* b) {
  double sum = 0;
  for (std::size_t c = 0; c < kCols; ++c) sum += double{a[c]} * double{b[c]};
  return sum;
}

}  // namespace

TEST_CASE("klt: tiles whose other eigenvalues are rounding errors") {
  // With these Eigen's solver gives up at the first attempt (3.4.0, x86-64).
  struct Case {
    std::size_t rows;
    unsigned five;
  };
  for (const Case& c : {Case{14, 1}, Case{38, 1}, Case{14, 16}, Case{49, 23}, Case{39, 29}, Case{19, 30}}) {
    CAPTURE(c.rows);
    CAPTURE(c.five);
    const std::vector<float> x = fives(c.rows, c.five);
    std::vector<float> mean(kCols);
    for (std::size_t i = 0; i < x.size(); ++i) mean[i % kCols] += x[i];
    for (float& m : mean) m /= static_cast<float>(c.rows);
    const KltPart part{x.data(), c.rows, kCols, kCols, mean.data(), 1};
    const std::vector<float> basis = klt_basis(part, kCols);
    double worst = 0;
    for (std::size_t a = 0; a < kCols; ++a) {
      for (std::size_t b = 0; b <= a; ++b) {
        worst = std::max(worst, std::fabs(product(&basis[a * kCols], &basis[b * kCols]) - (a == b ? 1 : 0)));
      }
    }
    CHECK(worst < 1e-6);
    // Five rows, their mean taken off: four directions.
    const std::vector<float> all = klt_coefficients(part, basis, kCols);
    float rest = 0;
    for (std::size_t i = 0; i < all.size(); ++i) rest = i % kCols < 4 ? rest : std::max(rest, std::fabs(all[i]));
    CHECK(rest < 1e-5f);
  }
}

TEST_CASE("klt: a constant channel beside channels of the smallest numbers") {
  constexpr std::size_t kRows = 20;
  std::vector<float> x(kRows * 2), mean{4, 0};
  for (std::size_t r = 0; r < kRows; ++r) x[2 * r] = 4, x[2 * r + 1] = r % 2 == 0 ? 0x1p-133f : -0x1p-133f;
  const KltPart part{x.data(), kRows, 2, 2, mean.data(), 0x1p127f};
  const std::vector<float> basis = klt_basis(part, 2), all = klt_coefficients(part, basis, 2);
  CHECK(std::fabs(basis[1]) == 1);  // the second channel first
  for (std::size_t r = 0; r < kRows; ++r) {
    CHECK(std::fabs(all[2 * r]) == 0x1p-6f);
    CHECK(all[2 * r + 1] == 0);
  }
}

}  // namespace kvzip
