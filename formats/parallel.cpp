// SPDX-License-Identifier: Apache-2.0
#include "formats/parallel.hpp"

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/info.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <mutex>
#include <optional>
#include <vector>

#include "formats/thread_order.hpp"

namespace kvzip {
namespace {

constexpr rlim_t kDataOfThread = rlim_t{32} << 20;        // a stack and a few small tiles
constexpr rlim_t kAddressesOfThread = rlim_t{192} << 20;  // and a heap of its own, most of it never touched

unsigned room_for(unsigned threads, decltype(RLIMIT_AS) resource, rlim_t held, rlim_t each) {
  rlimit limit{};
  if (::getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return threads;
  return static_cast<unsigned>(
      std::clamp<rlim_t>((limit.rlim_cur - std::min(held, limit.rlim_cur)) / each, 1, threads));
}

void* wait_for(void* mutex) {
  const std::lock_guard lock(*static_cast<std::mutex*>(mutex));
  return nullptr;
}

/// How many threads of so many this one can have at its side, which limits of processes decide: each is started.
unsigned startable(unsigned wanted) {
  constexpr std::size_t kStack = std::size_t{64} << 10;
  std::mutex gate;
  std::vector<pthread_t> started;
  started.reserve(wanted);
  pthread_attr_t attributes;
  if (::pthread_attr_init(&attributes) != 0) return wanted;
  ::pthread_attr_setstacksize(&attributes, kStack);
  {
    const std::lock_guard shut(gate);
    for (pthread_t thread{}; started.size() < wanted; started.push_back(thread)) {
      if (::pthread_create(&thread, &attributes, wait_for, &gate) != 0) break;
    }
  }
  for (const pthread_t thread : started) ::pthread_join(thread, nullptr);
  ::pthread_attr_destroy(&attributes);
  return static_cast<unsigned>(started.size());
}

/// The same, asked once for a number: TBB keeps threads that it has.
unsigned threads_to_start(unsigned wanted) {
  static std::mutex mutex;
  static unsigned known = 1;  // with this one
  const std::lock_guard lock(mutex);
  if (wanted > known) known = std::max(known, 1 + startable(wanted - 1));
  return std::min(wanted, known);
}

}  // namespace

std::uint64_t held_data() {
  std::ifstream in("/proc/self/statm");
  std::uint64_t pages = 0;
  for (int field = 0; field < 6; ++field) in >> pages;
  return in ? pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) : 0;
}

unsigned threads_to_use(unsigned wanted, std::uint64_t each) {
  constexpr unsigned kMost = 256;
  if (wanted == 0) wanted = static_cast<unsigned>(std::max(1, tbb::info::default_concurrency()));
  if (wanted == 1) return 1;
  const unsigned fit =
      room_for(std::min(wanted, kMost), RLIMIT_DATA, held_data(), std::max<rlim_t>(each, kDataOfThread));
  return threads_to_start(room_for(fit, RLIMIT_AS, 0, kAddressesOfThread));
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
