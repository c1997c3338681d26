// SPDX-License-Identifier: Apache-2.0
#include "src/tune/target_search.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "src/report/progress.hpp"
#include "src/report/report.hpp"
#include "src/tune/allocate.hpp"
#include "src/tune/target_attention.hpp"

namespace kvzip::tool {
namespace {

constexpr double kTolerance = 0.01;
constexpr double kBelow = 2;                // octaves by which a ladder begins below what should do
constexpr std::size_t kMixes = 5;           // trials
constexpr std::uint64_t kLongChunk = 2048;  // tokens from which a basis is learned

class LadderSearch {
 public:
  LadderSearch(const LadderGoal& goal, TargetDump& dump) : goal_(goal), dump_(dump), ladder_{dump} {
    const double step = goal.step(dump);
    ladder_.quantiser = step >= kLeastAdaptStep ? goal.quantiser() : Quantiser::uniform;
    ladder_.first = log2_of(std::max(step, 1e-300)) - kBelow;
    if (ladder_.quantiser != Quantiser::uniform && dump.any_chunk) dump.input.chunk_tokens = kLongChunk;
  }

  Found run() {
    if (goal_.wanted() > 0 && ladder_.quantiser == Quantiser::weighed_adapt) return one_step();
    if (goal_.wanted() > 0 && ladder_.quantiser == Quantiser::uniform) {
      dump_.transforms = choose_transforms(dump_.input, dump_.units, kLadderShare, dump_.encodes);
    }
    Tried best = search(kLadderShare);
    // An error that no factor brings down is one of a tile that was not sampled.
    if (!best.met() && best.worst > 1 && !goal_.limits_bytes() && sampled_share(dump_.input, kLadderShare) < 1) {
      Tried all = search(1);
      if (all.rank() > best.rank()) best = std::move(all);
    }
    return {std::move(best.pipelines), best.trial, best.met(), methods_};
  }

 private:
  /// Of a small dump one tile may be all there is; then some rungs are measured, and between them straight lines join
  /// bytes and logarithms of errors.
  void measure_ladder(double wanted_share) {
    constexpr double kFinest = -40;
    const double first = ladder_.quantiser == Quantiser::uniform ? kFirstRung : log2_of(kLeastAdaptStep);
    ladder_.first = std::max(std::min(first, ladder_.first), kFinest);
    const double share = sampled_share(dump_.input, wanted_share);
    const auto stride = static_cast<std::size_t>(std::max(1.0, std::round((kRungs + 1) * share / kLadderWork)));
    std::vector<std::size_t> measured{kLossless};
    for (std::size_t c = 0; c < kRungs - 1; c += stride) measured.push_back(c);
    measured.push_back(kRungs - 1);
    {
      ProgressLine line("curves", !dump_.quiet);
      const auto some = [&](std::size_t u, std::size_t m) { return ladder_.pipeline(u, measured[m]); };
      const Curves found =
          measure_curves(dump_.input, dump_.units, measured.size(), some, wanted_share, line.callback());
      ladder_.curves = between_rungs(found.points, measured);
      dump_.encodes += found.encodes;
    }
    goal_.weigh(ladder_);
  }

  /// A rung for each unit that a control moves: least bytes within its error, or least error within its bytes.
  void allocate(const Control& control) {
    std::vector<Choices> choices;
    std::vector<std::size_t> which;
    for (std::size_t u = 0; u < dump_.units.size(); ++u) {
      if (!control.moves(dump_.units[u])) continue;
      which.push_back(u);
      Choices& of_unit = choices.emplace_back();
      for (std::size_t c = 0; c <= kRungs; ++c) {
        const double bytes = ladder_.curves[u][c].bytes, error = ladder_.distortion[u][c];
        of_unit.push_back(goal_.limits_bytes() ? Choice{error, bytes} : Choice{bytes, error});
      }
    }
    const double limit = goal_.budget(control, ladder_);
    const std::vector<std::size_t> uniform = uniform_default(choices, limit);
    const auto dynamic = allocate_lgreco(choices, limit, uniform);
    const auto hull = allocate_lagrangian(choices, limit);
    if (!dynamic || !hull) {  // out of reach: the lightest there is
      for (const std::size_t u : which) pick_[u] = goal_.limits_bytes() ? kRungs - 1 : kLossless;
      return;
    }
    const Allocation& best = dynamic->cost <= hull->cost ? *dynamic : *hull;
    for (std::size_t i = 0; i < which.size(); ++i) pick_[which[i]] = best.pick[i];
    methods_ += fmt::format(" {} L-GreCo {:.4g}, Lagrangian {:.4g}, one rung for all {:.4g};",
                            goal_.limits_bytes() ? "squared error by" : "bytes by", dynamic->cost, hull->cost,
                            sum_of(choices, uniform).cost);
  }

  /// The same rung for all units: the cheapest one within the limit, else the lossless one.
  static std::vector<std::size_t> uniform_default(const std::vector<Choices>& choices, double limit) {
    std::vector<std::size_t> best(choices.size(), kLossless);
    double cost = std::numeric_limits<double>::infinity();
    for (std::size_t c = 0; c <= kRungs; ++c) {
      Allocation sum = sum_of(choices, std::vector<std::size_t>(choices.size(), c));
      if (sum.weight > limit || sum.cost >= cost) continue;
      cost = sum.cost;
      best = std::move(sum.pick);
    }
    return best;
  }

  std::vector<std::string> pipelines_of(const std::vector<Control>& controls) const {
    std::vector<std::string> out;
    for (std::size_t u = 0; u < dump_.units.size(); ++u) {
      double factor = 0;
      for (const Control& control : controls) factor += control.moves(dump_.units[u]) ? control.log_factor : 0;
      out.push_back(ladder_.pipeline(u, pick_[u], factor));
    }
    return out;
  }

  struct Tried {
    std::vector<std::string> pipelines;
    Trial trial;
    double worst = 0, closest = 1;  // the largest share of a limit, and the smallest
    /// Within the limits the fullest use of them is best; beyond them the least excess.
    double rank() const { return worst <= 1 ? closest : 1 - worst; }
    bool done() const { return worst <= 1 && closest >= 1 - kTolerance; }
    bool met() const { return worst <= 1 + kTolerance; }
  };

  Tried attempt(const std::vector<Control>& controls) { return attempt(controls, pipelines_of(controls)); }
  Tried attempt(const std::vector<Control>& controls, std::vector<std::string> pipelines) {
    Tried now{std::move(pipelines), {}, 0, 1};
    now.trial = dump_.try_pipelines(now.pipelines);
    for (const Control& control : controls) {
      now.worst = std::max(now.worst, control.share(now.trial));
      now.closest = std::min(now.closest, control.share(now.trial));
    }
    return now;
  }

  /// Trials from the curves of a share of the tiles.
  Tried search(double share) {
    std::vector<Control> controls = goal_.controls(dump_);
    pick_.assign(dump_.units.size(), kLossless);
    methods_.clear();
    if (goal_.wanted() > 0) {
      measure_ladder(share);
      for (const Control& control : controls) allocate(control);
    }
    return approach(controls);
  }

  /// The step that should do, for all units: their tokens' steps follow from it. What is small enough without loss, and
  /// what no step makes good enough, is lossless.
  Found one_step() {
    std::vector<Control> controls = goal_.controls(dump_);
    const auto lossless = [&] {
      pick_.assign(dump_.units.size(), kLossless);
      return approach(goal_.controls(dump_));
    };
    Tried best;
    if (goal_.limits_bytes()) best = lossless();
    if (!goal_.limits_bytes() || best.worst > 1) {
      pick_.assign(dump_.units.size(), static_cast<std::size_t>(kBelow * kRungsPerOctave));
      best = approach(controls);
      if (!goal_.limits_bytes() && best.worst > 1 + kTolerance) best = lossless();
    }
    return {std::move(best.pipelines), best.trial, best.met(), " one step, tokens' own by their saliency;"};
  }

  /// Trials from what was picked on.
  Tried approach(std::vector<Control> controls) {
    const bool lossless = std::all_of(pick_.begin(), pick_.end(), [](std::size_t p) { return p == kLossless; });
    Tried best = attempt(controls), last = best;
    std::optional<Tried> beyond;  // the least
    const auto look = [&](const Tried& tried) {
      if (tried.worst > 1 && (!beyond || tried.worst < beyond->worst)) beyond = tried;
    };
    look(last);
    for (std::size_t i = 1; i < kTrials && !best.done() && !lossless; ++i) {
      for (Control& control : controls) {
        const double part = control.share(last.trial);
        if (part > 1 || part < 1 - kTolerance) control.move(control.value(last.trial));
      }
      const Tried before = std::exchange(last, attempt(controls));
      if (last.rank() > best.rank()) best = last;
      look(last);
      // Steps that change nothing more: a tensor of one value, or nothing left to leave out.
      if (std::fabs(last.worst - before.worst) <= 1e-4 * before.worst &&
          std::fabs(last.closest - before.closest) <= 1e-4 * before.closest) {
        break;
      }
    }
    const bool jumps = controls.size() == 1 && beyond && best.worst <= 1 && !best.done();
    return jumps ? mix(controls, std::move(best), *beyond) : best;
  }

  /// Where the number jumps between two steps, as the attention error of few tokens does when single codes change, the
  /// first units get the one and the others the other: each unit moves it by its own part alone.
  Tried mix(const std::vector<Control>& controls, Tried within, const Tried& beyond) {
    const std::vector<std::string> finer = within.pipelines;
    std::size_t low = 0, high = finer.size();
    for (std::size_t i = 0; i < kMixes && high - low > 1 && !within.done(); ++i) {
      const std::size_t wider = (low + high) / 2;
      std::vector<std::string> pipelines = finer;
      std::copy_n(beyond.pipelines.begin(), wider, pipelines.begin());
      Tried now = attempt(controls, std::move(pipelines));
      (now.worst <= 1 ? low : high) = wider;
      if (now.rank() > within.rank()) within = std::move(now);
    }
    return within;
  }

  const LadderGoal& goal_;
  TargetDump& dump_;
  Ladder ladder_;
  std::vector<std::size_t> pick_;  // of each unit, a candidate
  std::string methods_;
};

}  // namespace

std::string Ladder::pipeline(std::size_t u, std::size_t c, double log_factor) const {
  if (c == kLossless) return std::string(kLosslessPipeline);
  const Unit& unit = dump.units[u];
  const double rung = static_cast<double>(c), factor = exp2_of(log_factor);
  if (quantiser != Quantiser::uniform) {
    return adapt_pipeline(unit.role, exp2_of(first + rung / kRungsPerOctave) * factor, quantiser);
  }
  const double step = rung_step(unit, rung, first);
  return ladder_pipeline(dump.transforms.of(unit.role), log_factor == 0 ? step : stated_step(step * factor),
                         Points::centroid);
}

void Ladder::weigh_errors(const std::function<double(const Unit&)>& scale) {
  distortion.assign(dump.units.size(), std::vector<double>(kRungs + 1));
  for (std::size_t u = 0; u < dump.units.size(); ++u) {
    const double of_unit = scale(dump.units[u]);
    for (std::size_t c = 0; c < kRungs; ++c) {
      distortion[u][c] = of_unit > 0 ? curves[u][c].squared_error / of_unit : 0;
    }
  }
}

std::vector<std::vector<double>> Ladder::measure_attention() {
  const auto text = [this](std::size_t u, std::size_t c) { return pipeline(u, c); };
  AttentionCurves found = tool::measure_attention(dump.input, dump.units, curves, text, dump.fidelity, dump.quiet);
  heads = static_cast<double>(found.heads);
  dump.encodes += static_cast<double>(found.encodes);
  return std::move(found.error);
}

Found LadderGoal::search(TargetDump& dump) const {
  return LadderSearch(*this, dump).run();
}

}  // namespace kvzip::tool
