// SPDX-License-Identifier: Apache-2.0
#include "src/report/machine.hpp"

#include <fmt/format.h>

#include <fstream>

#include "codec/kernels/instruction_set.hpp"

namespace kvzip::tool {

Machine this_machine() {
  Machine machine;
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const std::size_t colon = line.find(": ");
    if (!line.starts_with("model name") || colon == std::string::npos) continue;
    machine.cpu = line.substr(colon + 2);
    break;
  }
#ifdef __clang__
  machine.compiler = "clang " __clang_version__;
#else
  machine.compiler = "gcc " __VERSION__;
#endif
  machine.compiler.erase(machine.compiler.find_last_not_of(' ') + 1);
  return machine;
}

std::string machine_line() {
  const Machine machine = this_machine();
  return fmt::format("({}), {} of {} x {}", machine.compiler, kernels::instruction_set_name(), machine.processors,
                     machine.cpu);
}

}  // namespace kvzip::tool
