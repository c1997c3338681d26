// SPDX-License-Identifier: Apache-2.0
// Files side by side, a process for each: what one does to memory, signals and open files is not the others'.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "src/cli/batch.hpp"
#include "src/cli/memory_limit.hpp"

namespace kvzip::tool {

/// Of files that were done.
struct Totals {
  std::size_t files = 0;
  std::uint64_t source = 0, coded = 0;  // bytes, where both are known

  void add(const Outcome& outcome);
};

struct Work {
  MemoryShares workers;
  std::size_t count = 0;
  bool goes_on = false;
};
/// Forks processes; each calls `one` for the next file that nobody has taken, until there is none, or until one has
/// failed, but for want of memory, and the work does not go on. Nothing for files that were not tried. A worker that is
/// killed fails its file: `killed` is told of it, with a signal of 0 where it ended itself. `watch` is called now and
/// then. To be called before this process has threads.
std::vector<std::optional<Outcome>> run_workers(const Work& work, const std::function<Outcome(std::size_t)>& one,
                                                const std::function<void(std::size_t, int signal)>& killed,
                                                const std::function<void(const Totals&)>& watch);

}  // namespace kvzip::tool
