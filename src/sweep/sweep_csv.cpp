// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cmath>

#include "src/sweep/sweep_report.hpp"

namespace kvzip::tool {
namespace {

using Value = std::optional<double>;

struct Line {
  const SweepDump& dump;
  const SettingResult& setting;
  const Measure& measure;
  const FidelitySummary& errors;
  std::string scope, layer, head;
  bool pareto = false;
};

/// Numbers as spreadsheets read them; nothing where there is none.
std::string number(Value value) {
  if (!value || std::isnan(*value)) return {};
  return std::isinf(*value) ? (*value > 0 ? "inf" : "-inf") : fmt::format("{}", *value);
}

std::string number(std::optional<std::uint64_t> value) {
  return value ? std::to_string(*value) : std::string();
}

constexpr std::pair<std::string_view, double ValueFigures::*> kValueFigures[] = {
    {"max_abs", &ValueFigures::max_abs},
    {"nrmse", &ValueFigures::nrmse},
    {"snr_db", &ValueFigures::snr_db},
    {"cosine_min", &ValueFigures::cosine_min},
    {"cosine_mean", &ValueFigures::cosine_mean}};
constexpr std::pair<std::string_view, double AttentionFigures::*> kAttentionFigures[] = {
    {"output_nrmse", &AttentionFigures::output_nrmse},
    {"output_cosine", &AttentionFigures::output_cosine},
    {"kl", &AttentionFigures::kl},
    {"top_overlap", &AttentionFigures::top_overlap},
    {"logits_nrmse", &AttentionFigures::logits_nrmse}};
constexpr std::pair<std::string_view, std::optional<ValueFigures> FidelitySummary::*> kRoles[] = {
    {"key", &FidelitySummary::key}, {"value", &FidelitySummary::value}};
constexpr std::pair<std::string_view, std::optional<AttentionFigures> FidelitySummary::*> kAttentions[] = {
    {"attention", &FidelitySummary::attention},
    {"attention2", &FidelitySummary::attention2},
    {"proxy", &FidelitySummary::proxy}};

std::string heading() {
  std::string out =
      "dump,scope,setting,family,kind,layer,head,measure,error,pareto,source_bytes,values,bytes,ratio,ratio_to_int8,"
      "bits_per_value";
  for (const std::string_view kind : kByteKinds) out += fmt::format(",{}_bytes", kind);
  out += ",key_bits,value_bits,encode_mbs,decode_mbs,peak_bytes,worst_layer";
  for (const auto& [role, unused] : kRoles) {
    out += fmt::format(",{0}_values,{0}_nonfinite_mismatches", role);
    for (const auto& [name, figure] : kValueFigures) out += fmt::format(",{}_{}", role, name);
  }
  for (const auto& [set, unused] : kAttentions) {
    for (const auto& [name, figure] : kAttentionFigures) out += fmt::format(",{}_{}", set, name);
  }
  return out + ",proxy_pair_nrmse,command,kvzip,machine\n";
}

std::string errors_of(const FidelitySummary& errors) {
  std::string out;
  for (const auto& [role, member] : kRoles) {
    const auto& f = errors.*member;
    out += fmt::format(",{},{}", f ? std::to_string(f->values) : "", f ? std::to_string(f->nonfinite_mismatches) : "");
    for (const auto& [name, figure] : kValueFigures) out += "," + number(f ? Value((*f).*figure) : Value());
  }
  for (const auto& [set, member] : kAttentions) {
    const auto& f = errors.*member;
    for (const auto& [name, figure] : kAttentionFigures) out += "," + number(f ? Value((*f).*figure) : Value());
  }
  return out + "," + number(errors.pair_nrmse);
}

std::string front_of(const Line& l) {
  return fmt::format("{},{},{},{},{},{},{},{},{},{}", csv_text(l.dump.path), l.scope, csv_text(l.setting.name),
                     csv_text(l.setting.family), l.setting.kind, l.layer, l.head, l.measure.id,
                     number(l.measure.of(l.errors)), l.scope == "file" ? (l.pareto ? "1" : "0") : "");
}

std::string tail_of(const Sweep& sweep, const Line& l) {
  return fmt::format("{},{},{},{}\n", errors_of(l.errors), csv_text(l.setting.command), csv_text(sweep.version),
                     csv_text(fmt::format("kvzip {} {}", sweep.version, sweep.machine)));
}

std::string file_line(const Sweep& sweep, const Line& l) {
  const SettingResult& s = l.setting;
  std::string out = front_of(l);
  out += fmt::format(",{},{},{},{},{},{}", l.dump.source_bytes, l.dump.values, s.file_bytes,
                     number(ratio_of(l.dump.source_bytes, s.file_bytes)), number(ratio_to_int8(l.dump, s)),
                     number(bits_of(s.file_bytes, l.dump.values)));
  for (const std::uint64_t bytes : s.bytes) out += fmt::format(",{}", bytes);
  out += fmt::format(",,,{},{},{},{}", s.encode_mbs, s.decode_mbs, number(s.peak_bytes),
                     s.worst_layer ? std::to_string(*s.worst_layer) : "");
  return out + tail_of(sweep, l);
}

/// A layer's bytes are its frame records; what they hold is known of the file only.
std::string layer_line(const Sweep& sweep, const Line& l, const LayerResult& layer) {
  const std::uint64_t values = layer.key_values + layer.value_values, bytes = layer.key_bytes + layer.value_bytes;
  std::string out = front_of(l) + fmt::format(",,{},{},,,{}", values, bytes, number(bits_of(bytes, values)));
  out += std::string(kByteKinds.size(), ',');
  out += fmt::format(",{},{},,,,", number(bits_of(layer.key_bytes, layer.key_values)),
                     number(bits_of(layer.value_bytes, layer.value_values)));
  return out + tail_of(sweep, l);
}

std::string head_line(const Sweep& sweep, const Line& l) {
  return front_of(l) + std::string(12 + kByteKinds.size(), ',') + tail_of(sweep, l);
}

std::string setting_lines(const Sweep& sweep, const SweepDump& dump, const SettingResult& setting,
                          const Measure& measure, bool pareto) {
  std::string out = file_line(sweep, {dump, setting, measure, setting.all, "file", "", "", pareto});
  for (const LayerResult& layer : setting.layers) {
    const std::string number = std::to_string(layer.layer);
    out += layer_line(sweep, {dump, setting, measure, layer.all, "layer", number, "", false}, layer);
    for (std::size_t h = 0; h < layer.heads.size(); ++h) {
      out += head_line(sweep, {dump, setting, measure, layer.heads[h], "head", number, std::to_string(h), false});
    }
  }
  return out;
}

}  // namespace

std::string sweep_csv(const Sweep& sweep, const Measure& measure) {
  std::string out = heading();
  for (const SweepDump& dump : sweep.dumps) {
    const std::vector<bool> front = pareto_front(dump, measure);
    for (const std::size_t i : by_bytes(dump)) {
      out += setting_lines(sweep, dump, dump.settings[i], measure, front[i]);
    }
  }
  return out;
}

}  // namespace kvzip::tool
