// SPDX-License-Identifier: Apache-2.0
#include "formats/json_limits.hpp"

#include <cstdint>
#include <new>

#include "codec/fail.hpp"
#include "codec/limits.hpp"

namespace kvzip {
namespace {

constexpr std::uint64_t kItemBytes = 128;  // of a parsed value with its name, or of an empty object in a list

/// Commas and opening brackets outside of quotes.
std::uint64_t count_items(std::string_view text, std::string_view what) {
  std::uint64_t items = 0;
  int depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      i += c == '\\';
      quoted = c != '"';
    } else if (c == '"') {
      quoted = true;
    } else if (c == '[' || c == '{') {
      ++items;
      if (++depth > limits::kJsonDepth) {
        fail(ErrorCode::corrupt, "{}: more than {} nested lists", what, limits::kJsonDepth);
      }
    } else if (c == ']' || c == '}') {
      --depth;
    } else if (c == ',') {
      ++items;
    }
    if (items > limits::kJsonItems) fail(ErrorCode::limit, "{}: more than {} values", what, limits::kJsonItems);
  }
  return items;
}

}  // namespace

void check_json_items(std::string_view text, std::string_view what) {
  count_items(text, what);
}

void check_json(std::string_view text, std::string_view what) {
  const std::uint64_t bytes = 2 * text.size() + kItemBytes * count_items(text, what);
  void* all = ::operator new(bytes, std::nothrow);
  if (all == nullptr) {
    throw Error(ErrorCode::limit, fmt::format("{}: it needs {} MB of memory", what, (bytes >> 20) + 1), Hint::memory);
  }
  ::operator delete(all);
}

}  // namespace kvzip
