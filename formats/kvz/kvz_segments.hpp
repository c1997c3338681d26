// SPDX-License-Identifier: Apache-2.0
// A container with others appended to it (man/kvz.5, "Appended containers"): where each begins and ends.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "formats/file.hpp"
#include "formats/kvz/kvz_records.hpp"

namespace kvzip {

/// One container of a file, with its footer.
struct Segment {
  std::uint64_t begin = 0, bytes = 0;
  bool sound = true;  // its footer is its own, and of an appended one names the footer before it
};

struct Segments {
  /// What stands behind the last of them: an append that was not finished, one that is damaged, or something else.
  enum class Rest : std::uint8_t { nothing, cut, damaged, foreign };
  std::vector<Segment> all;  // none where not even the first has an end
  std::uint64_t end = 0;     // where the rest begins
  Rest rest = Rest::nothing;
  bool headless = false;        // the first one says that it was appended to another
  std::uint64_t described = 0;  // bytes of all their headers, unpacked
};

/// Reads the footers only of a file that ends with a container, as long as each fits the one before; else the headers
/// of all records.
Segments find_segments(const InputFile& file);
/// fail(limit) where headers of so many bytes are too many for one more container.
void check_room(const Segments& segments, std::uint64_t header_bytes);

/// A part of a file, as a file.
InputFile segment_file(std::shared_ptr<const InputFile> file, const Segment& segment);

}  // namespace kvzip
