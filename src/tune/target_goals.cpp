// SPDX-License-Identifier: Apache-2.0
// The goals of `compress`.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "src/tune/target_bound.hpp"
#include "src/tune/target_search.hpp"

namespace kvzip::tool {
namespace {

double energy_of(const Unit& unit) {
  return unit.energy;
}

/// Within a size, what attention makes of the errors and the errors themselves count alike, each as a share of what it
/// comes to on the middle rung: queries show which layers matter, but a few of them do not show all that matters.
void add_attention(Ladder& ladder, const std::vector<std::vector<double>>& attention) {
  auto& distortion = ladder.distortion;
  double errors = 0, outputs = 0;
  for (std::size_t u = 0; u < distortion.size(); ++u) {
    errors += distortion[u][kRungs / 2];
    outputs += attention[u][kRungs / 2];
  }
  if (!(errors > 0) || !(outputs > 0)) return;
  for (std::size_t u = 0; u < distortion.size(); ++u) {
    for (std::size_t c = 0; c < kRungs; ++c) {
      distortion[u][c] = distortion[u][c] / errors + attention[u][c] / outputs;
    }
  }
}

/// Least distortion within some bytes.
class SizeGoal : public LadderGoal {
 public:
  using LadderGoal::LadderGoal;
  bool limits_bytes() const final { return true; }
  Quantiser quantiser() const final { return Quantiser::weighed_adapt; }
  /// At small steps a value takes log2(rms / step) + 2.05 bits (Gish and Pierce 1968).
  double step(const TargetDump& dump) const final { return exp2_of(2.05 - bits(dump)); }
  std::vector<Control> controls(const TargetDump& dump) const final {
    Control all;
    all.limit = limit(dump);
    all.value = [this](const Trial& trial) { return bytes(trial); };
    all.slope = -dump.values / 8 / all.limit / kLn2;  // a step twice as wide saves a bit of a value
    return {all};
  }
  /// Errors relative to the layer, because layers differ in scale by what the next one makes up for.
  void weigh(Ladder& ladder) const final {
    ladder.weigh_errors(energy_of);
    if (ladder.dump.has_queries) add_attention(ladder, ladder.measure_attention());
  }

 protected:
  virtual double bits(const TargetDump& dump) const = 0;   // a value
  virtual double limit(const TargetDump& dump) const = 0;  // in bytes
  virtual double bytes(const Trial& trial) const = 0;      // that are limited
};

class RatioGoal final : public SizeGoal {
 public:
  using SizeGoal::SizeGoal;
  std::string_view name() const override { return "ratio"; }
  double budget(const Control& control, Ladder& ladder) const override { return control.limit - other_bytes(ladder); }
  std::string reached(const Trial& trial, const TargetDump& dump) const override {
    return fmt::format("{:.4g}", dump.source_bytes / trial.file_bytes);
  }

 private:
  double bits(const TargetDump& dump) const override { return dump.source_bytes * 8 / dump.values / wanted(); }
  double limit(const TargetDump& dump) const override { return dump.source_bytes / wanted(); }
  double bytes(const Trial& trial) const override { return trial.file_bytes; }
  /// Bytes of the container that are not frames of units. Where they matter, those of a trial with the shortest of
  /// these.
  double other_bytes(Ladder& ladder) const {
    constexpr double kMatters = 0.01;
    TargetDump& dump = ladder.dump;
    double unit_source = 0, unit_frames = 0;
    for (const Unit& unit : dump.units) unit_source += static_cast<double>(unit.source_bytes);
    if (dump.source_bytes - unit_source <= kMatters * dump.source_bytes / wanted()) {
      return dump.source_bytes - unit_source;
    }
    std::vector<std::string> pipelines;
    for (std::size_t u = 0; u < dump.units.size(); ++u) {
      pipelines.push_back(ladder.pipeline(u, kRungs - 1));
      unit_frames += ladder.curves[u][kRungs - 1].bytes;
    }
    return std::max(0.0, dump.try_pipelines(pipelines).file_bytes - unit_frames);
  }
};

class BitsGoal final : public SizeGoal {
 public:
  using SizeGoal::SizeGoal;
  std::string_view name() const override { return "bits"; }
  double budget(const Control& control, Ladder&) const override { return control.limit; }
  std::string reached(const Trial& trial, const TargetDump& dump) const override {
    return fmt::format("{:.4g}", trial.unit_bytes * 8 / dump.values);
  }

 private:
  double bits(const TargetDump&) const override { return wanted(); }
  double limit(const TargetDump& dump) const override { return wanted() * dump.values / 8; }
  double bytes(const Trial& trial) const override { return trial.unit_bytes; }
};

/// Least bytes within an error.
class ErrorGoal : public LadderGoal {
 public:
  using LadderGoal::LadderGoal;
  bool limits_bytes() const final { return false; }
  /// At small steps the error is step / sqrt(12).
  double step(const TargetDump&) const final { return wanted() * std::sqrt(12); }
};

class NrmseGoal final : public ErrorGoal {
 public:
  using ErrorGoal::ErrorGoal;
  std::string_view name() const override { return "nrmse"; }
  Quantiser quantiser() const override { return Quantiser::adapt; }
  std::vector<Control> controls(const TargetDump& dump) const override {
    std::vector<Control> out;
    for (const Role role : {Role::key, Role::value}) {
      if (std::none_of(dump.units.begin(), dump.units.end(), [&](const Unit& u) { return u.role == role; })) continue;
      Control& one = out.emplace_back();
      one.moves = [role](const Unit& u) { return u.role == role; };
      one.value = [role](const Trial& t) { return t.nrmse[role == Role::value]; };
      one.limit = wanted();
    }
    return out;
  }
  /// The error is one of all keys, or values, together.
  void weigh(Ladder& ladder) const override {
    ladder.weigh_errors([](const Unit&) { return 1.0; });
  }
  double budget(const Control& control, Ladder& ladder) const override {
    double energy = 0;
    for (const Unit& unit : ladder.dump.units) energy += control.moves(unit) ? unit.energy : 0;
    return control.limit * control.limit * energy;
  }
  std::string reached(const Trial& trial, const TargetDump&) const override {
    return fmt::format("keys {:.4g}, values {:.4g}", trial.nrmse[0], trial.nrmse[1]);
  }
};

class AttentionGoal final : public ErrorGoal {
 public:
  using ErrorGoal::ErrorGoal;
  std::string_view name() const override { return "attention"; }
  Quantiser quantiser() const override { return Quantiser::weighed_adapt; }
  bool needs_queries() const override { return true; }
  std::vector<Control> controls(const TargetDump&) const override {
    Control all;
    all.limit = wanted();
    // What was not measured is not within any limit.
    all.value = [](const Trial& t) {
      return t.attention ? t.attention->output_nrmse : std::numeric_limits<double>::max();
    };
    return {all};
  }
  void weigh(Ladder& ladder) const override { ladder.distortion = ladder.measure_attention(); }
  double budget(const Control& control, Ladder& ladder) const override {
    return control.limit * control.limit * ladder.heads;
  }
  std::string reached(const Trial& trial, const TargetDump&) const override {
    return trial.attention ? fmt::format("{:.4g}", trial.attention->output_nrmse) : "nothing measured";
  }
};

class MaxErrorGoal final : public Goal {
 public:
  using Goal::Goal;
  std::string_view name() const override { return "max-error"; }
  std::optional<double> bound() const override { return wanted(); }
  Found search(TargetDump& dump) const override {
    if (wanted() > 0) dump.transforms = choose_transforms(dump.input, dump.units, kLadderShare, dump.encodes);
    Bounded found = search_bound({dump.input, dump.units, dump.transforms, wanted(), kLadderShare, kTrials, dump.quiet},
                                 dump.try_pipelines);
    dump.encodes += found.encodes;
    return {std::move(found.pipelines), std::move(found.trial), true, {}};
  }
  std::string reached(const Trial& trial, const TargetDump&) const override {
    return fmt::format("every value checked, {} tiles stored as they are", trial.raw_frames);
  }
};

template <typename G>
std::unique_ptr<const Goal> make(double wanted) {
  return std::make_unique<const G>(wanted);
}

constexpr double kLeastSize = 0.001;
constexpr GoalKind kGoals[] = {
    {"ratio", "--target-ratio", "find the setting that makes the file X times smaller", kLeastSize, make<RatioGoal>},
    {"bits", "--target-bits", "... that takes X bits a value of K and V", kLeastSize, make<BitsGoal>},
    {"nrmse", "--target-nrmse", "... with the error X of keys and of values", 0, make<NrmseGoal>},
    {"attention", "--target-attention", "... with the error X of attention outputs", 0, make<AttentionGoal>},
    {"max-error", "--max-error", "... with every value within X, which is checked", 0, make<MaxErrorGoal>},
};

}  // namespace

std::span<const GoalKind> goal_kinds() {
  return kGoals;
}

}  // namespace kvzip::tool
