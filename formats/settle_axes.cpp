// SPDX-License-Identifier: Apache-2.0
#include "formats/settle_axes.hpp"

#include "formats/rope_axes.hpp"
#include "formats/steady_axes.hpp"

namespace kvzip {

void settle_by_values(DumpReader& reader, Recognition& recognition) {
  settle_by_rotation(reader, recognition);
  settle_by_means(reader, recognition);
}

Recognition recognise_with_values(DumpReader& reader, const RecogniseOptions& options) {
  const bool asked = !options.layout.empty() || !options.map.empty();
  if (reader.recognition() != nullptr && !asked) return *reader.recognition();
  Recognition found = recognise(reader.dump(), options);
  settle_by_values(reader, found);
  return found;
}

}  // namespace kvzip
