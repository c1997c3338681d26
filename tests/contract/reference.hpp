// SPDX-License-Identifier: Apache-2.0
// Scalar reference code for the presets, worked out from the papers' formulas. It shares nothing with the codec: groups
// are lists of indices, short float formats are rounded by division with their quantum, linear algebra is in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace kvzip::reference {

/// A binary float format: width, significand bits with the implicit one, exponent of the least normal number, largest
/// finite value.
struct Format {
  int width, significand, least_exponent;
  double largest;
  int bias() const { return 1 - least_exponent; }
};
inline constexpr Format kHalf{16, 11, -14, 65504}, kBfloat{16, 8, -126, 0x1.fep127};
inline constexpr Format kSingle{32, 24, -126, 0x1.fffffep127}, kDouble{64, 53, -1022, 0x1.fffffffffffffp1023};
inline constexpr Format kE4m3{8, 4, -6, 448}, kE5m2{8, 3, -14, 57344};
inline constexpr Format kE4m3Fnuz{8, 4, -7, 240}, kE5m2Fnuz{8, 3, -15, 57344};

/// Nearest multiple of the quantum at x, ties to even; the result may lie beyond the format's range.
inline double nearest(double x, const Format& f) {
  if (x == 0 || !std::isfinite(x)) return x;
  const int exponent = std::max(std::ilogb(x), f.least_exponent);
  const double quantum = std::ldexp(1.0, exponent - f.significand + 1);
  return std::nearbyint(x / quantum) * quantum;
}
inline float saturated(double x, const Format& f) {
  return static_cast<float>(std::isfinite(x) ? std::clamp(nearest(x, f), -f.largest, f.largest) : x);
}

/// The bits of a value that the format holds. Infinity and NaN have the exponent field of all ones (IEEE formats only).
inline std::uint64_t bits_of(double x, const Format& f) {
  const std::uint64_t sign = std::signbit(x) ? std::uint64_t{1} << (f.width - 1) : 0;
  const int stored = f.significand - 1;
  const double m = std::fabs(x);
  if (!std::isfinite(x)) {
    const std::uint64_t ones = (std::uint64_t{1} << (f.width - 1 - stored)) - 1;
    return sign | ones << stored | (std::isnan(x) ? std::uint64_t{1} << (stored - 1) : 0);
  }
  if (m < std::ldexp(1.0, f.least_exponent)) {
    return sign | static_cast<std::uint64_t>(std::ldexp(m, stored - f.least_exponent));
  }
  const int exponent = std::ilogb(m);
  const auto fraction = static_cast<std::uint64_t>(std::ldexp(m, stored - exponent)) - (std::uint64_t{1} << stored);
  return sign | static_cast<std::uint64_t>(exponent + f.bias()) << stored | fraction;
}
inline double value_of(std::uint64_t bits, const Format& f, bool ieee_specials = true) {
  const int stored = f.significand - 1;
  const bool negative = (bits >> (f.width - 1) & 1) != 0;
  const std::uint64_t fraction = bits & ((std::uint64_t{1} << stored) - 1);
  const std::uint64_t ones = (std::uint64_t{1} << (f.width - 1 - stored)) - 1, field = bits >> stored & ones;
  double m = std::ldexp(static_cast<double>(fraction), f.least_exponent - stored);
  if (field != 0) {
    m = std::ldexp(static_cast<double>(fraction | std::uint64_t{1} << stored),
                   static_cast<int>(field) - f.bias() - stored);
  }
  if (ieee_specials && field == ones) m = fraction == 0 ? HUGE_VAL : std::nan("");
  return negative ? -m : m;
}

/// Tokens x channels, channels head-major.
struct Matrix {
  std::size_t rows = 0, heads = 1, dim = 1;
  std::vector<float> v;
  std::size_t cols() const { return heads * dim; }
  float& at(std::size_t r, std::size_t c) { return v[r * cols() + c]; }
  float at(std::size_t r, std::size_t c) const { return v[r * cols() + c]; }
};

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 2654435769u + 88172645463325252u) {}
  std::uint64_t next() {  // xorshift64 (Marsaglia 2003)
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    return state_ ^= state_ << 17;
  }
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  double normal() {
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += uniform();
    return sum;
  }
  std::size_t below(std::size_t n) { return next() % n; }

 private:
  std::uint64_t state_;
};

/// What caches look like: channels with offsets, some of them large, a component that moves slowly along the tokens,
/// noise, and a sink token with a few huge values.
inline Matrix synthetic(std::size_t rows, std::size_t heads, std::size_t dim, const Format& f, std::uint64_t seed,
                        double magnitude = 1) {
  Matrix m{rows, heads, dim, std::vector<float>(rows * heads * dim)};
  Random random(seed);
  std::vector<double> offset(m.cols()), sway(m.cols()), walk(heads);
  for (std::size_t c = 0; c < m.cols(); ++c) {
    offset[c] = random.normal() * (c % 17 == 3 ? 9 : 0.5);
    sway[c] = random.normal() * (c % 17 == 3 ? 2 : 0.7);
  }
  for (std::size_t r = 0; r < rows; ++r) {
    for (double& w : walk) w = 0.95 * w + 0.3 * random.normal();
    for (std::size_t c = 0; c < m.cols(); ++c) {
      double x = offset[c] + sway[c] * walk[c / dim] + 0.5 * random.normal();
      if (r == 0 && c % 29 == 5) x *= 20;
      m.at(r, c) = saturated(x * magnitude, f);
    }
  }
  return m;
}

/// Indices that share a scale.
using Group = std::vector<std::size_t>;

/// Runs of g tokens of each channel, counted from row `first`; the last run may be short.
inline std::vector<Group> along_tokens(const Matrix& m, std::size_t first, std::size_t last, std::size_t g) {
  std::vector<Group> groups;
  for (std::size_t c = 0; c < m.cols(); ++c) {
    for (std::size_t r = first; r < last; ++r) {
      if ((r - first) % g == 0) groups.emplace_back();
      groups.back().push_back(r * m.cols() + c);
    }
  }
  return groups;
}
/// Runs of g channels of each token; runs start anew every `width` channels (a head, or all of them).
inline std::vector<Group> along_channels(const Matrix& m, std::size_t first, std::size_t last, std::size_t width,
                                         std::size_t g) {
  std::vector<Group> groups;
  for (std::size_t r = first; r < last; ++r) {
    for (std::size_t c = 0; c < m.cols(); ++c) {
      if (c % width % g == 0) groups.emplace_back();
      groups.back().push_back(r * m.cols() + c);
    }
  }
  return groups;
}

/// Side numbers as half precision behind one power of two: 2^0 while all are 0 or normal halves, otherwise the one that
/// brings the largest magnitude into [2^14, 2^15).
inline void store_halves(std::vector<float>& numbers) {
  double largest = 0, smallest = HUGE_VAL;
  for (const float x : numbers) {
    largest = std::max(largest, std::fabs(double{x}));
    if (x != 0) smallest = std::min(smallest, std::fabs(double{x}));
  }
  const bool ordinary = largest <= kHalf.largest && smallest >= 0x1p-14;
  const int shift = ordinary || largest == 0 ? 0 : std::clamp(std::ilogb(largest) - 14, -127, 127);
  for (float& x : numbers) {
    x = static_cast<float>(std::ldexp(double{saturated(std::ldexp(double{x}, -shift), kHalf)}, shift));
  }
}
/// Side numbers in the dump's own format.
inline void store(std::vector<float>& numbers, const Format& f) {
  if (f.width == 16 && f.significand == kHalf.significand) return store_halves(numbers);
  for (float& x : numbers) x = saturated(x, f);
}

/// scale = (max - min) / (2^b - 1), q = round((x - min) / scale), x' = q scale + min; scale and min in half precision.
/// Values outside the groups stay as they are.
inline std::vector<float> asymmetric(std::vector<float> x, const std::vector<Group>& groups, int bits) {
  const float top = static_cast<float>((1 << bits) - 1);
  std::vector<float> low, scale;
  for (const Group& group : groups) {
    const auto [least, most] =
        std::minmax_element(group.begin(), group.end(), [&](std::size_t a, std::size_t b) { return x[a] < x[b]; });
    low.push_back(x[*least]);
    scale.push_back(static_cast<float>((double{x[*most]} - double{x[*least]}) / top));
  }
  store_halves(low);
  store_halves(scale);
  for (std::size_t i = 0; i < groups.size(); ++i) {
    for (const std::size_t at : groups[i]) {
      const float q = scale[i] == 0 ? 0 : std::nearbyint((x[at] - low[i]) / scale[i]);
      const float part = std::clamp(q, 0.0f, top) * scale[i];
      x[at] = part + low[i];
    }
  }
  return x;
}

/// M = (levels - 1) / 2, m = absolute maximum, q = round(x (M / m) + M), x' = (q - M) / M m; m in the dump's format.
inline std::vector<float> absolute_maximum(std::vector<float> x, const std::vector<Group>& groups, int levels,
                                           const Format& f) {
  const int below = (levels - 1) / 2;
  const auto middle = static_cast<float>(below);
  std::vector<float> absmax(groups.size());
  for (std::size_t i = 0; i < groups.size(); ++i) {
    for (const std::size_t at : groups[i]) absmax[i] = std::max(absmax[i], std::fabs(x[at]));
  }
  store(absmax, f);
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const float factor = absmax[i] == 0 ? 0 : middle / absmax[i];
    for (const std::size_t at : groups[i]) {
      const float product = x[at] * factor;
      const float q = std::clamp(std::nearbyint(product + middle), 0.0f, 2 * middle);
      x[at] = (q - middle) / middle * absmax[i];
    }
  }
  return x;
}

/// M = 2^(b-1) - 1, scale = absmax / M, q = round(x / scale + M), x' = (q - M) scale; scale in half precision.
inline std::vector<float> symmetric(std::vector<float> x, const std::vector<Group>& groups, int bits) {
  const float middle = static_cast<float>((1 << (bits - 1)) - 1);
  std::vector<float> scale(groups.size());
  for (std::size_t i = 0; i < groups.size(); ++i) {
    float absmax = 0;
    for (const std::size_t at : groups[i]) absmax = std::max(absmax, std::fabs(x[at]));
    scale[i] = static_cast<float>(double{absmax} / middle);
  }
  store_halves(scale);
  for (std::size_t i = 0; i < groups.size(); ++i) {
    for (const std::size_t at : groups[i]) {
      const float ratio = scale[i] == 0 ? 0 : x[at] / scale[i];
      const float q = std::clamp(std::nearbyint(ratio + middle), 0.0f, 2 * middle);
      x[at] = (q - middle) * scale[i];
    }
  }
  return x;
}

/// Decoded values as the dump holds them.
inline void to_format(std::vector<float>& x, const Format& f) {
  for (float& value : x) value = saturated(value, f);
}

/// rows x cols in double, for linear algebra.
struct Dense {
  std::size_t rows, cols;
  std::vector<double> v;
  Dense(std::size_t r, std::size_t c) : rows(r), cols(c), v(r * c) {}
  double& at(std::size_t r, std::size_t c) { return v[r * cols + c]; }
  double at(std::size_t r, std::size_t c) const { return v[r * cols + c]; }
  double energy() const {
    double sum = 0;
    for (const double x : v) sum += x * x;
    return sum;
  }
};
inline Dense product(const Dense& a, const Dense& b) {
  Dense out(a.rows, b.cols);
  for (std::size_t i = 0; i < a.rows; ++i) {
    for (std::size_t k = 0; k < a.cols; ++k) {
      for (std::size_t j = 0; j < b.cols; ++j) out.at(i, j) += a.at(i, k) * b.at(k, j);
    }
  }
  return out;
}
inline Dense transposed(const Dense& a) {
  Dense out(a.cols, a.rows);
  for (std::size_t i = 0; i < a.rows; ++i) {
    for (std::size_t j = 0; j < a.cols; ++j) out.at(j, i) = a.at(i, j);
  }
  return out;
}
inline Dense head_of(const std::vector<float>& x, const Matrix& like, std::size_t head) {
  Dense out(like.rows, like.dim);
  for (std::size_t r = 0; r < like.rows; ++r) {
    for (std::size_t d = 0; d < like.dim; ++d) out.at(r, d) = double{x[r * like.cols() + head * like.dim + d]};
  }
  return out;
}

/// Eigenvalues of a symmetric matrix, largest first, by cyclic Jacobi rotations.
inline std::vector<double> eigenvalues(Dense a) {
  const std::size_t n = a.rows;
  for (int sweep = 0; sweep < 30; ++sweep) {
    double off = 0, all = a.energy();
    for (std::size_t p = 0; p < n; ++p) {
      for (std::size_t q = p + 1; q < n; ++q) {
        off += a.at(p, q) * a.at(p, q);
        if (a.at(p, q) == 0) continue;
        const double theta = (a.at(q, q) - a.at(p, p)) / (2 * a.at(p, q));
        const double t = std::copysign(1.0, theta) / (std::fabs(theta) + std::sqrt(theta * theta + 1));
        const double c = 1 / std::sqrt(t * t + 1), s = t * c;
        for (std::size_t k = 0; k < n; ++k) {
          const double x = a.at(k, p), y = a.at(k, q);
          a.at(k, p) = c * x - s * y;
          a.at(k, q) = s * x + c * y;
        }
        for (std::size_t k = 0; k < n; ++k) {
          const double x = a.at(p, k), y = a.at(q, k);
          a.at(p, k) = c * x - s * y;
          a.at(q, k) = s * x + c * y;
        }
      }
    }
    if (off <= 1e-26 * all) break;
  }
  std::vector<double> values(n);
  for (std::size_t i = 0; i < n; ++i) values[i] = a.at(i, i);
  std::sort(values.rbegin(), values.rend());
  return values;
}
/// Squared error of the best approximation of rank r (Eckart and Young).
inline double least_error(const Dense& e, std::size_t rank) {
  const std::vector<double> values = eigenvalues(product(transposed(e), e));
  double sum = 0;
  for (std::size_t i = rank; i < values.size(); ++i) sum += std::max(0.0, values[i]);
  return sum;
}

inline void orthonormalise(Dense& a) {
  for (std::size_t k = 0; k < a.cols; ++k) {
    for (std::size_t j = 0; j < 2 * k; ++j) {  // every earlier column twice
      double dot = 0;
      for (std::size_t i = 0; i < a.rows; ++i) dot += a.at(i, k) * a.at(i, j % k);
      for (std::size_t i = 0; i < a.rows; ++i) a.at(i, k) -= dot * a.at(i, j % k);
    }
    double norm = 0;
    for (std::size_t i = 0; i < a.rows; ++i) norm += a.at(i, k) * a.at(i, k);
    for (std::size_t i = 0; i < a.rows; ++i) a.at(i, k) *= norm > 0 ? 1 / std::sqrt(norm) : 0;
  }
}
/// GEAR's power iteration as published: un-normalised passes Q = E P, P = E' Q, of which the last orthonormalises P
/// before and Q after the first product. Returns L = Q P'. `start` is the random P.
inline Dense power_iteration(const Dense& e, Dense p, int loops) {
  Dense q(e.rows, p.cols);
  const Dense et = transposed(e);
  for (int loop = 1; loop <= loops; ++loop) {
    if (loop == loops) orthonormalise(p);
    q = product(e, p);
    if (loop == loops) orthonormalise(q);
    p = product(et, q);
  }
  return product(q, transposed(p));
}

}  // namespace kvzip::reference
