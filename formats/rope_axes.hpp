// SPDX-License-Identifier: Apache-2.0
// Heads or tokens: what the values say where shapes and metadata leave it open.
#pragma once

#include "kvzip/io.hpp"
#include "kvzip/layout.hpp"

namespace kvzip {

/// Settles tensors for which recognise() left two readings that differ only in which axis counts heads and which
/// tokens. Keys after rotary embedding are turned further from token to token: turned back, neighbouring tokens are
/// more alike in the channels that turn fast, and neighbouring heads are not. Taken is the reading for which the
/// squared differences of neighbours fall by a fifth or more, over eight layers and 500 pairs of channels or more, if
/// they fall less than a quarter of that in the other reading. Values and queries of the same shapes follow their keys;
/// all else stays open. Nothing that recognise() has settled changes. Reads keys that are open, up to 16 MiB of each.
void settle_by_rotation(DumpReader& reader, Recognition& recognition);

}  // namespace kvzip
