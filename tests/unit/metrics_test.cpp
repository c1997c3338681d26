// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kvzip/error.hpp"
#include "kvzip/metrics.hpp"

using kvzip::Distortion;

namespace {
const float kNan = std::numeric_limits<float>::quiet_NaN();
const float kInf = std::numeric_limits<float>::infinity();
}  // namespace

TEST_CASE("distortion of two short rows is what one works out by hand") {
  // Row 1: (3, 4) against (3, 3): error (0, 1), cosine (9 + 12) / (5 * sqrt 18).
  // Row 2: (0, 2) against (1, 2): error (1, 0), cosine 4 / (2 * sqrt 5).
  const std::vector<float> original{3, 4, 0, 2}, decoded{3, 3, 1, 2};
  Distortion d;
  d.add(original, decoded, 2);
  CHECK(d.values() == 4);
  CHECK(d.max_abs() == 1);
  CHECK(d.rmse() == doctest::Approx(std::sqrt(0.5)));
  CHECK(d.nrmse() == doctest::Approx(std::sqrt(2.0 / 29.0)));
  CHECK(d.snr_db() == doctest::Approx(10 * std::log10(14.5)));
  const double c1 = 21 / (5 * std::sqrt(18.0)), c2 = 4 / (2 * std::sqrt(5.0));
  CHECK(d.cosine_min() == doctest::Approx(c2));
  CHECK(d.cosine_mean() == doctest::Approx((c1 + c2) / 2));
  CHECK(!d.exact());
}

TEST_CASE("distortion does not depend on how the rows are handed in") {
  std::vector<float> original, decoded;
  for (int i = 0; i < 96; ++i) {
    original.push_back(std::sin(0.7f * static_cast<float>(i)));
    decoded.push_back(original.back() + 0.01f * std::cos(1.3f * static_cast<float>(i)));
  }
  Distortion whole, pieces;
  whole.add(original, decoded, 8);
  for (std::size_t at = 0; at < 96; at += 24) {
    pieces.add(std::span(original).subspan(at, 24), std::span(decoded).subspan(at, 24), 8);
  }
  CHECK(whole.rmse() == pieces.rmse());
  CHECK(whole.nrmse() == pieces.nrmse());
  CHECK(whole.cosine_mean() == pieces.cosine_mean());

  Distortion first, second;
  first.add(std::span(original).first(48), std::span(decoded).first(48), 8);
  second.add(std::span(original).subspan(48), std::span(decoded).subspan(48), 8);
  first.merge(second);
  CHECK(first.values() == 96);
  CHECK(first.max_abs() == whole.max_abs());
  CHECK(first.rmse() == doctest::Approx(whole.rmse()));
  CHECK(first.cosine_min() == whole.cosine_min());
  CHECK(first.cosine_mean() == doctest::Approx(whole.cosine_mean()));
}

TEST_CASE("distortion of equal, empty and zero data") {
  Distortion none;
  CHECK(none.values() == 0);
  CHECK(none.rmse() == 0);
  CHECK(none.nrmse() == 0);
  CHECK(none.snr_db() == std::numeric_limits<double>::infinity());
  CHECK(none.cosine_min() == 1);
  CHECK(none.cosine_mean() == 1);
  CHECK(none.exact());

  Distortion equal;
  const std::vector<float> x{1, -2, 0.1f};
  equal.add(x, x, 3);
  CHECK(equal.exact());
  CHECK(equal.cosine_min() == 1);

  // A zero original: relative measures are infinite, and the row has no direction to compare.
  Distortion zero;
  zero.add(std::vector<float>{0, 0}, std::vector<float>{0, 3}, 2);
  CHECK(zero.nrmse() == std::numeric_limits<double>::infinity());
  CHECK(zero.snr_db() == -std::numeric_limits<double>::infinity());
  CHECK(zero.cosine_mean() == 1);

  // A decoded row of zeros points nowhere.
  Distortion lost;
  lost.add(std::vector<float>{0, 3}, std::vector<float>{0, 0}, 2);
  CHECK(lost.cosine_min() == 0);
  CHECK(lost.nrmse() == 1);
  CHECK(lost.snr_db() == 0);
}

TEST_CASE("distortion counts non-finite positions apart") {
  Distortion d;
  d.add(std::vector<float>{kNan, kInf, kInf, 1, 2, 3}, std::vector<float>{kNan, kInf, -kInf, kNan, 2, 4}, 6);
  CHECK(d.nonfinite_mismatches() == 2);
  CHECK(d.values() == 2);
  CHECK(d.max_abs() == 1);
  CHECK(d.rmse() == doctest::Approx(std::sqrt(0.5)));
  CHECK(!d.exact());

  Distortion same;
  same.add(std::vector<float>{kNan, -kInf}, std::vector<float>{kNan, -kInf}, 2);
  CHECK(same.exact());
}

TEST_CASE("distortion refuses rows that do not fit") {
  Distortion d;
  CHECK_THROWS_AS(d.add(std::vector<float>{1, 2, 3}, std::vector<float>{1, 2, 3}, 2), kvzip::Error);
  CHECK_THROWS_AS(d.add(std::vector<float>{1, 2}, std::vector<float>{1}, 1), kvzip::Error);
  CHECK_THROWS_AS(d.add(std::vector<float>{1}, std::vector<float>{1}, 0), kvzip::Error);
}
