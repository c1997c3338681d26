// SPDX-License-Identifier: Apache-2.0
#include "codec/nearest.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>
#include <vector>

namespace kvzip {
namespace {

constexpr std::size_t kMisspelt = 2;
constexpr std::size_t kLongest = 64;  // nobody mistypes more, and the work is bounded

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

/// How many letters differ but for their case, or are too many or too few, from one word to another (Levenshtein).
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (lower(a[i]) == lower(b[j]) ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, diagonal + 1, row[j] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::string_view nearest(std::string_view typed, std::span<const std::string_view> known) {
  std::string_view best;
  if (typed.empty() || typed.size() > kLongest) return best;
  std::size_t least = std::min(kMisspelt, (typed.size() - 1) / 2) + 1;
  for (const std::string_view word : known) {
    const std::size_t d = distance(typed, word);
    if (d < least) least = d, best = word;
  }
  return best;
}

std::span<const std::string_view> role_words() {
  static constexpr std::array<std::string_view, 5> kWords{"key", "value", "query", "kv", "other"};
  return kWords;
}

std::string did_you_mean(std::string_view typed, std::span<const std::string_view> known) {
  const std::string_view word = nearest(typed, known);
  return word.empty() ? std::string() : fmt::format("; did you mean '{}'?", word);
}

}  // namespace kvzip
