// SPDX-License-Identifier: Apache-2.0
// How much memory a piece of code holds at most. Under a sanitiser nothing is counted.
#pragma once

#include <cstddef>

namespace kvzip::test {

/// Bytes held by operator new now, and the most since the last reset.
std::size_t allocated_now();
std::size_t allocated_most();
void reset_allocated_most();

}  // namespace kvzip::test
