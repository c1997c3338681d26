// SPDX-License-Identifier: Apache-2.0
// How much memory a piece of code holds at most, and what it does without. Under a sanitiser nothing is counted and
// nothing fails.
#pragma once

#include <cstddef>

namespace kvzip::test {

/// Bytes held by operator new now, and the most since the last reset.
std::size_t allocated_now();
std::size_t allocated_most();
void reset_allocated_most();

/// From here on operator new finds no memory, of whatever thread, and asks the new-handler.
void fail_allocations(bool fail);

}  // namespace kvzip::test
