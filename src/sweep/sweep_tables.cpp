// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "src/sweep/sweep_report.hpp"

namespace kvzip::tool {
namespace {

using Cells = std::vector<std::string>;
using Value = std::optional<double>;

std::string fixed(Value value, int digits) {
  return value ? fmt::format("{:.{}f}", *value, digits) : "-";
}

std::string error_cell(Value value) {
  if (!value) return "-";
  return *value == 0 ? "0" : fmt::format("{:.3g}", *value);
}

std::string speed_cell(double mbs) {
  return mbs > 0 ? fmt::format("{:.{}f}", mbs, mbs < 9.95 ? 1 : 0) : "-";
}

std::string snr_cell(const std::optional<ValueFigures>& figures) {
  if (!figures) return "-";
  return std::isfinite(figures->snr_db) ? fmt::format("{:.1f}", figures->snr_db) : figures->nrmse == 0 ? "exact" : "-";
}

template <typename T>
Value figure(const std::optional<T>& figures, double T::*member) {
  return figures ? Value((*figures).*member) : Value();
}

bool any(const SweepDump& dump, auto of) {
  return std::any_of(dump.settings.begin(), dump.settings.end(),
                     [&](const SettingResult& s) { return of(s.all).has_value(); });
}
bool has_attention(const SweepDump& dump) {
  return any(dump, [](const FidelitySummary& s) { return s.attention; });
}
bool has_second(const SweepDump& dump) {
  return any(dump, [](const FidelitySummary& s) { return s.attention2; });
}
bool has_proxy(const SweepDump& dump) {
  return any(dump, [](const FidelitySummary& s) { return s.proxy; }) ||
         any(dump, [](const FidelitySummary& s) { return s.pair_nrmse; });
}

/// Without the measure there is no front to tell of.
std::string summary_title(const SweepDump& dump, const Measure& measure) {
  if (any(dump, measure.of)) {
    return fmt::format("Rate, error and speed; * = Pareto-optimal in bytes and {}", measure.label);
  }
  const auto all = measures();
  const bool some = std::any_of(all.begin(), all.end(), [&](const Measure& m) { return any(dump, m.of); });
  return some ? fmt::format("Rate, error and speed; no setting has {}", measure.label)
              : "Rate and speed; no error could be measured";
}

SweepTable summary_table(const SweepDump& dump, const Measure& measure) {
  SweepTable t{summary_title(dump, measure), {}, {}, false};
  const bool attention = has_attention(dump), second = has_second(dump);
  t.columns = {"setting", "*", ">file", ">ratio", ">x int8", ">bits", ">K nrmse", ">V nrmse"};
  if (attention) t.columns.insert(t.columns.end(), {">attention", ">KL"});
  if (second) t.columns.insert(t.columns.end(), {">attention 2", ">KL 2"});
  t.columns.insert(t.columns.end(), {">enc MB/s", ">dec MB/s", ">peak", ">worst layer"});
  const std::vector<bool> front = pareto_front(dump, measure);
  for (const std::size_t i : by_bytes(dump)) {
    const SettingResult& s = dump.settings[i];
    Cells row{s.name,
              front[i] ? "*" : "",
              size_text(s.file_bytes),
              fixed(ratio_of(dump.source_bytes, s.file_bytes), 2),
              fixed(ratio_to_int8(dump, s), 2),
              fixed(bits_of(s.file_bytes, dump.values), 3),
              error_cell(figure(s.all.key, &ValueFigures::nrmse)),
              error_cell(figure(s.all.value, &ValueFigures::nrmse))};
    for (const auto& [wanted, figures] : {std::pair(attention, s.all.attention), std::pair(second, s.all.attention2)}) {
      if (!wanted) continue;
      row.push_back(error_cell(figure(figures, &AttentionFigures::output_nrmse)));
      row.push_back(error_cell(figure(figures, &AttentionFigures::kl)));
    }
    row.push_back(speed_cell(s.encode_mbs));
    row.push_back(speed_cell(s.decode_mbs));
    row.push_back(s.peak_bytes ? size_text(*s.peak_bytes) : "-");
    row.push_back(layer_text(s.worst_layer));
    t.rows.push_back(std::move(row));
  }
  return t;
}

SweepTable bytes_table(const SweepDump& dump) {
  SweepTable t{"Bits a value by what they hold; together they are the file", {"setting"}, {}, false};
  for (const std::string_view kind : kByteKinds) t.columns.push_back(fmt::format(">{}", kind));
  t.columns.insert(t.columns.end(), {">all", ">file"});
  for (const std::size_t i : by_bytes(dump)) {
    const SettingResult& s = dump.settings[i];
    Cells row{s.name};
    for (const std::uint64_t bytes : s.bytes) row.push_back(bytes == 0 ? "0" : fixed(bits_of(bytes, dump.values), 4));
    row.push_back(fixed(bits_of(s.file_bytes, dump.values), 4));
    row.push_back(size_text(s.file_bytes));
    t.rows.push_back(std::move(row));
  }
  return t;
}

SweepTable values_table(const SweepDump& dump) {
  SweepTable t{"Errors of keys and values", {"setting"}, {}, false};
  for (const char role : {'K', 'V'}) {
    for (const char* name : {"nrmse", "dB", "max abs", "cosine", "min", "not finite"}) {
      t.columns.push_back(fmt::format(">{} {}", role, name));
    }
  }
  for (const std::size_t i : by_bytes(dump)) {
    Cells row{dump.settings[i].name};
    for (const auto& f : {dump.settings[i].all.key, dump.settings[i].all.value}) {
      row.insert(row.end(),
                 {error_cell(figure(f, &ValueFigures::nrmse)), snr_cell(f),
                  error_cell(figure(f, &ValueFigures::max_abs)), fixed(figure(f, &ValueFigures::cosine_mean), 6),
                  fixed(figure(f, &ValueFigures::cosine_min), 4), f ? std::to_string(f->nonfinite_mismatches) : "-"});
    }
    t.rows.push_back(std::move(row));
  }
  return t;
}

void add_attention(Cells& row, const std::optional<AttentionFigures>& f) {
  row.insert(
      row.end(),
      {error_cell(figure(f, &AttentionFigures::output_nrmse)), fixed(figure(f, &AttentionFigures::output_cosine), 6),
       error_cell(figure(f, &AttentionFigures::kl)), fixed(figure(f, &AttentionFigures::top_overlap), 4),
       error_cell(figure(f, &AttentionFigures::logits_nrmse))});
}

using Attention = std::optional<AttentionFigures> FidelitySummary::*;

SweepTable attention_table(const SweepDump& dump, Attention which, std::string title, bool proxies) {
  SweepTable t{std::move(title),
               {"setting", ">output nrmse", ">output cosine", ">KL", ">top-k overlap", ">logits nrmse"},
               {},
               !proxies || has_attention(dump)};
  if (proxies) t.columns.emplace_back(">pair nrmse");
  for (const std::size_t i : by_bytes(dump)) {
    const FidelitySummary& all = dump.settings[i].all;
    Cells row{dump.settings[i].name};
    add_attention(row, all.*which);
    if (proxies) row.push_back(error_cell(all.pair_nrmse));
    t.rows.push_back(std::move(row));
  }
  return t;
}

/// More heads than a screen has room for are not shown one by one.
constexpr std::size_t kShownHeads = 16;

std::size_t most_heads(const SettingResult& setting) {
  std::size_t heads = 0;
  for (const LayerResult& layer : setting.layers) heads = std::max(heads, layer.heads.size());
  return heads;
}

void add_heads(Cells& row, const LayerResult& layer, const Measure& measure, std::size_t heads) {
  std::optional<std::size_t> worst;
  Value most;
  for (std::size_t h = 0; h < heads; ++h) {
    const Value value = h < layer.heads.size() ? measure.of(layer.heads[h]) : Value();
    if (heads <= kShownHeads) row.push_back(error_cell(value));
    if (!value || (most && !(*value > *most))) continue;
    most = value;
    worst = h;
  }
  if (heads > kShownHeads) row.insert(row.end(), {worst ? std::to_string(*worst) : "-", error_cell(most)});
}

SweepTable layers_of(const SettingResult& setting, const Measure& measure) {
  SweepTable t{fmt::format("{}: layers, and heads by {}", setting.name, measure.label), {}, {}, true};
  t.columns = {"layer", ">K bits", ">V bits", ">K nrmse", ">V nrmse", fmt::format(">{}", measure.id)};
  const std::size_t heads = most_heads(setting);
  for (std::size_t h = 0; h < heads && heads <= kShownHeads; ++h) t.columns.push_back(fmt::format(">head {}", h));
  if (heads > kShownHeads) t.columns.insert(t.columns.end(), {">worst head", ">its error"});
  for (const LayerResult& layer : setting.layers) {
    Cells row{std::to_string(layer.layer),
              fixed(bits_of(layer.key_bytes, layer.key_values), 3),
              fixed(bits_of(layer.value_bytes, layer.value_values), 3),
              error_cell(figure(layer.all.key, &ValueFigures::nrmse)),
              error_cell(figure(layer.all.value, &ValueFigures::nrmse)),
              error_cell(measure.of(layer.all))};
    add_heads(row, layer, measure, heads);
    t.rows.push_back(std::move(row));
  }
  return t;
}

Table table_of(const SweepTable& table) {
  Table out(table.columns);
  for (const Cells& row : table.rows) out.add(row);
  return out;
}

std::vector<SweepTable> all_tables(const SweepDump& dump, const Measure& measure, bool verbose) {
  std::vector<SweepTable> out = sweep_tables(dump, measure);
  if (!verbose) {
    std::erase_if(out, [](const SweepTable& t) { return t.detail; });
    return out;
  }
  std::vector<SweepTable> more = layer_tables(dump, measure);
  std::move(more.begin(), more.end(), std::back_inserter(out));
  return out;
}

Cells left_out_lines(const SweepDump& dump) {
  Cells out;
  for (const auto& [names, what] : left_out(dump)) {
    out.push_back(fmt::format("{}: not counted by the original: {}", names, what));
  }
  return out;
}

std::string head_line(const Sweep& sweep) {
  return fmt::format("kvzip {} {}; speeds are of one thread, in 1e6 bytes of source a second", sweep.version,
                     sweep.machine);
}

}  // namespace

std::vector<std::size_t> by_bytes(const SweepDump& dump) {
  std::vector<std::size_t> order(dump.settings.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return dump.settings[a].file_bytes < dump.settings[b].file_bytes;
  });
  return order;
}

std::vector<LeftOut> left_out(const SweepDump& dump) {
  std::vector<LeftOut> out;
  for (const std::size_t i : by_bytes(dump)) {
    const SettingResult& s = dump.settings[i];
    if (s.left_out.empty() || s.left_out == "nothing") continue;
    const auto same = std::find_if(out.begin(), out.end(), [&](const LeftOut& one) { return one.what == s.left_out; });
    if (same == out.end()) {
      out.push_back({s.name, s.left_out});
    } else {
      same->names += ", " + s.name;
    }
  }
  return out;
}

std::optional<double> ratio_to_int8(const SweepDump& dump, const SettingResult& setting) {
  return dump.int8_bytes > 0 ? ratio_of(dump.int8_bytes, setting.file_bytes) : std::nullopt;
}

std::string dump_line(const SweepDump& dump) {
  std::string out = dump.model.empty() ? std::string() : dump.model + ", ";
  const bool part = dump.queries > 0 && dump.split < dump.tokens;
  out +=
      part ? fmt::format("the first {} of {} tokens", dump.split, dump.tokens) : fmt::format("{} tokens", dump.tokens);
  out += fmt::format(", {} values in {}, {}", dump.values, dump.dtype, size_text(dump.source_bytes));
  if (dump.queries > 0) out += fmt::format("; {} queries a head from {}", dump.queries, dump.queries_from);
  if (dump.queries2 > 0) out += fmt::format(", second set of {}", dump.queries2);
  if (part) {
    out += "; attention has the other tokens from the original";
  } else if (dump.split < dump.tokens) {
    out += fmt::format("; attention has tokens from {} on from the original", dump.split);
  }
  return out;
}

std::vector<SweepTable> sweep_tables(const SweepDump& dump, const Measure& measure) {
  std::vector<SweepTable> out{summary_table(dump, measure), bytes_table(dump), values_table(dump)};
  if (has_attention(dump)) {
    out.push_back(attention_table(dump, &FidelitySummary::attention, "Attention, means over heads", false));
  }
  if (has_second(dump)) {
    out.push_back(attention_table(dump, &FidelitySummary::attention2, "Attention of the second queries", false));
  }
  if (has_proxy(dump)) {
    out.push_back(attention_table(dump, &FidelitySummary::proxy,
                                  "Proxies, not attention of real queries: keys as queries, and rotary pairs", true));
  }
  return out;
}

std::vector<SweepTable> layer_tables(const SweepDump& dump, const Measure& measure) {
  std::vector<SweepTable> out;
  for (const std::size_t i : by_bytes(dump)) {
    if (!dump.settings[i].layers.empty()) out.push_back(layers_of(dump.settings[i], measure));
  }
  return out;
}

std::string sweep_text(const Sweep& sweep, const Measure& measure, bool verbose) {
  std::string out = printable(head_line(sweep)) + "\n";
  for (const SweepDump& dump : sweep.dumps) {
    out += fmt::format("\n{}: {}\n", printable(dump.path), printable(dump_line(dump)));
    if (!dump.note.empty()) out += printable(dump.note) + "\n";
    for (const SweepTable& table : all_tables(dump, measure, verbose)) {
      out += fmt::format("\n{}\n{}", printable(table.title), table_of(table).text());
    }
    const Cells left_out = left_out_lines(dump);
    if (!left_out.empty()) out += '\n';
    for (const std::string& line : left_out) out += printable(line) + "\n";
  }
  return out;
}

std::string sweep_markdown(const Sweep& sweep, const Measure& measure, bool verbose) {
  std::string out = markdown_text(head_line(sweep)) + "\n";
  for (const SweepDump& dump : sweep.dumps) {
    out += fmt::format("\n**{}**: {}\n", markdown_text(dump.path), markdown_text(dump_line(dump)));
    if (!dump.note.empty()) out += fmt::format("\n{}\n", markdown_text(dump.note));
    for (const SweepTable& table : all_tables(dump, measure, verbose)) {
      out += fmt::format("\n{}\n\n{}", markdown_text(table.title), table_of(table).markdown());
    }
    const Cells left_out = left_out_lines(dump);
    if (!left_out.empty()) out += '\n';
    for (const std::string& line : left_out) out += fmt::format("- {}\n", markdown_text(line));
  }
  return out;
}

}  // namespace kvzip::tool
