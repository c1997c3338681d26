// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "src/measure/fidelity_fields.hpp"
#include "src/report/csv_fields.hpp"
#include "src/sweep/sweep_report.hpp"

namespace kvzip::tool {
namespace {

struct Line {
  const SweepDump& dump;
  const SettingResult& setting;
  const Measure& measure;
  const FidelitySummary& errors;
  std::string scope, layer, head;
  bool pareto = false;
};

std::string number(std::optional<std::uint64_t> value) {
  return value ? std::to_string(*value) : std::string();
}

/// Measures of attention stand with the ones first that people look at.
void put_outputs_first(CsvColumns& columns) {
  constexpr std::array<std::string_view, 5> kOrder{"_output_nrmse", "_output_cosine", "_kl", "_top_overlap",
                                                   "_logits_nrmse"};
  const auto place = [&](const CsvColumn& column) {
    const auto in = [&](std::string_view name) { return column.name.ends_with(name); };
    return std::find_if(kOrder.begin(), kOrder.end(), in) - kOrder.begin();
  };
  for (auto first = columns.begin(); first != columns.end(); ++first) {
    const std::string set = first->name.substr(0, first->name.find('_') + 1);
    if (first->name != set + "logits_nrmse") continue;
    std::sort(first, first + kOrder.size(), [&](const auto& a, const auto& b) { return place(a) < place(b); });
    first += kOrder.size() - 1;
  }
}

CsvColumns errors_of(const FidelitySummary& errors) {
  CsvColumns out = csv_columns(errors);
  put_outputs_first(out);
  return out;
}

std::string heading() {
  std::string out =
      "dump,scope,setting,family,kind,layer,head,measure,error,pareto,source_bytes,values,bytes,ratio,ratio_to_int8,"
      "bits_per_value";
  for (const std::string_view kind : kByteKinds) out += fmt::format(",{}_bytes", kind);
  out += ",key_bits,value_bits,encode_mbs,decode_mbs,peak_bytes,worst_layer";
  return out + csv_names(errors_of({})) + ",command,kvzip,machine\n";
}

std::string front_of(const Line& l) {
  return fmt::format("{},{},{},{},{},{},{},{},{},{}", csv_text(l.dump.path), l.scope, csv_text(l.setting.name),
                     csv_text(l.setting.family), l.setting.kind, l.layer, l.head, l.measure.id,
                     csv_number(l.measure.of(l.errors)), l.scope == "file" ? (l.pareto ? "1" : "0") : "");
}

std::string tail_of(const Sweep& sweep, const Line& l) {
  return fmt::format("{},{},{},{}\n", csv_cells(errors_of(l.errors)), csv_text(l.setting.command),
                     csv_text(sweep.version), csv_text(fmt::format("kvzip {} {}", sweep.version, sweep.machine)));
}

std::string file_line(const Sweep& sweep, const Line& l) {
  const SettingResult& s = l.setting;
  std::string out = front_of(l);
  out += fmt::format(",{},{},{},{},{},{}", l.dump.source_bytes, l.dump.values, s.file_bytes,
                     csv_number(ratio_of(l.dump.source_bytes, s.file_bytes)), csv_number(ratio_to_int8(l.dump, s)),
                     csv_number(bits_of(s.file_bytes, l.dump.values)));
  for (const std::uint64_t bytes : s.bytes) out += fmt::format(",{}", bytes);
  out += fmt::format(",,,{},{},{},{}", s.encode_mbs, s.decode_mbs, number(s.peak_bytes),
                     s.worst_layer ? std::to_string(*s.worst_layer) : "");
  return out + tail_of(sweep, l);
}

/// A layer's bytes are its frame records; what they hold is known of the file only.
std::string layer_line(const Sweep& sweep, const Line& l, const LayerResult& layer) {
  const std::uint64_t values = layer.key_values + layer.value_values, bytes = layer.key_bytes + layer.value_bytes;
  std::string out = front_of(l) + fmt::format(",,{},{},,,{}", values, bytes, csv_number(bits_of(bytes, values)));
  out += std::string(kByteKinds.size(), ',');
  out += fmt::format(",{},{},,,,", csv_number(bits_of(layer.key_bytes, layer.key_values)),
                     csv_number(bits_of(layer.value_bytes, layer.value_values)));
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
