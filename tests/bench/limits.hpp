// SPDX-License-Identifier: Apache-2.0
// What this machine can do at most, measured in this process: nothing that the kernels do can be faster.
#pragma once

#include <cstddef>

namespace kvzip::bench {

/// Bytes a second that memcpy reads and writes, both counted, inside a working set of this size.
double copied_bytes_per_second(std::size_t working_set);
/// Bytes a second of vector loads from a working set of this size.
double read_bytes_per_second(std::size_t working_set);
/// Multiplications and additions of floats a second, each counted, none fused, on the instruction set in use.
double flops_per_second();
/// Simple operations on 16-bit integers a second, each lane counted, on the instruction set in use.
double lane_operations_per_second();
/// Divisions of floats a second, on the instruction set in use.
double divisions_per_second();
/// Independent lookups a second in a table of 16 kB, on the instruction set in use.
double lookups_per_second();

}  // namespace kvzip::bench
