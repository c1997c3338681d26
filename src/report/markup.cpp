// SPDX-License-Identifier: Apache-2.0
#include "src/report/markup.hpp"

#include <fmt/format.h>

#include "formats/text.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {

std::string plain_text(std::string_view text, std::size_t most) {
  const bool sound = is_utf8(text);
  std::string out;
  for (const char c : printable(text)) {
    if (sound || static_cast<unsigned char>(c) < 0x80) {
      out += c;
    } else {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  if (out.size() <= most) return out;
  std::size_t end = most - std::min<std::size_t>(most, 3);
  while (end > 0 && (static_cast<unsigned char>(out[end]) & 0xc0) == 0x80) --end;  // not inside a character
  return out.substr(0, end) + "...";
}

std::string escape_markup(std::string_view text) {
  std::string out;
  for (const char c : plain_text(text, text.size() * 4)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace kvzip::tool
