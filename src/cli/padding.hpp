// SPDX-License-Identifier: Apache-2.0
// Caches of a fixed size are zero behind the tokens that they hold.
#pragma once

#include <string>

#include "kvzip/io.hpp"

namespace kvzip::tool {

/// A line on keys and values whose last rows are all zero, and how to leave those out; empty where there are none, and
/// of what cannot be read out of order. Reads the last row of each tensor, and more only of zeros.
std::string padding_text(DumpReader& reader, const Recognition& recognition);

}  // namespace kvzip::tool
