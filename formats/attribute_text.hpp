// SPDX-License-Identifier: Apache-2.0
// Attributes as safetensors `__metadata__` entries, which hold strings only.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kvzip/dump.hpp"
#include "kvzip/io.hpp"

namespace kvzip {

struct MetadataEntry {
  std::string key, value;
};

/// String scalars of the file are entries as they are. Any other attribute becomes the entry
/// "kvzip.attribute:OBJECT@NAME" (with '@' and '%' of OBJECT as %40 and %25), whose value is a JSON text:
/// {"dtype":"F32","shape":[2],"data":"HEX"}, {"shape":[],"strings":["..."]}, or "hex_strings" for strings that are not
/// UTF-8. So does a string scalar whose name begins like that, and every one if `whole`, where a tensor
/// has its name. fail(invalid_argument) when the name is not UTF-8.
MetadataEntry metadata_entry(const Attribute& attribute, bool whole = false);

/// The inverse. An entry that metadata_entry() would not have written just so is a string scalar of the file.
Attribute attribute_of(MetadataEntry entry, bool whole = false);

/// `text` as a JSON string with its quotes. `text` is UTF-8.
std::string json_string(std::string_view text);

}  // namespace kvzip
