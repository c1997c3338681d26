// SPDX-License-Identifier: Apache-2.0
#include "kvzip/axes.hpp"

#include "codec/fail.hpp"

namespace kvzip {

std::optional<Axes> Axes::parse(std::string_view text) {
  Axes out;
  for (const char letter : text) {
    if (kLetters.find(letter) == npos || out.has(letter)) return std::nullopt;
    out.letters_[out.size_++] = letter;
  }
  return out;
}

Axes::Axes(std::string_view text) {
  const auto parsed = parse(text);
  if (!parsed) fail(ErrorCode::invalid_argument, "'{}' are no axes: letters of {}, each at most once", text, kLetters);
  *this = *parsed;
}

Axes Axes::with(std::size_t place, char axis) const {
  Axes out = *this;
  out.letters_[place] = axis;
  return Axes(out.text());
}

}  // namespace kvzip
