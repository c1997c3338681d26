// SPDX-License-Identifier: Apache-2.0
// Two files against each other, tensor by tensor. Never holds more than some parts of each.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kvzip/io.hpp"
#include "kvzip/metrics.hpp"

namespace kvzip::tool {

/// How far one tensor, one role or everything is from the original, and what it takes.
struct Compared {
  Distortion distortion;                // of float tensors
  std::uint64_t measured = 0;           // float tensors
  std::uint64_t unlike = 0;             // elements of other tensors whose bytes differ
  std::uint64_t values = 0;             // elements of all
  std::uint64_t source_bytes = 0;       // in the original
  std::optional<double> coded_bytes{};  // in the other; nothing when that cannot be known

  bool same() const { return distortion.exact() && unlike == 0; }
  std::optional<double> bits() const;
  std::optional<double> ratio() const;
  void merge(const Compared& other);
};

/// Differences of elements in double, F64 as F64, where Distortion measures floats.
class ExactDifference {
 public:
  void add(std::optional<double> difference) {
    lost_ = lost_ || !difference;
    largest_ = std::max(largest_, difference.value_or(0));
  }
  /// No value when something is finite on one side only.
  std::optional<double> largest() const { return lost_ ? std::nullopt : std::optional(largest_); }

 private:
  double largest_ = 0;
  bool lost_ = false;
};

struct TensorComparison {
  std::size_t tensor = 0, other = 0;  // places in the original and in the other
  Role role = Role::other;
  std::optional<std::uint32_t> layer;
  Axes axes;
  bool floats = false;
  Compared half[2];                        // a tensor of keys and values has two; of others the first is all
  std::optional<ExactDifference> exact{};  // of what a container holds as keys or values

  Compared all() const;
};

struct Comparison {
  std::vector<TensorComparison> tensors;
  std::map<Role, Compared> roles;
  Compared total;
};

struct CompareOptions {
  bool common = false;      // leave out tensors that only one file has
  bool other_sizes = true;  // the other can say what its tensors take (a pipe cannot)
  unsigned threads = 0;
};

/// fail(invalid_argument) when tensors are missing (unless `common`), or their shapes or kinds differ.
Comparison compare_dumps(DumpReader& original, DumpReader& other, const Recognition& roles,
                         const CompareOptions& options, const Progress& progress);

}  // namespace kvzip::tool
