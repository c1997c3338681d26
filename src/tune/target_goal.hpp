// SPDX-License-Identifier: Apache-2.0
// What a target asks for: one object each, which says what is limited, how a trial tells the number, and how the
// setting is searched.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/tune/target_ladder.hpp"
#include "src/tune/target_trial.hpp"

namespace kvzip::tool {

/// The dump whose setting is sought, and whole containers to try settings on.
struct TargetDump {
  CurveInput input;
  FidelityOptions fidelity;
  bool quiet = false, has_queries = false;
  bool any_chunk = false;  // the user left the number of tokens in a frame open
  std::vector<Unit> units;
  Transforms transforms;
  double source_bytes = 0, values = 0;  // of all tensors; of the units
  double encodes = 0;                   // work so far, in encodes of all keys and values
  std::function<Trial(const std::vector<std::string>& pipelines)> try_pipelines;  // one pipeline for each unit
};

struct Found {
  std::vector<std::string> pipelines;  // of each unit
  Trial trial;                         // of the container they make
  bool met = false;
  std::string methods;  // what the searches came to, for people; may be empty
};

class Goal {
 public:
  explicit Goal(double wanted) : wanted_(wanted) {}
  virtual ~Goal() = default;
  double wanted() const { return wanted_; }
  virtual std::string_view name() const = 0;  // as a container's results have it
  virtual bool needs_queries() const { return false; }
  /// How far at most a value is from its original, where that is what is wanted: the writer then certifies it.
  virtual std::optional<double> bound() const { return {}; }
  virtual Found search(TargetDump& dump) const = 0;
  /// What a trial came to, for people.
  virtual std::string reached(const Trial& trial, const TargetDump& dump) const = 0;

 private:
  double wanted_;
};

/// A goal as the command line offers it.
struct GoalKind {
  std::string_view name, option, help;
  double least;  // that may be wanted
  std::unique_ptr<const Goal> (*make)(double wanted);
};
std::span<const GoalKind> goal_kinds();

}  // namespace kvzip::tool
