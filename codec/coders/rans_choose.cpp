// SPDX-License-Identifier: Apache-2.0
#include "codec/coders/rans_choose.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <vector>

namespace kvzip {
namespace {

constexpr std::size_t kCounted = std::size_t{1} << 16;  // symbols counted
constexpr std::uint64_t kEscapesPer = 1024;             // at most one symbol of so many may escape

/// Rows that are counted to choose models: all of them, or about this many symbols' worth at even distances.
std::size_t row_step(kernels::RansShape shape) {
  return std::max<std::size_t>(1, shape.count / kCounted);
}

double sum_of(const RansHistogram& counts) {
  return std::accumulate(counts.begin(), counts.end(), 0.0);
}

double bits_of(std::span<const std::uint32_t> counts) {
  double sum = 0, bits = 0;
  for (const std::uint32_t n : counts) {
    sum += n;
    if (n != 0) bits -= n * std::log2(static_cast<double>(n));
  }
  return sum == 0 ? 0 : bits + sum * std::log2(sum);
}

struct Window {
  unsigned base = 0, width = 0;
};

/// The smallest window of at most 15 cells that leaves hardly any symbol out; width 0 when there is none.
Window smallest_window(std::span<const std::uint64_t> cells) {
  const std::uint64_t count = std::accumulate(cells.begin(), cells.end(), std::uint64_t{0});
  for (unsigned width = 1; width < kernels::kRansSymbols && width <= cells.size(); ++width) {
    std::uint64_t inside = 0;
    for (unsigned end = 0; end < cells.size(); ++end) {
      inside += cells[end];
      if (end >= width) inside -= cells[end - width];
      if (end + 1 >= width && (count - inside) * kEscapesPer <= count) return {end + 1 - width, width};
    }
  }
  return {};
}

}  // namespace

RansHistogram rans_histogram(kernels::RansShape shape, const std::uint8_t* symbols) {
  std::array<RansHistogram, 4> parts{};  // four, so that equal neighbours do not wait for each other
  for (std::size_t r = 0, step = row_step(shape); r < shape.rows(); r += step) {
    std::size_t i = r * shape.width;
    const std::size_t end = std::min(shape.count, i + shape.width);
    for (; i + 4 <= end; i += 4) {
      for (std::size_t j = 0; j < 4; ++j) ++parts[j][symbols[i + j]];
    }
    for (; i < end; ++i) ++parts[0][symbols[i]];
  }
  for (std::size_t v = 0; v < 256; ++v) parts[0][v] += parts[1][v] + parts[2][v] + parts[3][v];
  return parts[0];
}

bool rans_looks_random(const Stream& s, const RansHistogram& counts) {
  if (bits_of(counts) < 0.994 * std::log2(static_cast<double>(s.alphabet)) * sum_of(counts)) return false;
  std::size_t same = 0, seen = 0;
  const std::size_t step = s.count() / 8192 | 1;
  for (std::size_t i = s.cols; i < s.count(); i += step, ++seen) same += s.data[i] == s.data[i - s.cols];
  return same * s.alphabet <= 4 * seen + 64;
}

RansSplit rans_choose_split(const RansHistogram& counts, std::uint64_t alphabet) {
  for (unsigned shift = 0;; ++shift) {
    const unsigned values = rans_cells(alphabet, shift);
    std::vector<std::uint64_t> cells(values, 0);
    for (std::size_t v = 0; v < alphabet; ++v) cells[v >> shift] += counts[v];
    const Window window = smallest_window(cells);
    const bool whole = values <= kernels::kRansSymbols;
    // An escape must save boundaries, since every one of them is gone through for every symbol.
    if (window.width != 0 && (!whole || window.width + 3 <= values)) {
      return {shift, static_cast<std::uint8_t>(window.base), true, window.width + 1};
    }
    if (whole) return {shift, 0, false, std::max(values, 2u)};
  }
}

std::vector<std::uint8_t> rans_pair_steps(kernels::RansShape shape, const std::uint8_t* upper, unsigned uppers) {
  const unsigned first_context = uppers / 2;
  std::array<RansHistogram, 4> parts{};
  for (std::size_t i = 0; i < std::min(shape.width, shape.count); ++i) ++parts[0][first_context << 4 | upper[i]];
  for (std::size_t r = 1, step = row_step(shape); r < shape.rows(); r += step) {
    std::size_t i = r * shape.width;
    const std::size_t end = std::min(shape.count, i + shape.width);
    for (; i + 4 <= end; i += 4) {
      for (std::size_t j = 0; j < 4; ++j) ++parts[j][std::size_t{upper[i + j - shape.width]} << 4 | upper[i + j]];
    }
    for (; i < end; ++i) ++parts[0][std::size_t{upper[i - shape.width]} << 4 | upper[i]];
  }
  std::vector<std::uint8_t> steps;
  for (unsigned c = 0; c < uppers; ++c) {
    for (unsigned u = 0; u < uppers; ++u) {
      const std::size_t v = c << 4 | u;
      steps.push_back(rans_step(std::uint64_t{parts[0][v]} + parts[1][v] + parts[2][v] + parts[3][v]));
    }
  }
  return steps;
}

std::vector<std::uint8_t> rans_low_steps(const RansHistogram& counts, const RansSplit& split, std::size_t count) {
  const unsigned values = 1u << split.shift;
  double coded = 0, plain = 0;
  std::vector<std::uint8_t> steps;
  for (unsigned u = 0; u < split.uppers; ++u) {
    std::array<std::uint32_t, kernels::kRansSymbols> row{};
    const bool escape = split.escapes && u + 1 == split.uppers;  // escaped symbols' low bits are coded as 0
    for (unsigned v = 0; v < values; ++v) {
      const std::size_t symbol = (std::size_t{u} + split.base) << split.shift | v;
      row[v] = escape ? v == 0 : symbol < counts.size() ? counts[symbol] : 0;
      plain += row[v] * static_cast<double>(split.shift);
      steps.push_back(rans_step(row[v]));
    }
    coded += bits_of(row);
  }
  const double scale = static_cast<double>(count) / sum_of(counts);
  const double table = kRansStepBits * static_cast<double>(steps.size());
  if (scale * coded + table >= 0.99 * scale * plain) steps.clear();
  return steps;
}

double rans_sampled_cost(kernels::RansShape shape, const std::uint8_t* upper, const kernels::RansModel& model) {
  // One group of lanes in sixteen.
  const std::size_t groups = shape.groups(), sampled = std::max<std::size_t>(1, groups / 16);
  Buffer<std::uint16_t> start(shape.group_slots()), size(shape.group_slots());
  double bits = 0;
  for (std::size_t g = 0; g < sampled; ++g) {
    kernels::rans_intervals(model, shape, (groups - sampled) / 2 + g, upper, nullptr, start.data(), size.data());
    for (std::size_t i = 0; i < size.size(); i += kernels::kRansLanes) {
      double chance = 1;  // of a row: at least 2^-480
      for (std::size_t l = 0; l < kernels::kRansLanes; ++l) chance *= size[i + l] == 0 ? 1 : size[i + l] * 0x1p-15;
      bits -= std::log2(chance);
    }
  }
  return bits * static_cast<double>(groups) / static_cast<double>(sampled);
}

}  // namespace kvzip
