// SPDX-License-Identifier: Apache-2.0
// Axes that shapes, names and metadata leave open.
#pragma once

#include "kvzip/io.hpp"
#include "kvzip/layout.hpp"

namespace kvzip {

/// What the values say, after recognise(): by rotary embedding (formats/rope_axes.hpp), then by means
/// (formats/steady_axes.hpp). Reads a part of the keys.
void settle_by_values(DumpReader& reader, Recognition& recognition);

/// What the reader states, unless `options` ask for something else; otherwise recognise() and what the values say.
Recognition recognise_with_values(DumpReader& reader, const RecogniseOptions& options = {});

}  // namespace kvzip
