// SPDX-License-Identifier: Apache-2.0
// Depth of a hostile JSON text, before it is parsed: a deep tree costs far more memory than its text.
#pragma once

#include <string_view>

#include "codec/fail.hpp"

namespace kvzip {

inline constexpr int kMaxJsonDepth = 16;  // of nested lists and objects

inline void check_json_depth(std::string_view text, std::string_view what) {
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
      if (++depth > kMaxJsonDepth) fail(ErrorCode::corrupt, "{}: more than {} nested lists", what, kMaxJsonDepth);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
}

}  // namespace kvzip
