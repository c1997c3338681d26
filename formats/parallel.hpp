// SPDX-License-Identifier: Apache-2.0
// A loop whose turns do not depend on each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace kvzip {

/// Bytes of data that the process has, as RLIMIT_DATA counts them (Linux, proc(5), statm); 0 where that is not known.
std::uint64_t held_data();

/// Threads for a request of so many (0 = all): at most 256, and fewer where limits of memory (setrlimit) or of
/// processes leave no room for more. What starts threads would end the process when one cannot be had. `each`: bytes
/// that a thread needs, if that is known to be much.
unsigned threads_to_use(unsigned wanted, std::uint64_t each = 0);

/// Calls run(0) to run(count - 1), each once, on up to `threads` threads (0 = all), in any order. What a turn throws is
/// thrown here; of several, one.
void parallel_for(std::size_t count, unsigned threads, const std::function<void(std::size_t)>& run);

}  // namespace kvzip
