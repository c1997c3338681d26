// SPDX-License-Identifier: Apache-2.0
// What stages and coders exist, with their fields, and what the streams they write are called.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kvzip {

/// What streams of a frame hold; the columns of `inspect`. Values are wire values.
enum class StreamLabel : std::uint8_t { codes, scales, factors, positions, outliers, exact, flags, tables };
inline constexpr std::size_t kStreamLabels = 8;
std::string_view stream_label_name(StreamLabel label);

/// One parameter of a stage or coder, for `list` and the man page.
struct FieldDoc {
  std::string name, type, range, fallback, help;  // type: "integer", "real", "choice", "text"
};
struct ComponentDoc {
  std::string name;
  unsigned id = 0;    // the wire id; never reused
  std::string since;  // container format version that introduced it, "1.0"
  std::string help;   // one line
  std::string kind;   // of a stage: "rows", "transform", "elements", "additive" or "exact"; of a coder empty
  std::vector<FieldDoc> fields;
};
std::vector<ComponentDoc> describe_stages();
std::vector<ComponentDoc> describe_coders();

}  // namespace kvzip
