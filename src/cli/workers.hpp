// SPDX-License-Identifier: Apache-2.0
// Files side by side, a process for each: what one does to memory, signals and open files is not the others'.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <vector>

#include "src/cli/batch.hpp"

namespace kvzip::tool {

/// Forks `workers` processes; each calls `one` for the next of `count` files that nobody has taken, until there is
/// none, or until one's status is not kDone and `goes_on` is not set. Nothing for files that were not tried. The memory
/// limit is divided among them. A worker that is killed fails its file: `killed` is told of it. To be called before
/// this process has threads.
std::vector<std::optional<Outcome>> run_workers(std::size_t workers, std::size_t count, bool goes_on,
                                                const std::function<Outcome(std::size_t)>& one,
                                                const std::function<void(std::size_t, int signal)>& killed);

}  // namespace kvzip::tool
