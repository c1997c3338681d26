// SPDX-License-Identifier: Apache-2.0
#include "formats/parallel.hpp"

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/info.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#include <sys/resource.h>

#include <algorithm>
#include <optional>

#include "formats/thread_order.hpp"

namespace kvzip {
namespace {

constexpr rlim_t kDataOfThread = rlim_t{32} << 20;        // a stack and a few tiles
constexpr rlim_t kAddressesOfThread = rlim_t{192} << 20;  // and a heap of its own, most of it never touched

unsigned room_for(unsigned threads, decltype(RLIMIT_AS) resource, rlim_t each) {
  rlimit limit{};
  if (::getrlimit(resource, &limit) != 0) return threads;
  return static_cast<unsigned>(std::clamp<rlim_t>(limit.rlim_cur / each, 1, threads));
}

}  // namespace

unsigned threads_to_use(unsigned wanted) {
  constexpr unsigned kMost = 256;
  if (wanted == 0) wanted = static_cast<unsigned>(std::max(1, tbb::info::default_concurrency()));
  const unsigned fit = room_for(std::min(wanted, kMost), RLIMIT_DATA, kDataOfThread);
  return room_for(fit, RLIMIT_AS, kAddressesOfThread);
}

void parallel_for(std::size_t count, unsigned threads, const std::function<void(std::size_t)>& run) {
  threads = threads_to_use(threads);
  if (threads == 1 || count < 2) {
    for (std::size_t i = 0; i < count; ++i) run(i);
    return;
  }
  // An arena alone gets no more threads than there are processors, and says so on standard error.
  std::optional<tbb::global_control> more;
  if (threads > static_cast<unsigned>(tbb::info::default_concurrency())) {
    more.emplace(tbb::global_control::max_allowed_parallelism, threads);
  }
  tbb::task_arena arena(static_cast<int>(threads));
  comes_before(&arena);
  arena.execute([&] {
    tbb::parallel_for(std::size_t{0}, count, [&](std::size_t i) {
      comes_after(&arena);
      run(i);
      comes_before(&count);
    });
  });
  comes_after(&count);
}

}  // namespace kvzip
