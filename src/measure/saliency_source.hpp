// SPDX-License-Identifier: Apache-2.0
// The saliency of a dump, measured once for all that is written of it.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "kvzip/saliency.hpp"

namespace kvzip::tool {

class SaliencySource {
 public:
  /// `choice`: "queries", "proxy" or "none"; empty: what there is. `queries` is a file with other queries, or empty.
  /// `dump` must outlive it. `progress` is told of layers.
  SaliencySource(DumpReader& dump, Recognition recognition, std::string choice, std::string queries,
                 RecogniseOptions recognise, unsigned threads, Progress progress = {});

  /// Null when it is not wanted or cannot be had.
  std::shared_ptr<const Saliency> get();
  /// For containers by these rules: null, too, when none of their pipelines makes use of it.
  std::shared_ptr<const Saliency> of(const RuleSet& rules) { return weighs(rules) ? get() : nullptr; }
  /// A sentence about what was measured; empty when nothing was.
  const std::string& said() const { return said_; }

 private:
  void measure();

  DumpReader& dump_;
  Recognition recognition_;
  std::string choice_, queries_;
  RecogniseOptions recognise_;
  unsigned threads_;
  Progress progress_;
  bool tried_ = false;
  std::shared_ptr<const Saliency> saliency_;
  std::string said_;
};

}  // namespace kvzip::tool
