// SPDX-License-Identifier: Apache-2.0
#include "src/cli/memory_limit.hpp"

#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <new>
#include <string>

#include "codec/buffer.hpp"
#include "codec/number.hpp"
#include "formats/parallel.hpp"

namespace kvzip::tool {
namespace {

constexpr std::uint64_t kNone = std::numeric_limits<std::uint64_t>::max();

constexpr std::uint64_t kRoomy = std::uint64_t{2} << 30;  // from here on speed counts more than the last bytes

constexpr double kLeast = 8 << 20;  // with less the HDF5 library crashes before it could say so

/// The number in a file of the kernel's; "max" and what is not there are no limit.
std::uint64_t number_in(const std::string& path) {
  std::ifstream in(path);
  std::uint64_t bytes = kNone;
  return in >> bytes ? bytes : kNone;
}

/// Shadow memory is data to the kernel, and far more than there is.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kHasShadow = true;
#elif defined(__has_feature)
constexpr bool kHasShadow = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
constexpr bool kHasShadow = false;
#endif

}  // namespace

std::uint64_t group_memory(const std::string& root) {
  std::uint64_t least = kNone;
  const auto take = [&](const std::string& mount, std::string group, const std::string& file) {
    for (;; group.resize(group.rfind('/'))) {
      least = std::min(least, number_in(root + mount + group + "/" + file));
      if (group.find('/') == group.npos) return;
    }
  };
  // A container may see its group's limit at the top alone, whatever the group is called outside.
  const std::string v2 = "/sys/fs/cgroup", v1 = "/sys/fs/cgroup/memory";
  take(v2, "", "memory.max");
  take(v1, "", "memory.limit_in_bytes");
  // "0::/GROUP" for version 2, "NUMBER:CONTROLLERS:/GROUP" for version 1.
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const std::size_t controllers = line.find(':') + 1, path = line.find(':', controllers) + 1;
    if (controllers == 0 || path == 0 || line.substr(path, 1) != "/") continue;
    const std::string group = line.size() == path + 1 ? std::string() : line.substr(path);
    const std::string names = "," + line.substr(controllers, path - 1 - controllers) + ",";
    if (names == ",,") take(v2, group, "memory.max");
    if (names.find(",memory,") != names.npos) take(v1, group, "memory.limit_in_bytes");
  }
  return least;
}

std::uint64_t machine_memory() {
  const long pages = ::sysconf(_SC_PHYS_PAGES), page = ::sysconf(_SC_PAGESIZE);
  const std::uint64_t bytes =
      pages > 0 && page > 0 ? static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page) : kNone;
  return std::min(bytes, group_memory());
}

std::optional<std::uint64_t> parse_memory(std::string_view text) {
  if (text == "none") return kNone;
  const std::size_t digits = text.find_first_not_of("0123456789.");
  std::string unit(text.substr(std::min(digits, text.size())));
  const auto number = parse_number(text.substr(0, digits), 0.0, 1e18);
  if (!number || *number == 0) return std::nullopt;
  double factor = 0;
  if (unit == "%") {
    factor = static_cast<double>(machine_memory()) / 100;
  } else {
    if (unit.ends_with("iB")) unit.resize(unit.size() - 2);
    if (unit.ends_with("B")) unit.pop_back();
    constexpr std::string_view kUnits = "KMGT";
    const std::size_t at = unit.empty() ? 0 : kUnits.find(unit) + 1;
    if (unit.size() > 1 || (at == 0 && !unit.empty())) return std::nullopt;
    factor = static_cast<double>(std::uint64_t{1} << 10 * at);
  }
  const double bytes = *number * factor;
  if (bytes < kLeast) return std::nullopt;
  return bytes < 0x1p63 ? static_cast<std::uint64_t>(bytes) : kNone;
}

void limit_memory(std::uint64_t bytes) {
  if (kHasShadow) return;
  // What is kept for later tiles makes room first.
  std::set_new_handler([] {
    if (!release_kept_memory()) throw std::bad_alloc();
  });
#ifdef __GLIBC__
  // Heaps of threads keep what was given back to them, which counts against the limit; what is mapped goes at once.
  if (bytes < kRoomy) {
    ::mallopt(M_MMAP_THRESHOLD, 256 << 10);
    ::mallopt(M_TRIM_THRESHOLD, 1 << 20);
  }
#endif
  rlimit limit{};
  if (::getrlimit(RLIMIT_DATA, &limit) != 0) return;
  limit.rlim_cur = std::min<rlim_t>(bytes, limit.rlim_max);
  ::setrlimit(RLIMIT_DATA, &limit);
}

void give_memory_back() {
  release_kept_memory();
#ifdef __GLIBC__
  ::malloc_trim(0);
#endif
}

MemoryShares share_memory(std::size_t wanted) {
  constexpr std::uint64_t kWatching = 256 << 10;  // what this process may need while it looks on
  rlimit limit{};
  if (::getrlimit(RLIMIT_DATA, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return {wanted, kNone};
  give_memory_back();
  const std::uint64_t held = held_data() + kWatching, room = limit.rlim_cur - std::min<rlim_t>(held, limit.rlim_cur);
  const std::uint64_t fit = room / static_cast<std::uint64_t>(kLeast);
  const std::size_t processes = std::max<std::uint64_t>(std::min<std::uint64_t>(wanted, fit), 1);
  return {processes, room / processes};
}

}  // namespace kvzip::tool
