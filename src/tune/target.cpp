// SPDX-License-Identifier: Apache-2.0
// One search for all targets. Curves are measured once; an allocation gives every unit a rung of the ladder; then a
// factor common to the steps is adjusted on whole containers until the target is met.
#include "src/tune/target.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>

#include "codec/fail.hpp"
#include "formats/kvz/kvz_plan.hpp"
#include "src/report/report.hpp"
#include "src/tune/allocate.hpp"
#include "src/tune/target_attention.hpp"
#include "src/tune/target_bound.hpp"
#include "src/tune/target_control.hpp"
#include "src/tune/target_ladder.hpp"
#include "src/tune/target_trial.hpp"

namespace kvzip::tool {
namespace {

constexpr double kTolerance = 0.01;
constexpr std::size_t kTrials = 7;
constexpr double kLadderWork = 4;                            // encodes that measuring the ladder may cost
constexpr double kLadderShare = kLadderWork / (kRungs + 1);  // of the tiles that are measured

class TargetSearch {
 public:
  TargetSearch(DumpReader& reader, const Recognition& recognition, const TargetOptions& target, const KvzOptions& base,
               unsigned threads, bool quiet)
      : input_{reader, recognition, base.chunk_tokens.value_or(kDefaultChunk), threads},
        target_(target),
        base_(base),
        quiet_(quiet),
        has_queries_(has_queries(recognition, target.fidelity)),
        start_(std::chrono::steady_clock::now()),
        units_(find_units(input_)) {
    for (const TensorInfo& info : reader.dump().tensors) source_bytes_ += static_cast<double>(info.bytes());
    if (units_.empty()) {
      fail(ErrorCode::invalid_argument, "it has no keys or values to give bits to; see 'kvzip inspect' and --map");
    }
    for (const Unit& unit : units_) values_ += static_cast<double>(unit.values);
    if (target.attention && !has_queries_) {
      fail(ErrorCode::invalid_argument, "--target-attention needs queries: in the dump, or from --queries FILE");
    }
    results_.target = target.ratio       ? "ratio"
                      : target.bits      ? "bits"
                      : target.nrmse     ? "nrmse"
                      : target.attention ? "attention"
                                         : "max-error";
    results_.wanted = target.ratio.value_or(
        target.bits.value_or(target.nrmse.value_or(target.attention.value_or(target.max_error.value_or(0)))));
    results_.max_error = target.max_error;
    make_trials(recognition);
  }

  TargetOutcome run() {
    if (results_.wanted > 0) transforms_ = choose_transforms(input_, units_, kLadderShare, encodes_);
    return target_.max_error ? run_bound(*target_.max_error) : run_ladder();
  }

 private:
  static bool has_queries(const Recognition& recognition, const FidelityOptions& fidelity) {
    return !fidelity.queries.empty() || std::any_of(recognition.tensors.begin(), recognition.tensors.end(),
                                                    [](const TensorRole& t) { return t.role == Role::query; });
  }
  /// Queries that do not fit the cache stop what needs them; a size or an error can do without.
  void make_trials(const Recognition& recognition) {
    const bool needed = target_.attention || !target_.fidelity.queries.empty();
    try {
      trials_.emplace(input_.reader, recognition, has_queries_ ? &target_.fidelity : nullptr, input_.threads, quiet_);
    } catch (const Error& error) {
      if (needed || error.code() != ErrorCode::invalid_argument) throw;
      if (!quiet_) note(fmt::format("queries are left out of account: {}", error.what()));
      has_queries_ = false;
      trials_.emplace(input_.reader, recognition, nullptr, input_.threads, quiet_);
    }
    // The place of what is known at the end only, so that a trial is as long as the file.
    if (has_queries_) results_.attention = {0.123456, 0.123456, 100000, 1000};
  }
  bool bytes_are_limited() const { return target_.ratio || target_.bits; }

  KvzOptions options_for(const std::vector<std::string>& pipelines) const {
    KvzOptions options = base_;
    options.rules = rules_for(units_, pipelines);
    options.results = results_;
    return options;
  }
  Trial try_pipelines(const std::vector<std::string>& pipelines) {
    encodes_ += 1;
    return trials_->run(options_for(pipelines), fmt::format("trial {}", trials_->count() + 1));
  }

  std::string candidate(std::size_t u, std::size_t c) const {
    if (c == kLossless) return std::string(kLosslessPipeline);
    const double step = rung_step(units_[u], static_cast<double>(c), first_rung_);
    return ladder_pipeline(transforms_.of(units_[u].role), step, Points::centroid);
  }

  /// Low enough for the target: at small steps a value takes log2(rms / step) + 2.05 bits (Gish and Pierce 1968) and
  /// the error is step / sqrt(12).
  double first_rung() const {
    constexpr double kBits = 2.05, kBelow = 2, kFinest = -40;
    double first = kFirstRung;
    if (bytes_are_limited()) {
      const double bits = target_.bits ? *target_.bits : source_bytes_ * 8 / values_ / *target_.ratio;
      first = std::min(first, kBits - bits - kBelow);
    } else {
      first = std::min(first, log2_of(results_.wanted * std::sqrt(12)) - kBelow);
    }
    return std::max(first, kFinest);
  }

  /// Of a small dump one tile may be all there is; then some rungs are measured, and between them straight lines join
  /// bytes and logarithms of errors.
  void measure_ladder(double wanted_share) {
    first_rung_ = first_rung();
    const auto text = [this](std::size_t u, std::size_t c) { return candidate(u, c); };
    const double share = sampled_share(input_, wanted_share);
    const auto stride = static_cast<std::size_t>(std::max(1.0, std::round((kRungs + 1) * share / kLadderWork)));
    std::vector<std::size_t> measured{kLossless};
    for (std::size_t c = 0; c < kRungs - 1; c += stride) measured.push_back(c);
    measured.push_back(kRungs - 1);
    {
      ProgressLine line("curves", !quiet_);
      const auto some = [&](std::size_t u, std::size_t m) { return candidate(u, measured[m]); };
      const Curves found = measure_curves(input_, units_, measured.size(), some, wanted_share, line.callback());
      curves_ = between_rungs(found.points, measured);
      encodes_ += found.encodes;
    }
    // What the error of a unit counts: for an error of all keys or values itself; else relative to the layer, because
    // layers differ in scale by what the next one makes up for.
    distortion_.assign(units_.size(), std::vector<double>(kRungs + 1));
    for (std::size_t u = 0; u < units_.size(); ++u) {
      const double scale = target_.nrmse ? 1 : units_[u].energy;
      for (std::size_t c = 0; c < kRungs; ++c) {
        distortion_[u][c] = scale > 0 ? curves_[u][c].squared_error / scale : 0;
      }
    }
    if (!target_.attention && !(bytes_are_limited() && has_queries_)) return;
    AttentionCurves found = measure_attention(input_, units_, curves_, text, target_.fidelity, quiet_);
    heads_ = static_cast<double>(found.heads);
    encodes_ += static_cast<double>(found.encodes);
    if (target_.attention) {
      distortion_ = std::move(found.error);
    } else {
      add_attention(found.error);
    }
  }

  /// Within a size, what attention makes of the errors and the errors themselves count alike, each as a share of what
  /// it comes to on the middle rung: queries show which layers matter, but a few of them do not show all that matters.
  void add_attention(const std::vector<std::vector<double>>& attention) {
    double errors = 0, outputs = 0;
    for (std::size_t u = 0; u < units_.size(); ++u) {
      errors += distortion_[u][kRungs / 2];
      outputs += attention[u][kRungs / 2];
    }
    if (!(errors > 0) || !(outputs > 0)) return;
    for (std::size_t u = 0; u < units_.size(); ++u) {
      for (std::size_t c = 0; c < kRungs; ++c) {
        distortion_[u][c] = distortion_[u][c] / errors + attention[u][c] / outputs;
      }
    }
  }

  std::vector<Control> make_controls() const {
    Control all;
    all.moves = [](const Unit&) { return true; };
    if (bytes_are_limited()) {
      const bool ratio = target_.ratio.has_value();
      all.limit = ratio ? source_bytes_ / *target_.ratio : *target_.bits * values_ / 8;
      all.value = [ratio](const Trial& t) { return ratio ? t.file_bytes : t.unit_bytes; };
      all.slope = -values_ / 8 / all.limit / kLn2;  // a step twice as wide saves a bit of a value
      return {all};
    }
    if (target_.attention) {
      all.limit = *target_.attention;
      all.value = [](const Trial& t) {
        // What was not measured is not within any limit.
        return t.attention ? t.attention->output_nrmse : std::numeric_limits<double>::max();
      };
      return {all};
    }
    std::vector<Control> out;
    for (const Role role : {Role::key, Role::value}) {
      if (std::none_of(units_.begin(), units_.end(), [&](const Unit& u) { return u.role == role; })) continue;
      Control one;
      one.moves = [role](const Unit& u) { return u.role == role; };
      one.value = [role](const Trial& t) { return t.nrmse[role == Role::value]; };
      one.limit = *target_.nrmse;
      out.push_back(std::move(one));
    }
    return out;
  }

  /// A rung for each unit that a control moves: least bytes within its error, or least error within its bytes.
  void allocate(const Control& control) {
    std::vector<Choices> choices;
    std::vector<std::size_t> which;
    double energy = 0;
    for (std::size_t u = 0; u < units_.size(); ++u) {
      if (!control.moves(units_[u])) continue;
      which.push_back(u);
      energy += units_[u].energy;
      Choices& of_unit = choices.emplace_back();
      for (std::size_t c = 0; c <= kRungs; ++c) {
        const double bytes = curves_[u][c].bytes, error = distortion_[u][c];
        of_unit.push_back(bytes_are_limited() ? Choice{error, bytes} : Choice{bytes, error});
      }
    }
    double limit = control.limit * control.limit * (target_.nrmse ? energy : heads_);
    if (bytes_are_limited()) limit = control.limit - (target_.ratio ? other_bytes() : 0);
    const std::vector<std::size_t> uniform = uniform_default(choices, limit);
    const auto dynamic = allocate_lgreco(choices, limit, uniform);
    const auto hull = allocate_lagrangian(choices, limit);
    if (!dynamic || !hull) {  // out of reach: the lightest there is
      for (const std::size_t u : which) pick_[u] = bytes_are_limited() ? kRungs - 1 : kLossless;
      return;
    }
    const Allocation& best = dynamic->cost <= hull->cost ? *dynamic : *hull;
    for (std::size_t i = 0; i < which.size(); ++i) pick_[which[i]] = best.pick[i];
    methods_ += fmt::format(" {} L-GreCo {:.4g}, Lagrangian {:.4g}, one rung for all {:.4g};",
                            bytes_are_limited() ? "squared error by" : "bytes by", dynamic->cost, hull->cost,
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

  /// Bytes of the container that are not frames of units. Where they matter, those of a trial with the shortest of
  /// these.
  double other_bytes() {
    constexpr double kMatters = 0.01;
    double unit_source = 0, unit_frames = 0;
    for (const Unit& unit : units_) unit_source += static_cast<double>(unit.source_bytes);
    if (source_bytes_ - unit_source <= kMatters * source_bytes_ / *target_.ratio) return source_bytes_ - unit_source;
    std::vector<std::string> pipelines;
    for (std::size_t u = 0; u < units_.size(); ++u) {
      pipelines.push_back(candidate(u, kRungs - 1));
      unit_frames += curves_[u][kRungs - 1].bytes;
    }
    return std::max(0.0, try_pipelines(pipelines).file_bytes - unit_frames);
  }

  std::vector<std::string> pipelines_of(const std::vector<Control>& controls) const {
    std::vector<std::string> out;
    for (std::size_t u = 0; u < units_.size(); ++u) {
      if (pick_[u] == kLossless) {
        out.emplace_back(kLosslessPipeline);
        continue;
      }
      double factor = 0;
      for (const Control& control : controls) factor += control.moves(units_[u]) ? control.log_factor : 0;
      const double step =
          stated_step(rung_step(units_[u], static_cast<double>(pick_[u]), first_rung_) * exp2_of(factor));
      out.push_back(ladder_pipeline(transforms_.of(units_[u].role), step, Points::centroid));
    }
    return out;
  }

  struct Tried {
    std::vector<std::string> pipelines;
    Trial trial;
    double worst = 0, closest = 1;  // the largest share of a limit, and the smallest
    /// Within the limits the fullest use of them is best; beyond them the least excess.
    double rank() const { return worst <= 1 ? closest : 1 - worst; }
    bool nothing_more = false;  // wider steps would change nothing
    bool done() const { return worst <= 1 && closest >= 1 - kTolerance; }
    bool met() const { return worst <= 1 + kTolerance && (closest >= 1 - kTolerance || nothing_more); }
  };

  Tried attempt(const std::vector<Control>& controls) {
    Tried now{pipelines_of(controls), {}, 0, 1};
    now.trial = try_pipelines(now.pipelines);
    for (const Control& control : controls) {
      now.worst = std::max(now.worst, control.share(now.trial));
      now.closest = std::min(now.closest, control.share(now.trial));
    }
    return now;
  }

  /// Trials from the curves of a share of the tiles.
  Tried search(double share) {
    std::vector<Control> controls = make_controls();
    pick_.assign(units_.size(), kLossless);
    methods_.clear();
    if (results_.wanted > 0) {
      measure_ladder(share);
      for (const Control& control : controls) allocate(control);
    }
    const bool lossless = std::all_of(pick_.begin(), pick_.end(), [](std::size_t p) { return p == kLossless; });
    Tried best = attempt(controls), last = best;
    best.nothing_more = lossless;
    for (std::size_t i = 1; i < kTrials && !best.done() && !lossless; ++i) {
      for (Control& control : controls) {
        const double part = control.share(last.trial);
        if (part > 1 || part < 1 - kTolerance) control.move(control.value(last.trial));
      }
      const Tried before = std::exchange(last, attempt(controls));
      if (last.rank() > best.rank()) best = last;
      // Steps that change nothing more: a tensor of one value, or nothing left to leave out.
      if (std::fabs(last.worst - before.worst) <= 1e-4 * before.worst &&
          std::fabs(last.closest - before.closest) <= 1e-4 * before.closest) {
        best.nothing_more = true;
        break;
      }
    }
    return best;
  }

  TargetOutcome run_ladder() {
    Tried best = search(kLadderShare);
    // An error that no factor brings down is one of a tile that was not sampled.
    if (!best.met() && best.worst > 1 && !bytes_are_limited() && sampled_share(input_, kLadderShare) < 1) {
      Tried all = search(1);
      if (all.rank() > best.rank()) best = std::move(all);
    }
    return outcome(best.pipelines, best.trial, best.met());
  }

  TargetOutcome run_bound(double bound) {
    const auto attempt = [this](const std::vector<std::string>& pipelines) { return try_pipelines(pipelines); };
    const Bounded found = search_bound({input_, units_, transforms_, bound, kLadderShare, kTrials, quiet_}, attempt);
    encodes_ += found.encodes;
    return outcome(found.pipelines, found.trial, true);
  }

  std::string reached(const Trial& t) const {
    if (target_.ratio) return fmt::format("{:.4g}", source_bytes_ / t.file_bytes);
    if (target_.bits) return fmt::format("{:.4g}", t.unit_bytes * 8 / values_);
    if (target_.nrmse) return fmt::format("keys {:.4g}, values {:.4g}", t.nrmse[0], t.nrmse[1]);
    if (target_.attention) return t.attention ? fmt::format("{:.4g}", t.attention->output_nrmse) : "nothing measured";
    return fmt::format("every value checked, {} tiles stored as they are", t.raw_frames);
  }

  TargetOutcome outcome(const std::vector<std::string>& pipelines, const Trial& trial, bool met) {
    TargetOutcome out{options_for(pipelines), met, {}};
    out.options.results->attention = trial.attention;
    // Six digits, as in the trials.
    if (auto& a = out.options.results->attention) {
      for (double* x : {&a->output_nrmse, &a->kl}) *x = std::isfinite(*x) ? std::stod(fmt::format("{:.6g}", *x)) : *x;
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    out.said = fmt::format("{} {:g}: reached {};{} {} trial{}, work of {:.1f} encodes in {:.1f} s", results_.target,
                           results_.wanted, reached(trial), methods_, trials_->count(),
                           trials_->count() == 1 ? "" : "s", encodes_ + 1, seconds);
    return out;
  }

  CurveInput input_;
  const TargetOptions& target_;
  const KvzOptions& base_;
  bool quiet_, has_queries_;
  std::chrono::steady_clock::time_point start_;
  std::vector<Unit> units_;
  std::optional<Trials> trials_;
  KvzResults results_;
  Transforms transforms_;
  double source_bytes_ = 0, values_ = 0, encodes_ = 0, heads_ = 0, first_rung_ = kFirstRung;
  std::vector<std::vector<Point>> curves_;
  std::vector<std::vector<double>> distortion_;  // [u][c]: what is to be small, or within a limit, in sum
  std::vector<std::size_t> pick_;                // of each unit, a candidate
  std::string methods_;
};

}  // namespace

TargetOutcome find_target(DumpReader& reader, const Recognition& recognition, const TargetOptions& target,
                          const KvzOptions& base, unsigned threads, bool quiet) {
  return TargetSearch(reader, recognition, target, base, threads, quiet).run();
}

}  // namespace kvzip::tool
