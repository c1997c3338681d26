// SPDX-License-Identifier: Apache-2.0
// Tar archives made by hand, field by field, without the code that is tested.
#pragma once

#include <cstdio>
#include <numeric>
#include <string>
#include <string_view>

namespace kvzip::test {

struct TarEntry {
  std::string name, content;
  std::string size{};  // the field's 12 bytes, instead of the content's length
  char type = '0';
  std::string magic = std::string("ustar\00000", 8);
  std::string prefix{};
  std::size_t wrong = 0;  // added to the checksum
};

inline std::string tar_entry(const TarEntry& entry) {
  std::string block(512, '\0');
  const auto put = [&](std::size_t at, std::string_view text) { block.replace(at, text.size(), text); };
  const auto octal = [](std::size_t value, int digits) {
    char text[24];
    std::snprintf(text, sizeof text, "%0*zo", digits, value);
    return std::string(text);
  };
  put(0, entry.name);
  put(100, "0000644");
  put(108, "0001750");
  put(116, "0001750");
  put(124, entry.size.empty() ? octal(entry.content.size(), 11) : entry.size);
  put(136, "14717237120");
  put(156, std::string(1, entry.type));
  put(257, entry.magic);
  put(265, "somebody");
  put(345, entry.prefix);
  put(148, "        ");
  const auto sum = std::accumulate(block.begin(), block.end(), std::size_t{0},
                                   [](std::size_t so_far, char c) { return so_far + static_cast<unsigned char>(c); });
  put(148, octal(sum + entry.wrong, 6) + std::string("\0 ", 2));
  return block + entry.content + std::string((512 - entry.content.size() % 512) % 512, '\0');
}

inline const std::string kTarEnd(1024, '\0');

}  // namespace kvzip::test
