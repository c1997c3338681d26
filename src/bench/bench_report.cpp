// SPDX-License-Identifier: Apache-2.0
#include "src/bench/bench_report.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "codec/kernels/instruction_set.hpp"
#include "kvzip/error.hpp"
#include "src/report/csv_fields.hpp"
#include "src/report/machine.hpp"

namespace kvzip::tool {

void fields(auto& visit, Is<Speed> auto& s) {
  visit("median", s.median);
  visit("min", s.min);
  visit("max", s.max);
  visit("passes", s.passes);
}

namespace {

/// What a codec makes of a file.
struct Result {
  std::uint64_t coded_bytes = 0;
  std::optional<double> ratio, bits_per_value, key_nrmse, value_nrmse;
  std::optional<std::uint64_t> peak_bytes;

  static Result of(const BenchFile& file, const BenchRow& row) {
    return {row.coded_bytes,
            ratio_of(file.bytes, row.coded_bytes),
            bits_of(row.coded_bytes, file.values),
            row.errors.key,
            row.errors.value,
            row.measured.peak_bytes};
  }
};
void fields(auto& visit, Is<Result> auto& r) {
  visit("coded_bytes", r.coded_bytes);
  visit("ratio", r.ratio);
  visit("bits_per_value", r.bits_per_value);
  visit("key_nrmse", r.key_nrmse);
  visit("value_nrmse", r.value_nrmse);
  visit("peak_bytes", r.peak_bytes);
}

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

Table codec_table(const BenchFile& file) {
  Table table(codec_columns());
  for (const BenchRow& row : file.rows) table.add(codec_cells(file, row));
  return table;
}

/// Nothing when no codec has steps.
std::optional<Table> step_table(const BenchFile& file) {
  std::optional<Table> table;
  for (const BenchRow& row : file.rows) {
    for (std::size_t s = 0; s < row.steps.size(); ++s) {
      if (!table) table.emplace(step_columns());
      table->add(step_cells(row, s));
    }
  }
  return table;
}

/// Each line says where its figures come from.
std::string csv_tail() {
  const Machine machine = this_machine();
  return fmt::format(",{},{},{},{}\n", KVZIP_VERSION, csv_text(machine.compiler), csv_text(machine.cpu),
                     kernels::instruction_set_name());
}

std::string csv_codec(const BenchFile& file, const BenchRow& row) {
  std::string out = fmt::format("{},{},{},,,{}", csv_text(file.name), csv_text(row.name), row.kind, file.bytes);
  for (const auto direction : {&Measured::encode, &Measured::decode}) {
    out += csv_cells(csv_columns((row.measured.*direction).speed)) +
           fmt::format(",{},{},1", csv_number(relative(file, row, kPeerName, direction)),
                       csv_number(relative(file, row, kCopyName, direction)));
  }
  return out + csv_cells(csv_columns(Result::of(file, row)));
}

std::string csv_step(const BenchFile& file, const BenchRow& row, std::size_t s) {
  const Step& step = row.steps[s];
  std::string out = fmt::format("{},{},{},{},{},{}", csv_text(file.name), csv_text(row.name), row.kind,
                                role_name(step.role), step.name, step.bytes);
  for (const auto direction : {&Measured::encode, &Measured::decode}) {
    const StepSpeed& one = (row.measured.*direction).steps[s];
    out += csv_cells(csv_columns(one.speed)) + fmt::format(",,,{}", one.share);
  }
  return out + std::string(csv_columns(Result()).size(), ',');
}

Json json_row(const BenchFile& file, const BenchRow& row) {
  Json out{{"name", row.name}, {"kind", row.kind}};
  out.update(json_of(Result::of(file, row)));
  out["seconds"] = row.measured.seconds;
  out["waited"] = row.measured.waited;
  const std::pair<const char*, Direction Measured::*> directions[] = {{"encode", &Measured::encode},
                                                                      {"decode", &Measured::decode}};
  for (const auto& [name, direction] : directions) {
    out[name] = json_of((row.measured.*direction).speed);
    out[name]["of_zstd_1"] = json_number(relative(file, row, kPeerName, direction));
    out[name]["of_memcpy"] = json_number(relative(file, row, kCopyName, direction));
  }
  out["steps"] = Json::array();
  for (std::size_t s = 0; s < row.steps.size(); ++s) {
    const Step& step = row.steps[s];
    Json one{{"role", role_name(step.role)}, {"step", step.name}, {"source_bytes", step.bytes}};
    for (const auto& [name, direction] : directions) {
      const StepSpeed& speed = (row.measured.*direction).steps[s];
      one[name] = json_of(speed.speed);
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
    out += fmt::format("\n{}\n{}", printable(file_line(file)), codec_table(file).text());
    if (const auto steps = step_table(file)) out += "\n" + steps->text();
  }
  return out;
}

std::string bench_markdown(const Bench& bench) {
  std::string out = head_line() + "\n";
  for (const BenchFile& file : bench.files) {
    out += fmt::format("\n{}\n\n{}", printable(file_line(file)), codec_table(file).markdown());
    if (const auto steps = step_table(file)) out += "\n" + steps->markdown();
  }
  return out;
}

std::string bench_csv(const Bench& bench) {
  std::string out = "file,codec,kind,role,step,source_bytes";
  for (const std::string_view d : {"encode", "decode"}) {
    out += fmt::format(",{0}_gbps,{0}_min,{0}_max,{0}_passes,{0}_of_zstd_1,{0}_of_memcpy,{0}_share", d);
  }
  out += csv_names(csv_columns(Result())) + ",kvzip,compiler,cpu,target\n";
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
           {"cpu", machine.cpu}, {"processors", machine.processors}, {"target", kernels::instruction_set_name()},
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
