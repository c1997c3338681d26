// SPDX-License-Identifier: Apache-2.0
#include "codec/portable_math.hpp"

#include <cmath>

namespace kvzip::portable {
namespace {

// ln 2 in parts of which the first ends in zeros, so that k times it is exact (Cody and Waite 1980).
constexpr double kLn2High = 0x1.62e42fee00000p-1, kLn2Low = 0x1.a39ef35793c76p-33;

}  // namespace

double log(double x) {
  int exponent = 0;
  double m = std::frexp(x, &exponent);  // exact by definition
  if (m < 0x1.6a09e667f3bcdp-1) {
    m *= 2;
    --exponent;
  }
  const double z = (m - 1) / (m + 1), z2 = z * z;
  double sum = 0;
  for (int k = 41; k >= 1; k -= 2) sum = sum * z2 + 1.0 / k;
  return exponent * kLn2High + (exponent * kLn2Low + 2 * z * sum);
}

double exp(double x) {
  const double k = std::floor(x / 0x1.62e42fefa39efp-1 + 0.5);
  const double r = (x - k * kLn2High) - k * kLn2Low;
  double sum = 1;
  for (int n = 20; n >= 1; --n) sum = 1 + sum * r / n;
  return std::ldexp(sum, static_cast<int>(k));
}

double expm1(double x) {
  double sum = 1;
  for (int n = 20; n >= 2; --n) sum = 1 + sum * x / n;
  return x * sum;
}

double log1p(double x) {
  if (!(std::fabs(x) < 0.5)) return log(1 + x);
  const double z = x / (2 + x), z2 = z * z;
  double sum = 0;
  for (int k = 41; k >= 1; k -= 2) sum = sum * z2 + 1.0 / k;
  return 2 * z * sum;
}

SinCos sincos(double x) {
  const double k = std::floor(x * kTwoOverPi + 0.5);
  const double r = ((x - k * kPi2High) - k * kPi2Middle) - k * kPi2Low, r2 = r * r;
  double s = 1, c = 1;
  for (int n = 20; n >= 2; n -= 2) {
    s = 1 - s * r2 / (n * (n + 1));
    c = 1 - c * r2 / ((n - 1) * n);
  }
  s *= r;
  switch (static_cast<long long>(k) & 3) {
    case 0:
      return {s, c};
    case 1:
      return {c, -s};
    case 2:
      return {-s, -c};
    default:
      return {-c, s};
  }
}

}  // namespace kvzip::portable
