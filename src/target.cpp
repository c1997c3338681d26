// SPDX-License-Identifier: Apache-2.0
// One search for all targets. Curves are measured once; an allocation gives every unit a rung of the ladder; then a
// factor common to the steps is adjusted on whole containers until the target is met.
#include "target.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>

#include "allocate.hpp"
#include "formats/file.hpp"
#include "formats/kvz_plan.hpp"
#include "kvzip/error.hpp"
#include "report.hpp"
#include "target_ladder.hpp"

namespace kvzip::tool {
namespace {

constexpr double kTolerance = 0.01, kAim = 0.996;
constexpr int kTrials = 7;
constexpr std::uint64_t kWholeCurves = std::uint64_t{64} << 20;  // bytes of tiles up to which all of them are sampled
constexpr double kLeastShare = 1.0 / 8;
constexpr std::size_t kAttentionRungs = 4;       // every fourth rung is measured with queries
constexpr std::uint32_t kAttentionQueries = 64;  // a head, while searching

/// What a whole container measures.
struct Trial {
  double file_bytes = 0, unit_bytes = 0;  // unit_bytes: the file without frames of other tensors
  double nrmse[2] = {0, 0};               // of keys, of values
  double attention = 0, kl = 0;
  std::uint64_t split = 0, queries = 0;
  std::uint64_t raw_frames = 0;
};

/// One number that a factor on some units' steps is to bring to its limit.
struct Control {
  std::function<bool(const Unit&)> moves;
  std::function<double(const Trial&)> value;
  double limit = 0;
  double slope = 1;  // of log2(value) along log2(factor); re-estimated from trials
  double log_factor = 0;
  std::optional<double> last_log, last_value;
  std::optional<double> within, beyond;  // log2 factors known to be within and beyond the limit
};

class TargetSearch {
 public:
  TargetSearch(DumpReader& reader, const Recognition& recognition, const TargetOptions& target, const KvzOptions& base,
               unsigned threads, bool quiet)
      : input_{reader, recognition, base.chunk_tokens.value_or(kDefaultChunk), threads},
        target_(target),
        base_(base),
        quiet_(quiet),
        start_(std::chrono::steady_clock::now()) {
    for (const TensorInfo& info : reader.dump().tensors) source_bytes_ += static_cast<double>(info.bytes());
    units_ = find_units(input_);
    if (units_.empty()) {
      fail(ErrorCode::invalid_argument, "it has no keys or values to give bits to; see 'kvzip inspect' and --map");
    }
    std::uint64_t bytes = 0;
    for (const Unit& unit : units_) bytes += unit.source_bytes, values_ += static_cast<double>(unit.values);
    share_ = bytes <= kWholeCurves
                 ? 1
                 : std::max(kLeastShare, static_cast<double>(kWholeCurves) / static_cast<double>(bytes));
    has_queries_ =
        !target.fidelity.queries.empty() || std::any_of(recognition.tensors.begin(), recognition.tensors.end(),
                                                        [](const TensorRole& t) { return t.role == Role::query; });
    if (target.attention && !has_queries_) {
      fail(ErrorCode::invalid_argument, "--target-attention needs queries: in the dump, or from --queries FILE");
    }
  }

  TargetOutcome run() {
    transforms_ = choose_transforms(input_, units_, std::min(share_, 0.25));
    encodes_ += 4 * std::min(share_, 0.25);
    return target_.max_error ? run_bound(*target_.max_error) : run_ladder();
  }

 private:
  // ---- rules ----

  RuleSet rules_for(const std::vector<std::string>& pipelines) const {
    RuleSet rules;
    rules.name = "target";
    rules.chunk_tokens = base_.chunk_tokens;
    for (std::size_t u = 0; u < units_.size(); ++u) {
      Rule rule;
      rule.role = units_[u].role;
      rule.any_layer = false;
      rule.from = rule.to = units_[u].layer;
      rule.pipeline = canonical_pipeline(pipelines[u]);
      rules.rules.push_back(std::move(rule));
    }
    Rule query;
    query.role = Role::query;
    query.pipeline = canonical_pipeline(kLosslessPipeline);
    rules.rules.push_back(std::move(query));
    return rules;
  }

  KvzOptions options_for(const std::vector<std::string>& pipelines) const {
    KvzOptions options = base_;
    options.rules = rules_for(pipelines);
    options.results = wanted_;
    return options;
  }

  // ---- trials ----

  FidelityMeter& meter() {
    if (!meter_) {
      FidelityOptions options = target_.fidelity;
      options.threads = input_.threads;
      options.proxies = false;
      meter_.emplace(input_.reader, input_.recognition, options);
    }
    return *meter_;
  }

  std::unique_ptr<KvzReader> write(const TemporaryFile& file, const KvzOptions& options, const std::string& label) {
    ProgressLine line(label, !quiet_);
    const auto writer = create_kvz_writer(file.path(), input_.reader.dump(), input_.recognition, options, true);
    transcode(input_.reader, *writer, input_.threads, line.callback());
    writer->finish();
    encodes_ += 1;
    return open_kvz(file.path());
  }

  Trial try_pipelines(const std::vector<std::string>& pipelines) {
    const TemporaryFile file(temporary_directory() + "/target.kvz");
    const auto reader = write(file, options_for(pipelines), fmt::format("trial {}", ++trials_));
    const KvzSummary summary = reader->summary();
    Trial out;
    out.file_bytes = out.unit_bytes = static_cast<double>(summary.file_bytes);
    for (const KvzGroup& group : summary.groups) {
      const bool unit = group.layer && (group.role == Role::key || group.role == Role::value);
      if (!unit) out.unit_bytes -= static_cast<double>(group.coded_bytes);
      if (unit) out.raw_frames += group.raw_frames;
    }
    for (const KvzResults::Errors& e : summary.results->errors) out.nrmse[e.role == Role::value] = e.nrmse;
    if (has_queries_) {
      ProgressLine line("attention", !quiet_);
      const Fidelity fidelity = meter().measure(*reader, line.callback());
      if (fidelity.all.attention) {
        out.attention = fidelity.all.attention->output_nrmse;
        out.kl = fidelity.all.attention->kl;
        out.split = fidelity.split;
        out.queries = fidelity.queries;
      }
    }
    return out;
  }

  // ---- curves ----

  std::string candidate(std::size_t u, std::size_t c) const {
    if (c == kLossless) return std::string(kLosslessPipeline);
    return ladder_pipeline(transforms_.of(units_[u].role), rung_step(units_[u], static_cast<double>(c)),
                           Points::centroid);
  }

  void measure_ladder() {
    ProgressLine line("curves", !quiet_);
    curves_ = measure_curves(
        input_, units_, kRungs + 1, [&](std::size_t u, std::size_t c) { return candidate(u, c); }, share_,
        line.callback());
    encodes_ += static_cast<double>(kRungs + 1) * share_;
    for (auto& curve : curves_) curve[kLossless].squared_error = 0;
  }

  /// distortion_[u][c]: what unit u adds to the sum that is to be kept small.
  void find_distortions() {
    distortion_.assign(units_.size(), std::vector<double>(kRungs + 1));
    if (target_.attention || ((target_.ratio || target_.bits) && has_queries_)) return attention_distortions();
    for (std::size_t u = 0; u < units_.size(); ++u) {
      // For an error of all keys the errors themselves count; else every layer's relative error counts alike, because
      // layers differ in scale by what the next one makes up for.
      const double scale = target_.nrmse ? 1 : units_[u].energy;
      for (std::size_t c = 0; c <= kRungs; ++c) {
        distortion_[u][c] = scale > 0 ? curves_[u][c].squared_error / scale : 0;
      }
    }
  }

  /// The squared output error of attention, summed over heads, when this unit alone is decoded. Measured on every few
  /// rungs, and between them along the unit's own squared error.
  void attention_distortions() {
    std::vector<std::size_t> rungs;
    for (std::size_t c = 0; c < kRungs; c += kAttentionRungs) rungs.push_back(c);
    if (rungs.back() != kRungs - 1) rungs.push_back(kRungs - 1);
    FidelityOptions options = target_.fidelity;
    options.threads = input_.threads;
    options.proxies = false;
    options.queries_per_head =
        options.queries_per_head == 0 ? kAttentionQueries : std::min(options.queries_per_head, kAttentionQueries);
    std::vector<std::vector<double>> measured(units_.size());
    for (const Role role : {Role::key, Role::value}) {
      FidelityOptions one = options;
      one.decoded_keys = role == Role::key;
      one.decoded_values = role == Role::value;
      meters_of_roles_[role == Role::value].emplace(input_.reader, input_.recognition, one);
    }
    for (const std::size_t c : rungs) {
      const TemporaryFile file(temporary_directory() + "/target.kvz");
      std::vector<std::string> pipelines;
      for (std::size_t u = 0; u < units_.size(); ++u) pipelines.push_back(candidate(u, c));
      KvzOptions coded = base_;
      coded.rules = rules_for(pipelines);
      const auto reader = write(file, coded, fmt::format("attention {} of {}", &c - rungs.data() + 1, rungs.size()));
      for (const Role role : {Role::key, Role::value}) {
        const Fidelity fidelity = meters_of_roles_[role == Role::value]->measure(*reader);
        heads_ = measured_heads(fidelity);
        for (std::size_t u = 0; u < units_.size(); ++u) {
          if (units_[u].role == role) measured[u].push_back(layer_error(fidelity, units_[u].layer));
        }
      }
    }
    for (std::size_t u = 0; u < units_.size(); ++u) {
      for (std::size_t c = 0; c < kRungs; ++c) distortion_[u][c] = between(u, c, rungs, measured[u]);
    }
  }

  static double measured_heads(const Fidelity& fidelity) {
    double heads = 0;
    for (const LayerFidelity& layer : fidelity.layers) {
      for (const HeadFidelity& head : layer.heads) heads += head.attention ? 1 : 0;
    }
    return heads;
  }

  static double layer_error(const Fidelity& fidelity, std::uint32_t layer) {
    double sum = 0;
    for (const LayerFidelity& one : fidelity.layers) {
      if (one.layer != layer) continue;
      for (const HeadFidelity& head : one.heads) {
        if (!head.attention) continue;
        const double nrmse = head.attention->output_nrmse();
        sum += std::isfinite(nrmse) ? nrmse * nrmse : 1;
      }
    }
    return sum;
  }

  /// Straight lines in the logarithms of a unit's squared error and of its attention's.
  double between(std::size_t u, std::size_t c, const std::vector<std::size_t>& rungs,
                 const std::vector<double>& measured) const {
    const auto after = std::lower_bound(rungs.begin(), rungs.end(), c);
    const auto hi = static_cast<std::size_t>(after - rungs.begin());
    if (rungs[hi] == c || hi == 0) return measured[hi];
    const double a = curves_[u][rungs[hi - 1]].squared_error, b = curves_[u][rungs[hi]].squared_error;
    const double x = curves_[u][c].squared_error, from = measured[hi - 1], to = measured[hi];
    if (!(a > 0) || !(b > a) || !(x > 0) || !(from > 0) || !(to > 0)) return std::max(from, to);
    const double t = std::clamp(std::log(x / a) / std::log(b / a), 0.0, 1.0);
    return std::exp(std::log(from) + t * std::log(to / from));
  }

  // ---- allocation ----

  /// Least bytes within an error, or least error within bytes, over some units; the better of the two methods.
  void allocate(const std::function<bool(const Unit&)>& moves, bool bytes_are_limited, double limit) {
    std::vector<Choices> choices;
    std::vector<std::size_t> which;
    for (std::size_t u = 0; u < units_.size(); ++u) {
      if (!moves(units_[u])) continue;
      which.push_back(u);
      Choices& of_unit = choices.emplace_back();
      for (std::size_t c = 0; c <= kRungs; ++c) {
        const double bytes = curves_[u][c].bytes, error = distortion_[u][c];
        of_unit.push_back(bytes_are_limited ? Choice{error, bytes} : Choice{bytes, error});
      }
    }
    const auto uniform = uniform_default(choices, limit);
    const auto dynamic = allocate_lgreco(choices, limit, uniform);
    const auto hull = allocate_lagrangian(choices, limit);
    if (!dynamic || !hull) {  // out of reach: the lightest there is
      for (const std::size_t u : which) pick_[u] = bytes_are_limited ? kRungs - 1 : kLossless;
      return;
    }
    const Allocation& best = dynamic->cost <= hull->cost ? *dynamic : *hull;
    for (std::size_t i = 0; i < which.size(); ++i) pick_[which[i]] = best.pick[i];
    const double base = sum_of(choices, uniform).cost;
    methods_ +=
        fmt::format("{}L-GreCo {:.4g}, Lagrangian {:.4g}, one rung for all {:.4g} {}", methods_.empty() ? "" : "; ",
                    dynamic->cost, hull->cost, base, bytes_are_limited ? "squared error" : "bytes");
  }

  /// The same rung for all units: the cheapest one within the limit, else the lightest.
  static std::vector<std::size_t> uniform_default(const std::vector<Choices>& choices, double limit) {
    std::vector<std::size_t> best;
    double cost = 0;
    for (std::size_t c = 0; c <= kRungs; ++c) {
      const Allocation sum = sum_of(choices, std::vector<std::size_t>(choices.size(), c));
      if (sum.weight <= limit && (best.empty() || sum.cost < cost)) best = sum.pick, cost = sum.cost;
    }
    return best.empty() ? std::vector<std::size_t>(choices.size(), kLossless) : best;
  }

  // ---- the search on whole containers ----

  std::vector<Control> make_controls() {
    const auto all = [](const Unit&) { return true; };
    std::vector<Control> out;
    if (target_.ratio || target_.bits) {
      Control c;
      c.moves = all;
      if (target_.ratio) {
        c.limit = source_bytes_ / *target_.ratio;
        c.value = [](const Trial& t) { return t.file_bytes; };
      } else {
        c.limit = *target_.bits * values_ / 8;
        c.value = [](const Trial& t) { return t.unit_bytes; };
      }
      // A step twice as wide saves a bit of a value.
      c.slope = -values_ / 8 / c.limit / std::log(2.0);
      out.push_back(c);
    } else if (target_.nrmse) {
      for (const Role role : {Role::key, Role::value}) {
        if (std::none_of(units_.begin(), units_.end(), [&](const Unit& u) { return u.role == role; })) continue;
        Control c;
        c.moves = [role](const Unit& u) { return u.role == role; };
        c.limit = *target_.nrmse;
        c.value = [role](const Trial& t) { return t.nrmse[role == Role::value]; };
        out.push_back(c);
      }
    } else {
      Control c;
      c.moves = all;
      c.limit = *target_.attention;
      c.value = [](const Trial& t) { return t.attention; };
      out.push_back(c);
    }
    return out;
  }

  void first_allocation(const std::vector<Control>& controls) {
    pick_.assign(units_.size(), kLossless);
    for (const Control& control : controls) {
      if (target_.ratio || target_.bits) {
        double limit = control.limit;
        if (target_.ratio) limit -= other_bytes();
        allocate(control.moves, true, limit);
      } else if (target_.nrmse) {
        double energy = 0;
        for (const Unit& unit : units_) energy += control.moves(unit) ? unit.energy : 0;
        allocate(control.moves, false, control.limit * control.limit * energy);
      } else {
        allocate(control.moves, false, control.limit * control.limit * heads_);
      }
    }
  }

  /// Bytes of the container that are not frames of units: from a container in which these are as short as can be.
  double other_bytes() {
    std::vector<std::string> pipelines;
    for (std::size_t u = 0; u < units_.size(); ++u) pipelines.push_back(candidate(u, kRungs - 1));
    const TemporaryFile file(temporary_directory() + "/target.kvz");
    const KvzSummary summary = write(file, options_for(pipelines), "other tensors")->summary();
    double bytes = static_cast<double>(summary.file_bytes);
    for (const KvzGroup& group : summary.groups) {
      if (group.layer && (group.role == Role::key || group.role == Role::value))
        bytes -= static_cast<double>(group.coded_bytes);
    }
    return bytes;
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
      const double step = stated_step(rung_step(units_[u], static_cast<double>(pick_[u])) * std::exp2(factor));
      out.push_back(ladder_pipeline(transforms_.of(units_[u].role), step, Points::centroid));
    }
    return out;
  }

  /// Where a control stands against its limit: above 1 is beyond it.
  static double share_of(const Control& control, const Trial& trial) {
    return control.limit > 0 ? control.value(trial) / control.limit : (control.value(trial) > 0 ? 2 : 0);
  }

  /// The next factor: a secant through the last two trials, kept between what is known to be within and beyond.
  static void move(Control& control, double value) {
    const double at = control.log_factor, log_value = std::log2(std::max(value, 1e-300));
    const bool within = value <= control.limit;
    (within ? control.within : control.beyond) = at;
    if (control.last_log && std::fabs(at - *control.last_log) > 1e-6) {
      const double slope = (log_value - *control.last_value) / (at - *control.last_log);
      if (slope * control.slope > 0) control.slope = slope;
    }
    control.last_log = at, control.last_value = log_value;
    const double wanted = std::log2(control.limit * kAim);
    double next = at + std::clamp((wanted - log_value) / control.slope, -3.0, 3.0);
    if (control.within && control.beyond) {
      const double low = std::min(*control.within, *control.beyond), high = std::max(*control.within, *control.beyond);
      const double room = (high - low) * 0.02;
      if (next <= low + room || next >= high - room) next = (low + high) / 2;
    }
    control.log_factor = next;
  }

  TargetOutcome run_ladder() {
    wanted_.target = target_.ratio ? "ratio" : target_.bits ? "bits" : target_.nrmse ? "nrmse" : "attention";
    wanted_.wanted = target_.ratio   ? *target_.ratio
                     : target_.bits  ? *target_.bits
                     : target_.nrmse ? *target_.nrmse
                                     : *target_.attention;
    measure_ladder();
    find_distortions();
    std::vector<Control> controls = make_controls();
    first_allocation(controls);
    struct Tried {
      std::vector<std::string> pipelines;
      Trial trial;
      double worst = 0, closest = 0;  // shares of the limits
    };
    std::optional<Tried> best;
    for (int i = 0; i < kTrials; ++i) {
      Tried now{pipelines_of(controls), {}, 0, 1};
      now.trial = try_pipelines(now.pipelines);
      for (const Control& control : controls) {
        const double share = share_of(control, now.trial);
        now.worst = std::max(now.worst, share);
        now.closest = std::min(now.closest, share);
      }
      // Within the limits the fullest use of them is best; beyond them the least excess.
      const auto rank = [](const Tried& t) { return t.worst <= 1 ? t.closest : 1 - t.worst; };
      const bool done = now.worst <= 1 && now.closest >= 1 - kTolerance;
      const bool stuck = std::all_of(pick_.begin(), pick_.end(), [](std::size_t p) { return p == kLossless; });
      const Trial trial = now.trial;
      if (!best || rank(now) > rank(*best)) best = std::move(now);
      if (done || stuck) break;
      bool moved = false;
      for (Control& control : controls) {
        const double share = share_of(control, trial), before = control.log_factor;
        if (share > 1 || share < 1 - kTolerance) move(control, control.value(trial));
        moved |= control.log_factor != before;
      }
      if (!moved) break;
    }
    return outcome(best->pipelines, best->trial, best->worst <= 1 + kTolerance);
  }

  // ---- a certified bound ----

  TargetOutcome run_bound(double bound) {
    wanted_.target = "max-error";
    wanted_.wanted = bound;
    wanted_.max_error = bound;
    // The widest step is twice the bound; rounding to the dump's type can ask for a narrower one.
    constexpr double kFractions[] = {1, 0.97, 0.9, 0.75, 0.5, 0.25};
    constexpr std::size_t kCount = std::size(kFractions);
    const auto text = [&](std::size_t u, std::size_t c) {
      const std::string& transform = transforms_.of(units_[u].role);
      if (c < kCount) return ladder_pipeline(transform, stated_step(2 * bound * kFractions[c]), Points::middle);
      if (c < 2 * kCount) return ladder_pipeline("", stated_step(2 * bound * kFractions[c - kCount]), Points::middle);
      return std::string(kLosslessPipeline);
    };
    std::vector<std::string> pipelines(units_.size(), std::string(kLosslessPipeline));
    if (bound > 0) {
      ProgressLine line("curves", !quiet_);
      const auto points = measure_curves(input_, units_, 2 * kCount + 1, text, 1, line.callback());
      encodes_ += 2 * kCount + 1;
      for (std::size_t u = 0; u < units_.size(); ++u) {
        double least = points[u][2 * kCount].bytes;
        for (std::size_t c = 0; c < 2 * kCount; ++c) {
          if (points[u][c].max_abs > bound || points[u][c].bytes >= least) continue;
          least = points[u][c].bytes;
          pipelines[u] = text(u, c);
        }
      }
    }
    return outcome(pipelines, try_pipelines(pipelines), true);
  }

  // ---- the end ----

  TargetOutcome outcome(const std::vector<std::string>& pipelines, const Trial& trial, bool met) {
    TargetOutcome out;
    out.options = options_for(pipelines);
    if (has_queries_) out.options.results->attention = {trial.attention, trial.kl, trial.split, trial.queries};
    out.met = met;
    const std::string reached =
        target_.ratio       ? fmt::format("{:.4g}", source_bytes_ / trial.file_bytes)
        : target_.bits      ? fmt::format("{:.4g}", trial.unit_bytes * 8 / values_)
        : target_.nrmse     ? fmt::format("keys {:.4g}, values {:.4g}", trial.nrmse[0], trial.nrmse[1])
        : target_.attention ? fmt::format("{:.4g}", trial.attention)
                            : fmt::format("every value checked, {} tiles stored as they are", trial.raw_frames);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    out.said = fmt::format("{} {:g}: reached {}; {}{:.1f} encodes' work, {:.1f} s", wanted_.target, wanted_.wanted,
                           reached, methods_.empty() ? "" : methods_ + "; ", encodes_, seconds);
    return out;
  }

  CurveInput input_;
  const TargetOptions& target_;
  const KvzOptions& base_;
  bool quiet_;
  std::chrono::steady_clock::time_point start_;
  double source_bytes_ = 0, values_ = 0, share_ = 1, encodes_ = 0, heads_ = 0;
  bool has_queries_ = false;
  int trials_ = 0;
  std::vector<Unit> units_;
  Transforms transforms_;
  std::vector<std::vector<Point>> curves_;
  std::vector<std::vector<double>> distortion_;
  std::vector<std::size_t> pick_;
  std::string methods_;
  KvzResults wanted_;
  std::optional<FidelityMeter> meter_;
  std::optional<FidelityMeter> meters_of_roles_[2];
};

}  // namespace

void add_targets(CLI::App& app, TargetOptions& options) {
  const auto add = [&](const char* name, std::optional<double>& value, const char* text) {
    app.add_option(name, value, text)->option_text("X")->check(CLI::Range(0.0, 1e12));
  };
  add("--target-ratio", options.ratio, "find the setting that makes the file X times smaller");
  add("--target-bits", options.bits, "... that takes X bits a value of K and V");
  add("--target-nrmse", options.nrmse, "... with the error X of keys and of values");
  add("--target-attention", options.attention, "... with the error X of attention outputs");
  add("--max-error", options.max_error, "... with every value within X of its original,\nchecked and stored");
  add_fidelity(app, options.fidelity);
}

TargetOutcome find_target(DumpReader& reader, const Recognition& recognition, const TargetOptions& target,
                          const KvzOptions& base, unsigned threads, bool quiet) {
  return TargetSearch(reader, recognition, target, base, threads, quiet).run();
}

}  // namespace kvzip::tool
