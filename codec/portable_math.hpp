// SPDX-License-Identifier: Apache-2.0
// Elementary functions from IEEE double additions, multiplications and divisions alone. Libraries' versions differ in
// the last bit between systems, and decoded values must not.
#pragma once

namespace kvzip::portable {

double log(double x);    // x > 0
double exp(double x);    // |x| < 700
double expm1(double x);  // exp(x) - 1 for |x| <= 1
double log1p(double x);  // log(1 + x), x > -1
struct SinCos {
  double sin, cos;
};
SinCos sincos(double x);  // |x| < 2^30, error below 1e-15

/// pi / 2 in parts whose leading ones end in zeros, so that k times a part is exact (Cody and Waite 1980).
inline constexpr double kPi2High = 0x1.921fb40000000p+0, kPi2Middle = 0x1.4442d00000000p-24,
                        kPi2Low = 0x1.8469898cc5170p-48;
inline constexpr double kTwoOverPi = 0x1.45f306dc9c883p-1;

}  // namespace kvzip::portable
