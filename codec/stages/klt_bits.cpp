// SPDX-License-Identifier: Apache-2.0
#include "codec/stages/klt_bits.hpp"

#include <algorithm>
#include <bit>
#include <numeric>

#include "codec/kernels/rows.hpp"

namespace kvzip {
namespace {

constexpr std::size_t kLanes = 16;                           // partial sums, in a fixed order; divides every size but 1
constexpr std::uint64_t kMeasured = std::uint64_t{1} << 26;  // values that a tile's measurement may quantise
constexpr std::size_t kLeastRows = 32;
// Components of less than this share of all energy are noise of float arithmetic and of a basis in half precision.
constexpr double kNoise = 0x1p-30;
constexpr std::uint64_t kStates = std::uint64_t{1} << 23;  // of the dynamic programme
constexpr std::uint64_t kUnit = 2;                         // every cost is a multiple of it

/// Nearest number with half precision's 11 significant bits, ties to even, whatever its exponent.
float half_digits(float x) {
  auto u = std::bit_cast<std::uint32_t>(x);
  u += 0xfff + (u >> 13 & 1);
  return std::bit_cast<float>(u & ~0x1fffu);
}

/// Squared error of `size` values in codes of `bits`.
double group_error(const float* x, std::size_t size, KltRange range, unsigned bits) {
  float sums[kLanes] = {};
  const std::size_t lanes = std::min(size, kLanes);
  for (std::size_t i = 0; i < size; i += lanes) {
    if (lanes == kLanes) {  // a constant count, which compilers unroll and vectorise
      for (std::size_t l = 0; l < kLanes; ++l) {
        const float e = x[i + l] - (klt_code(x[i + l], range, bits) * range.scale + range.shift);
        sums[l] += e * e;
      }
      continue;
    }
    for (std::size_t l = 0; l < lanes; ++l) {
      const float e = x[i + l] - (klt_code(x[i + l], range, bits) * range.scale + range.shift);
      sums[l] += e * e;
    }
  }
  double sum = 0;
  for (const float s : sums) sum += double{s};
  return sum;
}

/// Adds one row's errors to the choices, which stand size by size.
void measure_row(const float* d, std::size_t components, KltErrors& errors) {
  for (std::size_t i = 0; i < components; ++i) errors.left_out[i] += double{d[i]} * d[i];
  for (std::size_t c = 0; c < errors.choices.size(); c += kKltBits.size()) {
    const std::size_t size = errors.choices[c].size;
    for (std::size_t first = 0; first + size <= components; ++first) {
      float low = d[first], high = d[first];
      if (size > 1) kernels::min_max(d + first, size, &low, &high);
      for (std::size_t b = 0; b < kKltBits.size(); ++b) {
        errors.choices[c + b].error[first] +=
            group_error(d + first, size, klt_range(low, high, kKltBits[b]), kKltBits[b]);
      }
    }
  }
}

}  // namespace

KltRange klt_range(float low, float high, unsigned bits) {
  const double step = (double{high} - double{low}) / static_cast<double>((1u << bits) - 1);
  return {half_digits(static_cast<float>(step)), half_digits(low)};
}

KltErrors measure_klt_errors(const float* d, std::size_t rows, std::size_t components) {
  KltErrors errors;
  errors.left_out.assign(components, 0);
  std::uint64_t work = components + 1;
  for (const std::uint32_t size : kKltSizes) {
    if (size > components) break;
    work += std::uint64_t{size} * (components - size + 1);
    for (const unsigned bits : kKltBits) {
      errors.choices.push_back({size, bits, std::vector<double>(components - size + 1)});
    }
  }
  const std::size_t measured = std::min<std::uint64_t>(rows, std::max<std::uint64_t>(kMeasured / work, kLeastRows));
  for (std::size_t i = 0; i < measured; ++i) measure_row(d + i * rows / measured * components, components, errors);
  const double all = std::accumulate(errors.left_out.begin(), errors.left_out.end(), 0.0);
  for (double& energy : errors.left_out) energy = energy <= all * kNoise ? 0 : energy;  // no group is made for them
  return errors;
}

std::vector<KltGroup> allocate_klt_bits(const KltErrors& errors, std::uint64_t budget) {
  const std::size_t components = errors.left_out.size();
  std::uint64_t dearest = 0;  // of one component: no plan costs more than all of them at this price
  for (const KltChoice& c : errors.choices) dearest = std::max(dearest, (c.cost() + c.size - 1) / c.size);
  budget = std::min(budget, dearest * components);
  std::uint64_t unit = kUnit;
  while ((budget / unit + 1) * (components + 1) > kStates) unit *= 2;
  const std::size_t width = budget / unit + 1;

  // error[i * width + b]: the least for the first i components at a cost of at most b.
  std::vector<double> error((components + 1) * width);
  std::vector<std::uint8_t> taken(error.size());  // 0: component i - 1 without bits; c + 1: choice c ends here
  for (std::size_t i = 1; i <= components; ++i) {
    double* row = error.data() + i * width;
    const double* shorter = row - width;
    for (std::size_t b = 0; b < width; ++b) row[b] = shorter[b] + errors.left_out[i - 1];
    for (std::size_t c = 0; c < errors.choices.size(); ++c) {
      const KltChoice& choice = errors.choices[c];
      const std::size_t cost = (choice.cost() + unit - 1) / unit;
      if (choice.size > i) continue;
      const double added = choice.error[i - choice.size];
      const double* before = error.data() + (i - choice.size) * width;
      for (std::size_t b = cost; b < width; ++b) {
        if (before[b - cost] + added >= row[b]) continue;
        row[b] = before[b - cost] + added;
        taken[i * width + b] = static_cast<std::uint8_t>(c + 1);
      }
    }
  }

  std::vector<KltGroup> groups;
  for (std::size_t i = components, b = width - 1; i > 0;) {
    const std::size_t c = taken[i * width + b];
    if (c == 0) {
      --i;
      continue;
    }
    const KltChoice& choice = errors.choices[c - 1];
    i -= choice.size;
    b -= (choice.cost() + unit - 1) / unit;
    groups.push_back({static_cast<std::uint32_t>(i), choice.size, choice.bits});
  }
  std::reverse(groups.begin(), groups.end());
  return groups;
}

}  // namespace kvzip
