// SPDX-License-Identifier: Apache-2.0
// How much memory a command may take.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kvzip::tool {

/// Bytes that control groups leave the process: the least limit of the group that it is in and of those above it, of
/// either version (Linux, admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst). `root`: of the file system.
std::uint64_t group_memory(const std::string& root = "");
/// Bytes of the machine's memory, or of the control group that the process is in where that has less.
std::uint64_t machine_memory();
/// 8 MiB or more: "512M", "1.5GiB" (powers of two), "50%" of machine_memory(), or "none", which is the largest number.
std::optional<std::uint64_t> parse_memory(std::string_view text);
/// Lets the process take so much data (setrlimit, RLIMIT_DATA): beyond it allocations fail.
void limit_memory(std::uint64_t bytes);

/// Gives what is kept for later use back to the system.
void give_memory_back();

/// Processes at the side of this one, and what each may take.
struct MemoryShares {
  std::size_t processes = 1;
  std::uint64_t bytes = 0;
};
/// For so many of them as are wanted, or fewer where a share would be too small to work with: all of them, with what
/// this process holds, take no more than its limit.
MemoryShares share_memory(std::size_t wanted);

}  // namespace kvzip::tool
