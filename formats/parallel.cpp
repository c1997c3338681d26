// SPDX-License-Identifier: Apache-2.0
#include "formats/parallel.hpp"

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/info.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#include <optional>

namespace kvzip {

void parallel_for(std::size_t count, unsigned threads, const std::function<void(std::size_t)>& run) {
  if (threads == 1 || count < 2) {
    for (std::size_t i = 0; i < count; ++i) run(i);
    return;
  }
  // An arena alone gets no more threads than there are processors, and says so on standard error.
  std::optional<tbb::global_control> more;
  if (threads > static_cast<unsigned>(tbb::info::default_concurrency())) {
    more.emplace(tbb::global_control::max_allowed_parallelism, threads);
  }
  tbb::task_arena arena(threads == 0 ? tbb::task_arena::automatic : static_cast<int>(threads));
  arena.execute([&] { tbb::parallel_for(std::size_t{0}, count, [&](std::size_t i) { run(i); }); });
}

}  // namespace kvzip
