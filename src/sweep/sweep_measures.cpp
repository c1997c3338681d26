// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "codec/fail.hpp"
#include "codec/nearest.hpp"
#include "src/sweep/sweep.hpp"

namespace kvzip::tool {
namespace {

using Summary = FidelitySummary;
using Value = std::optional<double>;

template <auto kSet, auto kFigure>
Value figure_of(const Summary& s) {
  return s.*kSet ? Value(*(s.*kSet).*kFigure) : Value();
}

/// Of one role alone where the other was not decoded.
Value both_nrmse(const Summary& s) {
  if (!s.key || !s.value) return s.key ? Value(s.key->nrmse) : s.value ? Value(s.value->nrmse) : Value();
  return std::sqrt((s.key->nrmse * s.key->nrmse + s.value->nrmse * s.value->nrmse) / 2);
}

constexpr Measure kMeasures[] = {
    {"attention", "attention output nrmse", figure_of<&Summary::attention, &AttentionFigures::output_nrmse>},
    {"kl", "KL of attention (nats)", figure_of<&Summary::attention, &AttentionFigures::kl>},
    {"logits", "attention logits nrmse", figure_of<&Summary::attention, &AttentionFigures::logits_nrmse>},
    {"attention2", "attention output nrmse, second queries",
     figure_of<&Summary::attention2, &AttentionFigures::output_nrmse>},
    {"kl2", "KL of attention (nats), second queries", figure_of<&Summary::attention2, &AttentionFigures::kl>},
    {"proxy", "proxy: attention output nrmse, keys as queries",
     figure_of<&Summary::proxy, &AttentionFigures::output_nrmse>},
    {"pair", "proxy: nrmse weighted by energy of rotary pairs", [](const Summary& s) { return s.pair_nrmse; }},
    {"nrmse", "nrmse of keys and values", both_nrmse},
    {"k-nrmse", "nrmse of keys", figure_of<&Summary::key, &ValueFigures::nrmse>},
    {"v-nrmse", "nrmse of values", figure_of<&Summary::value, &ValueFigures::nrmse>}};

bool has(const SweepDump& dump, const Measure& measure) {
  return std::any_of(dump.settings.begin(), dump.settings.end(),
                     [&](const SettingResult& s) { return measure.of(s.all).has_value(); });
}

bool any_has(const Sweep& sweep, const Measure& measure) {
  return std::any_of(sweep.dumps.begin(), sweep.dumps.end(), [&](const SweepDump& d) { return has(d, measure); });
}

/// One that all dumps have before one that some have.
const Measure& default_measure(const Sweep& sweep) {
  for (const Measure& m : kMeasures) {
    const auto one = [&](const SweepDump& d) { return d.settings.empty() || has(d, m); };
    if (any_has(sweep, m) && std::all_of(sweep.dumps.begin(), sweep.dumps.end(), one)) return m;
  }
  for (const Measure& m : kMeasures) {
    if (any_has(sweep, m)) return m;
  }
  return kMeasures[0];
}

std::string names_of(const Sweep* sweep) {
  std::string out;
  for (const Measure& m : kMeasures) {
    if (sweep != nullptr && !any_has(*sweep, m)) continue;
    out += fmt::format("{}{}", out.empty() ? "" : ", ", m.id);
  }
  return out;
}

}  // namespace

std::span<const Measure> measures() {
  return kMeasures;
}

const Measure& find_measure(std::string_view id, const Sweep& sweep) {
  if (id.empty()) return default_measure(sweep);
  const auto found =
      std::find_if(std::begin(kMeasures), std::end(kMeasures), [&](const Measure& m) { return m.id == id; });
  if (found == std::end(kMeasures)) {
    std::vector<std::string_view> known;
    for (const Measure& m : kMeasures) known.push_back(m.id);
    fail(ErrorCode::invalid_argument, "there is no measure '{}'{}; there are {}", id, did_you_mean(id, known),
         names_of(nullptr));
  }
  // Before anything was measured only the name can be judged.
  const bool measured =
      std::any_of(sweep.dumps.begin(), sweep.dumps.end(), [](const SweepDump& d) { return !d.settings.empty(); });
  if (measured && !any_has(sweep, *found)) {
    fail(ErrorCode::invalid_argument, "no setting has the measure '{}'; there are {}", id, names_of(&sweep));
  }
  return *found;
}

std::vector<bool> pareto_front(const SweepDump& dump, const Measure& measure) {
  const auto& rows = dump.settings;
  std::vector<Value> errors;
  for (const SettingResult& row : rows) errors.push_back(measure.of(row.all));
  std::vector<bool> front(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (!errors[i] || std::isnan(*errors[i])) continue;
    bool beaten = false;
    for (std::size_t j = 0; j < rows.size() && !beaten; ++j) {
      if (!errors[j]) continue;
      const bool no_worse = rows[j].file_bytes <= rows[i].file_bytes && *errors[j] <= *errors[i];
      beaten = no_worse && (rows[j].file_bytes < rows[i].file_bytes || *errors[j] < *errors[i]);
    }
    front[i] = !beaten;
  }
  return front;
}

}  // namespace kvzip::tool
