// SPDX-License-Identifier: Apache-2.0
// What quantisers make of independent normal values: closed forms, numerical integrals, and simulations in double that
// share nothing with the codec.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "tests/contract/reference.hpp"

namespace kvzip::test {

/// Box and Muller 1958.
inline std::vector<double> normals(std::size_t n, std::uint64_t seed) {
  reference::Random random(seed);
  std::vector<double> out;
  while (out.size() < n) {
    const double radius = std::sqrt(-2 * std::log(1 - random.uniform())), angle = 2 * M_PI * random.uniform();
    out.push_back(radius * std::cos(angle));
    out.push_back(radius * std::sin(angle));
  }
  out.resize(n);
  return out;
}

inline bool close(double a, double b, double share) {
  return std::fabs(a / b - 1) <= share;
}

inline double density(double x) {
  return std::exp(-x * x / 2) / std::sqrt(2 * M_PI);
}
inline double below(double x) {
  return 0.5 * std::erfc(-x / std::sqrt(2.0));
}
inline double integral(double from, double to, const std::function<double(double)>& f) {
  constexpr int kSteps = 2000;
  double sum = 0;
  for (int i = 0; i < kSteps; ++i) sum += f(from + (to - from) * (i + 0.5) / kSteps);
  return sum * (to - from) / kSteps;
}

/// E[(max - min)^2] of n normal values: 2 times the integral, over x < y, of the chance that both x and y lie inside.
inline double mean_squared_range(double n) {
  constexpr double kStep = 0.02, kEnd = 7;
  const auto point = [](int i) { return (i + 0.5) * kStep - kEnd; };
  double sum = 0;
  for (int j = 0; point(j) < kEnd; ++j) {
    const double y = point(j), all_below = std::pow(below(y), n);
    for (int i = 0; i <= j; ++i) {
      const double x = point(i);
      const double inside = 1 - all_below - std::pow(1 - below(x), n) + std::pow(below(y) - below(x), n);
      sum += inside * (i == j ? 0.5 : 1);
    }
  }
  return 2 * sum * kStep * kStep;
}
/// E[max |x|^2] of n normal values.
inline double mean_squared_maximum(double n) {
  return integral(0, 8, [&](double x) { return 2 * x * (1 - std::pow(2 * below(x) - 1, n)); });
}

/// Error of minimum-maximum quantisation of groups of n values to 2^bits levels, in double.
inline double simulated_min_max(std::size_t n, int bits) {
  const std::vector<double> x = normals(n * 40000, 1234);
  const double top = std::pow(2.0, bits) - 1;
  double error = 0, power = 0;
  for (std::size_t g = 0; g < x.size(); g += n) {
    const auto [low, high] =
        std::minmax_element(x.begin() + static_cast<std::ptrdiff_t>(g), x.begin() + static_cast<std::ptrdiff_t>(g + n));
    const double step = (*high - *low) / top;
    for (std::size_t i = g; i < g + n; ++i) {
      const double back = *low + std::round((x[i] - *low) / step) * step;
      error += (x[i] - back) * (x[i] - back);
      power += x[i] * x[i];
    }
  }
  return std::sqrt(error / power);
}

/// Max 1960, table I: mean squared errors for variance 1, and the upper half of the levels.
inline double max_distortion(int bits) {
  return std::array<double, 4>{0.3634, 0.1175, 0.03454, 0.009497}.at(static_cast<std::size_t>(bits - 1));
}
inline std::vector<double> max_levels(int bits) {
  const std::array<std::vector<double>, 4> levels{{{0.7980},
                                                   {0.4528, 1.510},
                                                   {0.2451, 0.7560, 1.344, 2.152},
                                                   {0.1284, 0.3881, 0.6568, 0.9424, 1.256, 1.618, 2.069, 2.733}}};
  return levels.at(static_cast<std::size_t>(bits - 1));
}

/// Mean squared error of Max's levels on a coordinate of a random vector of D values and length sqrt(D), which is
/// distributed as (1 - y^2 / D)^((D - 3) / 2) (TurboQuant, lemma 1), normal for large D.
inline double sphere_distortion(int bits, double dim) {
  const std::vector<double> upper_levels = max_levels(bits);
  const auto law = [&](double y) { return std::pow(1 - y * y / dim, (dim - 3) / 2); };
  const double end = std::sqrt(dim);
  const double error = integral(0, end, [&](double y) {
    double nearest = HUGE_VAL;
    for (const double level : upper_levels) nearest = std::min(nearest, std::fabs(y - level));
    return nearest * nearest * law(y);
  });
  return error / integral(0, end, law);
}

/// Squared error of a vector (a channel's tokens, or a token's channels) after GEAR's X - D - S: its k smallest and k
/// largest values exact, the rest in groups of 64 between their minimum and maximum, with the mean of all in the places
/// of the others.
inline double gear_noise(const std::vector<double>& values, std::size_t k, int bits) {
  std::vector<std::pair<double, std::size_t>> order;
  double mean = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    order.emplace_back(values[i], i);
    mean += values[i] / static_cast<double>(values.size());
  }
  std::sort(order.begin(), order.end());
  std::vector<double> x = values;
  std::vector<bool> exact(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (i >= k && i < x.size() - k) continue;
    exact[order[i].second] = true;
    x[order[i].second] = mean;
  }
  double noise = 0;
  for (std::size_t g = 0; g < x.size(); g += 64) {
    const auto begin = x.begin() + static_cast<std::ptrdiff_t>(g);
    const auto [low, high] = std::minmax_element(begin, begin + 64);
    const double step = (*high - *low) / (std::pow(2.0, bits) - 1);
    for (std::size_t i = g; i < g + 64; ++i) {
      const double error = x[i] - *low - std::round((x[i] - *low) / step) * step;
      if (!exact[i]) noise += error * error;
    }
  }
  return noise;
}

/// What the largest `rank` squared singular values hold of noise of R x D values, at most (Marchenko and Pastur 1967).
inline double largest_share(double rank, double rows, double dim) {
  return rank / dim * std::pow(1 + std::sqrt(dim / rows), 2);
}

}  // namespace kvzip::test
