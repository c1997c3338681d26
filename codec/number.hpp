// SPDX-License-Identifier: Apache-2.0
// Numbers from text.
#pragma once

#include <charconv>
#include <limits>
#include <optional>
#include <string_view>

namespace kvzip {

/// The number that the whole text is, in decimal (1e-3 is one for a floating-point T); nothing when the text is
/// anything else, or the number, NaN included, is not from `least` to `most`. The locale plays no part.
template <typename T>
std::optional<T> parse_number(std::string_view text, T least = std::numeric_limits<T>::lowest(),
                              T most = std::numeric_limits<T>::max()) {
  T value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || stop != end || !(value >= least && value <= most)) return std::nullopt;
  return value;
}

}  // namespace kvzip
