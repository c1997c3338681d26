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
/// "kvzip 0.1.0 (gcc 12.2.0), AVX2 of 2 x PROCESSOR"
std::string machine_line();

}  // namespace kvzip::tool
