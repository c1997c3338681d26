// SPDX-License-Identifier: Apache-2.0
// The search for all goals but a bound. Where steps follow saliency, all units have one; else curves are measured once,
// and an allocation gives every unit a rung of the ladder. Then a factor common to the steps is adjusted on whole
// containers until the goal is met.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "src/tune/target_control.hpp"
#include "src/tune/target_goal.hpp"

namespace kvzip::tool {

inline constexpr double kLadderWork = 4;                            // encodes that measuring the ladder may cost
inline constexpr double kLadderShare = kLadderWork / (kRungs + 1);  // of the tiles that are measured
inline constexpr std::size_t kTrials = 7;

/// What the rungs of all units take and do.
struct Ladder {
  TargetDump& dump;
  Quantiser quantiser = Quantiser::uniform;
  double first = kFirstRung;
  std::vector<std::vector<Point>> curves{};       // [u][c]
  std::vector<std::vector<double>> distortion{};  // [u][c]: what is to be small, or within a limit, in sum
  double heads = 0;                               // whose attention was measured

  /// Of unit u at candidate c, its step times 2^log_factor.
  std::string pipeline(std::size_t u, std::size_t c, double log_factor = 0) const;
  /// Sets distortion to squared errors, those of unit u divided by scale(u); 0 where that is 0.
  void weigh_errors(const std::function<double(const Unit&)>& scale);
  /// Measures what each rung does to attention, [u][c].
  std::vector<std::vector<double>> measure_attention();
};

/// A goal that steps of the ladder reach: numbers with limits, and what is kept small within them.
class LadderGoal : public Goal {
 public:
  using Goal::Goal;
  Found search(TargetDump& dump) const override;

  /// Bytes are limited and distortion is kept small, or the other way round.
  virtual bool limits_bytes() const = 0;
  /// About the step over a unit's root mean square at which the goal is reached.
  virtual double step(const TargetDump& dump) const = 0;
  /// What quantises where that step is not too fine for it.
  virtual Quantiser quantiser() const = 0;
  /// Limit, value and slope of each number that is to reach its limit.
  virtual std::vector<Control> controls(const TargetDump& dump) const = 0;
  /// Sets the ladder's distortion: what the error of a unit counts.
  virtual void weigh(Ladder& ladder) const = 0;
  /// The limit of `control` as a sum over the units it moves, of bytes or of distortion.
  virtual double budget(const Control& control, Ladder& ladder) const = 0;
};

}  // namespace kvzip::tool
