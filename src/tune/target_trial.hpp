// SPDX-License-Identifier: Apache-2.0
// Whole containers, written to be measured.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>

#include "kvzip/container.hpp"
#include "src/measure/fidelity.hpp"

namespace kvzip::tool {

struct TrialUnit {
  double bytes = 0;  // of whole frame records
  std::uint64_t raw_frames = 0;
};

/// What a container measures.
struct Trial {
  double file_bytes = 0;
  double unit_bytes = 0;                           // the file without frames that hold neither keys nor values
  double nrmse[2] = {0, 0};                        // of keys, of values
  std::optional<KvzResults::Attention> attention;  // of two sets of queries that of the larger output error
  std::uint64_t raw_frames = 0;                    // of keys and values, stored as they are
  std::map<std::pair<Role, std::uint32_t>, TrialUnit> units;
};

class Trials {
 public:
  /// With `fidelity`, attention is measured, too.
  Trials(DumpReader& reader, const Recognition& recognition, const FidelityOptions* fidelity, unsigned threads,
         bool quiet);
  /// Writes a container to a temporary file, measures it, and removes it. `options.results` is set.
  Trial run(const KvzOptions& options, const std::string& label);
  std::size_t count() const { return count_; }

 private:
  DumpReader& reader_;
  const Recognition& recognition_;
  std::optional<FidelityMeter> meter_;
  unsigned threads_;
  bool quiet_;
  std::size_t count_ = 0;
};

}  // namespace kvzip::tool
