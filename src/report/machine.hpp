// SPDX-License-Identifier: Apache-2.0
// What figures were measured on.
#pragma once

#include <string>
#include <thread>

namespace kvzip::tool {

struct Machine {
  std::string cpu = "unknown processor", compiler;
  unsigned processors = std::thread::hardware_concurrency();
};
Machine this_machine();
/// "(gcc 12.2.0), AVX2 of 2 x PROCESSOR": what follows the program's name and version.
std::string machine_line();

}  // namespace kvzip::tool
