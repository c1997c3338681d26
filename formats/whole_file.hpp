// SPDX-License-Identifier: Apache-2.0
// What the tensors of a dump say of each other: one shape alone often fits several orders of axes.
#pragma once

#include <string_view>
#include <vector>

#include "formats/axes_choice.hpp"
#include "formats/name_patterns.hpp"
#include "kvzip/dump.hpp"

namespace kvzip {

/// A tensor whose name says what it is, and what its axes were taken for.
struct Draft {
  std::size_t tensor = 0;
  NameReading reading;
  AxesChoice choice;
  bool stated = false;    // by --layout or by the file: no other tensor outweighs it
  std::string_view what;  // more than the name says: "MLA latent"
};

/// Lets the tensors settle each other's axes, takes back readings that do not agree, and tells latent attention from
/// keys and values.
void settle_together(const Dump& dump, std::vector<Draft>& drafts);

}  // namespace kvzip
