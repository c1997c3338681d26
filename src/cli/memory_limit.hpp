// SPDX-License-Identifier: Apache-2.0
// How much memory a command may take.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace kvzip::tool {

/// Bytes of the machine's memory, or of the control group that the process is in where that has less.
std::uint64_t machine_memory();
/// 8 MiB or more: "512M", "1.5GiB" (powers of two), "50%" of machine_memory(), or "none", which is the largest number.
std::optional<std::uint64_t> parse_memory(std::string_view text);
/// Lets the process take so much data (setrlimit, RLIMIT_DATA): beyond it allocations fail.
void limit_memory(std::uint64_t bytes);

}  // namespace kvzip::tool
