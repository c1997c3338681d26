// SPDX-License-Identifier: Apache-2.0
#include "src/bench/bench_report.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "codec/kernels/instruction_set.hpp"
#include "kvzip/error.hpp"
#include "src/report/machine.hpp"

namespace kvzip::tool {
namespace {

std::string head_line() {
  return fmt::format("kvzip {} {}, one thread; GB/s of source bytes, median and range", KVZIP_VERSION, machine_line());
}

std::string file_line(const BenchFile& file) {
  return fmt::format("{}: {} tensors, {}, {} values", file.name, file.tensors, size_text(file.bytes), file.values);
}

/// Three significant digits, never as 1e+02.
std::string figure(double value) {
  return fmt::format("{:.{}f}", value, value < 0.0995 ? 4 : value < 0.995 ? 3 : value < 9.95 ? 2 : 1);
}

std::string range_text(const Speed& speed) {
  return speed.median <= 0 ? "-" : fmt::format("{}-{}", figure(speed.min), figure(speed.max));
}

std::string median_text(const Speed& speed) {
  return speed.median > 0 ? figure(speed.median) : "-";
}

std::string percent_text(std::optional<double> share) {
  return share ? fmt::format("{:.1f}", 100 * *share) : "-";
}

std::string error_text(std::optional<double> nrmse) {
  if (!nrmse) return "-";
  return *nrmse == 0 ? "exact" : fmt::format("{:.4f}", *nrmse);
}

std::vector<std::string> codec_columns() {
  return {"codec",      ">encode",   ">range", ">x zstd -1", ">% memcpy", ">decode",  ">range",
          ">x zstd -1", ">% memcpy", ">ratio", ">bits",      ">K nrmse",  ">V nrmse", ">peak"};
}

std::vector<std::string> codec_cells(const BenchFile& file, const BenchRow& row) {
  std::vector<std::string> cells{row.name};
  for (const auto direction : {&Measured::encode, &Measured::decode}) {
    const Speed& speed = (row.measured.*direction).speed;
    const auto times = relative(file, row, kPeerName, direction);
    cells.push_back(median_text(speed));
    cells.push_back(range_text(speed));
    cells.push_back(times ? figure(*times) : "-");
    cells.push_back(percent_text(relative(file, row, kCopyName, direction)));
  }
  const auto ratio = ratio_of(file.bytes, row.coded_bytes), bits = bits_of(row.coded_bytes, file.values);
  cells.push_back(ratio ? fmt::format("{:.2f}", *ratio) : "-");
  cells.push_back(bits ? fmt::format("{:.2f}", *bits) : "-");
  cells.push_back(row.kind == "peer" ? "exact" : error_text(row.errors.key));
  cells.push_back(row.kind == "peer" ? "exact" : error_text(row.errors.value));
  cells.push_back(row.measured.peak_bytes ? size_text(*row.measured.peak_bytes) : "-");
  return cells;
}

std::vector<std::string> step_columns() {
  return {"codec", "role", "step", ">encode", ">range", ">% of time", ">decode", ">range", ">% of time"};
}

std::vector<std::string> step_cells(const BenchRow& row, std::size_t step) {
  std::vector<std::string> cells{row.name, std::string(role_name(row.steps[step].role)), row.steps[step].name};
  for (const auto direction : {&Measured::encode, &Measured::decode}) {
    const StepSpeed& one = (row.measured.*direction).steps[step];
    cells.push_back(median_text(one.speed));
    cells.push_back(range_text(one.speed));
    cells.push_back(percent_text(one.share));
  }
  return cells;
}

using Rows = std::vector<std::vector<std::string>>;

Rows codec_rows(const BenchFile& file) {
  Rows rows;
  for (const BenchRow& row : file.rows) rows.push_back(codec_cells(file, row));
  return rows;
}

Rows step_rows(const BenchFile& file) {
  Rows rows;
  for (const BenchRow& row : file.rows) {
    for (std::size_t s = 0; s < row.steps.size(); ++s) rows.push_back(step_cells(row, s));
  }
  return rows;
}

std::string text_table(const std::vector<std::string>& columns, const Rows& rows) {
  Table table(columns);
  for (const auto& row : rows) table.add(row);
  return table.text();
}

std::string markdown_table(const std::vector<std::string>& columns, const Rows& rows) {
  std::string names = "|", rule = "|";
  for (const std::string& column : columns) {
    const bool right = column.starts_with('>');
    names += fmt::format(" {} |", column.substr(right ? 1 : 0));
    rule += right ? "---:|" : "---|";
  }
  std::string out = names + "\n" + rule + "\n";
  for (const auto& row : rows) {
    out += "|";
    for (const std::string& cell : row) out += fmt::format(" {} |", printable(cell));
    out += "\n";
  }
  return out;
}

std::string csv_number(std::optional<double> value) {
  return value ? fmt::format("{}", *value) : std::string();
}

std::string csv_speed(const Speed& speed) {
  return fmt::format(",{},{},{},{}", speed.median, speed.min, speed.max, speed.passes);
}

/// Each line says where its figures come from.
std::string csv_tail() {
  const Machine machine = this_machine();
  return fmt::format(",{},{},{},{}\n", KVZIP_VERSION, csv_text(machine.compiler), csv_text(machine.cpu),
                     kernels::target_name());
}

std::string csv_codec(const BenchFile& file, const BenchRow& row) {
  std::string out = fmt::format("{},{},{},,,{}", csv_text(file.name), csv_text(row.name), row.kind, file.bytes);
  for (const auto direction : {&Measured::encode, &Measured::decode}) {
    out += csv_speed((row.measured.*direction).speed) +
           fmt::format(",{},{},1", csv_number(relative(file, row, kPeerName, direction)),
                       csv_number(relative(file, row, kCopyName, direction)));
  }
  return out + fmt::format(",{},{},{},{},{},{}", row.coded_bytes, csv_number(ratio_of(file.bytes, row.coded_bytes)),
                           csv_number(bits_of(row.coded_bytes, file.values)), csv_number(row.errors.key),
                           csv_number(row.errors.value),
                           row.measured.peak_bytes ? std::to_string(*row.measured.peak_bytes) : "");
}

std::string csv_step(const BenchFile& file, const BenchRow& row, std::size_t s) {
  const Step& step = row.steps[s];
  std::string out = fmt::format("{},{},{},{},{},{}", csv_text(file.name), csv_text(row.name), row.kind,
                                role_name(step.role), step.name, step.bytes);
  for (const auto direction : {&Measured::encode, &Measured::decode}) {
    const StepSpeed& one = (row.measured.*direction).steps[s];
    out += csv_speed(one.speed) + fmt::format(",,,{}", one.share);
  }
  return out + ",,,,,,";
}

Json json_speed(const Speed& speed) {
  return {{"median", speed.median}, {"min", speed.min}, {"max", speed.max}, {"passes", speed.passes}};
}

Json json_row(const BenchFile& file, const BenchRow& row) {
  Json out{{"name", row.name},
           {"kind", row.kind},
           {"coded_bytes", row.coded_bytes},
           {"ratio", json_number(ratio_of(file.bytes, row.coded_bytes))},
           {"bits_per_value", json_number(bits_of(row.coded_bytes, file.values))},
           {"key_nrmse", json_number(row.errors.key)},
           {"value_nrmse", json_number(row.errors.value)},
           {"peak_bytes", row.measured.peak_bytes ? Json(*row.measured.peak_bytes) : Json(nullptr)},
           {"seconds", row.measured.seconds},
           {"waited", row.measured.waited}};
  const std::pair<const char*, Direction Measured::*> directions[] = {{"encode", &Measured::encode},
                                                                      {"decode", &Measured::decode}};
  for (const auto& [name, direction] : directions) {
    out[name] = json_speed((row.measured.*direction).speed);
    out[name]["of_zstd_1"] = json_number(relative(file, row, kPeerName, direction));
    out[name]["of_memcpy"] = json_number(relative(file, row, kCopyName, direction));
  }
  out["steps"] = Json::array();
  for (std::size_t s = 0; s < row.steps.size(); ++s) {
    const Step& step = row.steps[s];
    Json one{{"role", role_name(step.role)}, {"step", step.name}, {"source_bytes", step.bytes}};
    for (const auto& [name, direction] : directions) {
      const StepSpeed& speed = (row.measured.*direction).steps[s];
      one[name] = json_speed(speed.speed);
      one[name]["share"] = speed.share;
    }
    out["steps"].push_back(std::move(one));
  }
  return out;
}

}  // namespace

std::optional<double> relative(const BenchFile& file, const BenchRow& row, std::string_view to,
                               Direction Measured::*direction) {
  const auto peer = std::find_if(file.rows.begin(), file.rows.end(),
                                 [&](const BenchRow& r) { return r.kind == "peer" && r.name == to; });
  if (peer == file.rows.end()) return {};
  const double limit = (peer->measured.*direction).speed.median;
  if (limit <= 0) return {};
  return (row.measured.*direction).speed.median / limit;
}

std::string bench_text(const Bench& bench) {
  std::string out = head_line() + "\n";
  for (const BenchFile& file : bench.files) {
    out += fmt::format("\n{}\n{}", printable(file_line(file)), text_table(codec_columns(), codec_rows(file)));
    const Rows steps = step_rows(file);
    if (!steps.empty()) out += "\n" + text_table(step_columns(), steps);
  }
  return out;
}

std::string bench_markdown(const Bench& bench) {
  std::string out = head_line() + "\n";
  for (const BenchFile& file : bench.files) {
    out += fmt::format("\n{}\n\n{}", printable(file_line(file)), markdown_table(codec_columns(), codec_rows(file)));
    const Rows steps = step_rows(file);
    if (!steps.empty()) out += "\n" + markdown_table(step_columns(), steps);
  }
  return out;
}

std::string bench_csv(const Bench& bench) {
  std::string out = "file,codec,kind,role,step,source_bytes";
  for (const std::string_view d : {"encode", "decode"}) {
    out += fmt::format(",{0}_gbps,{0}_min,{0}_max,{0}_passes,{0}_of_zstd_1,{0}_of_memcpy,{0}_share", d);
  }
  out += ",coded_bytes,ratio,bits_per_value,key_nrmse,value_nrmse,peak_bytes,kvzip,compiler,cpu,target\n";
  const std::string tail = csv_tail();
  for (const BenchFile& file : bench.files) {
    for (const BenchRow& row : file.rows) {
      out += csv_codec(file, row) + tail;
      for (std::size_t s = 0; s < row.steps.size(); ++s) out += csv_step(file, row, s) + tail;
    }
  }
  return out;
}

Json bench_json(const Bench& bench) {
  const Machine machine = this_machine();
  Json out{{"schema", 1},        {"kvzip", KVZIP_VERSION},           {"compiler", machine.compiler},
           {"cpu", machine.cpu}, {"processors", machine.processors}, {"target", kernels::target_name()},
           {"threads", 1},       {"runs", bench.effort.passes},      {"min_time", bench.effort.seconds}};
  out["files"] = Json::array();
  for (const BenchFile& file : bench.files) {
    Json one{{"name", file.name}, {"tensors", file.tensors}, {"source_bytes", file.bytes}, {"values", file.values}};
    one["codecs"] = Json::array();
    for (const BenchRow& row : file.rows) one["codecs"].push_back(json_row(file, row));
    out["files"].push_back(std::move(one));
  }
  return out;
}

}  // namespace kvzip::tool
