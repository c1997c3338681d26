// SPDX-License-Identifier: Apache-2.0
#include "src/tune/target.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <string>

#include "codec/fail.hpp"
#include "codec/number.hpp"
#include "formats/kvz/kvz_plan.hpp"
#include "src/report/report.hpp"
#include "src/tune/target_search.hpp"
#include "src/tune/target_trial.hpp"

namespace kvzip::tool {
namespace {

/// A goal's search on a dump, with what is the same for all goals.
class TargetSearch {
 public:
  TargetSearch(DumpReader& reader, const Recognition& recognition, const Goal& goal, const FidelityOptions& fidelity,
               const KvzOptions& base, unsigned threads, bool quiet, SaliencySource* saliency)
      : goal_(goal),
        base_(base),
        start_(std::chrono::steady_clock::now()),
        dump_{.input = {reader, recognition, base.chunk_tokens.value_or(kDefaultChunk), threads, saliency},
              .fidelity = fidelity,
              .quiet = quiet,
              .has_queries = has_queries(recognition, fidelity),
              .any_chunk = !base.chunk_tokens,
              .units = {},
              .transforms = {},
              .try_pipelines = [this](const std::vector<std::string>& pipelines) { return attempt(pipelines); }} {
    dump_.units = find_units(dump_.input);
    if (dump_.units.empty()) {
      fail(ErrorCode::invalid_argument, "it has no keys or values to give bits to; see 'kvzip inspect' and --map");
    }
    for (const TensorInfo& info : reader.dump().tensors) dump_.source_bytes += static_cast<double>(info.bytes());
    for (const Unit& unit : dump_.units) dump_.values += static_cast<double>(unit.values);
    if (goal.needs_queries() && !dump_.has_queries) {
      fail(ErrorCode::invalid_argument, "--target-attention needs queries: in the dump, or from --queries FILE");
    }
    results_.target = goal.name();
    results_.wanted = goal.wanted();
    results_.max_error = goal.bound();
    make_trials();
  }

  TargetOutcome run() {
    const Found found = goal_.search(dump_);
    TargetOutcome out{options_for(found.pipelines), found.met, {}};
    out.options.results->attention = found.trial.attention;
    if (auto& a = out.options.results->attention) {
      for (double* x : {&a->output_nrmse, &a->kl}) *x = as_long_as_in_trials(*x);
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    out.said = fmt::format("{} {:g}: reached {};{} {} trial{}, work of {:.1f} encodes in {:.1f} s", goal_.name(),
                           goal_.wanted(), goal_.reached(found.trial, dump_), found.methods, trials_->count(),
                           trials_->count() == 1 ? "" : "s", dump_.encodes + 1, seconds);
    return out;
  }

 private:
  static bool has_queries(const Recognition& recognition, const FidelityOptions& fidelity) {
    return !fidelity.queries.empty() || std::any_of(recognition.tensors.begin(), recognition.tensors.end(),
                                                    [](const TensorRole& t) { return t.role == Role::query; });
  }
  /// Queries that do not fit the cache stop what needs them; a size or an error can do without.
  void make_trials() {
    const CurveInput& in = dump_.input;
    const bool needed = goal_.needs_queries() || !dump_.fidelity.queries.empty();
    try {
      trials_.emplace(in.reader, in.recognition, dump_.has_queries ? &dump_.fidelity : nullptr, in.threads,
                      dump_.quiet);
    } catch (const Error& error) {
      if (needed || error.code() != ErrorCode::invalid_argument) throw;
      if (!dump_.quiet) note(fmt::format("queries are left out of account: {}", error.what()));
      dump_.has_queries = false;
      trials_.emplace(in.reader, in.recognition, nullptr, in.threads, dump_.quiet);
    }
    // The place of what is known at the end only, so that a trial is as long as the file.
    if (dump_.has_queries) results_.attention = {0.123456, 0.123456, 100000, 1000};
  }
  /// Six digits.
  static double as_long_as_in_trials(double x) {
    return std::isfinite(x) ? *parse_number<double>(fmt::format("{:.6g}", x)) : x;
  }

  KvzOptions options_for(const std::vector<std::string>& pipelines) const {
    KvzOptions options = base_;
    options.rules = rules_for(dump_.units, pipelines);
    options.chunk_tokens = dump_.input.chunk_tokens;
    if (dump_.input.saliency != nullptr) options.saliency = dump_.input.saliency->of(options.rules);
    fit_options(dump_.input.reader, dump_.input.recognition, options, dump_.input.threads);
    options.results = results_;
    return options;
  }
  Trial attempt(const std::vector<std::string>& pipelines) {
    dump_.encodes += 1;
    return trials_->run(options_for(pipelines), fmt::format("trial {}", trials_->count() + 1));
  }

  const Goal& goal_;
  const KvzOptions& base_;
  std::chrono::steady_clock::time_point start_;
  TargetDump dump_;
  std::optional<Trials> trials_;
  KvzResults results_;
};

}  // namespace

TargetOutcome find_target(DumpReader& reader, const Recognition& recognition, const Goal& goal,
                          const FidelityOptions& fidelity, const KvzOptions& base, unsigned threads, bool quiet,
                          SaliencySource* saliency) {
  return TargetSearch(reader, recognition, goal, fidelity, base, threads, quiet, saliency).run();
}

}  // namespace kvzip::tool
