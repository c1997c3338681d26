// SPDX-License-Identifier: Apache-2.0
// What each axis of a tensor means.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace kvzip {

/// The axes of a tensor, outermost first, a letter each: B batch, L layer, 2 key/value pair, H head, T token,
/// D head_dim, C merged H*D (head-major). None occurs twice.
class Axes {
 public:
  static constexpr std::string_view kLetters = "BL2HTDC";
  static constexpr std::size_t npos = std::string_view::npos;

  Axes() = default;
  /// Throws Error(invalid_argument) where parse() gives nothing.
  Axes(std::string_view text);
  Axes(const char* text) : Axes(std::string_view(text)) {}
  /// Nothing for letters that are none of these, and for one that is given twice.
  static std::optional<Axes> parse(std::string_view text);

  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }
  char operator[](std::size_t place) const { return letters_[place]; }
  std::string_view text() const { return {letters_.data(), size_}; }
  friend bool operator==(const Axes&, const Axes&) = default;

  /// The place of an axis, or npos.
  std::size_t find(char axis) const { return text().find(axis); }
  bool has(char axis) const { return find(axis) != npos; }
  /// Entries along an axis of a tensor of this shape, which has size() dimensions; 1 where there is no such axis.
  std::uint64_t extent(char axis, const std::vector<std::uint64_t>& shape) const {
    return has(axis) ? shape[find(axis)] : 1;
  }
  /// The same with another letter at one place.
  Axes with(std::size_t place, char axis) const;

  /// Tokens, heads and channels make a matrix; each index along the other axes has a matrix of its own.
  static constexpr bool is_inside(char axis) { return axis == 'T' || axis == 'H' || is_channel(axis); }
  static constexpr bool is_channel(char axis) { return axis == 'D' || axis == 'C'; }
  /// There is a matrix: T, and either D or C, which holds the heads, too.
  bool has_matrix() const { return has('T') && has('D') != has('C') && !(has('C') && has('H')); }

 private:
  std::array<char, kLetters.size()> letters_{};
  std::uint8_t size_ = 0;
};

}  // namespace kvzip
