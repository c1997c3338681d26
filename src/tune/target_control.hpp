// SPDX-License-Identifier: Apache-2.0
// How a measured number is brought to its limit.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>

#include "src/tune/target_ladder.hpp"
#include "src/tune/target_trial.hpp"

namespace kvzip::tool {

/// One number that a factor on some units' steps is to bring to its limit.
struct Control {
  static constexpr double kAim = 0.996;  // of the limit
  std::function<bool(const Unit&)> moves = [](const Unit&) { return true; };
  std::function<double(const Trial&)> value;
  double limit = 0;
  double slope = 1;  // of log2(value) along log2(factor); estimated anew from trials
  double log_factor = 0;
  std::optional<double> last_log, last_value;
  std::optional<double> within, beyond;  // log2 factors known to be within and beyond the limit

  /// Above 1 is beyond the limit.
  double share(const Trial& trial) const { return limit > 0 ? value(trial) / limit : value(trial) > 0 ? 2 : 0; }
  /// The next factor: a secant through the last two trials, kept between what is known to be within and beyond.
  void move(double reached) {
    const double at = log_factor, log_value = log2_of(std::clamp(reached, 1e-300, 1e300));
    (reached <= limit ? within : beyond) = at;
    if (last_log && std::fabs(at - *last_log) > 1e-6) {
      const double measured = (log_value - *last_value) / (at - *last_log);
      if (measured * slope > 0) slope = measured;
    }
    last_log = at, last_value = log_value;
    log_factor = at + std::clamp((log2_of(limit * kAim) - log_value) / slope, -3.0, 3.0);
    if (!within || !beyond) return;
    const double low = std::min(*within, *beyond), high = std::max(*within, *beyond), room = (high - low) * 0.02;
    if (log_factor <= low + room || log_factor >= high - room) log_factor = (low + high) / 2;
  }
};

}  // namespace kvzip::tool
