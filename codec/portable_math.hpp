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

}  // namespace kvzip::portable
