// SPDX-License-Identifier: Apache-2.0
// What people read of a sweep: tables, plots, and a page.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "src/sweep/sweep.hpp"

namespace kvzip::tool {

/// A heading, and rows that go with the columns. Columns that begin with '>' stand to the right.
struct SweepTable {
  std::string title;
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;
  bool detail = false;  // on a screen only when asked for
};
/// Settings in order of bytes, Pareto-optimal ones of `measure` marked. The first table is the summary, the second says
/// what the bytes hold; proxies have one of their own.
std::vector<SweepTable> sweep_tables(const SweepDump& dump, const Measure& measure);
/// Of each setting: its layers, and `measure` of each head.
std::vector<SweepTable> layer_tables(const SweepDump& dump, const Measure& measure);
/// Indices of settings, in order of bytes.
std::vector<std::size_t> by_bytes(const SweepDump& dump);
/// What the originals of baselines do not count, each with the settings that it is said of.
struct LeftOut {
  std::string names, what;
};
std::vector<LeftOut> left_out(const SweepDump& dump);
/// Bytes of int8 over the setting's; nothing when int8 was not measured.
std::optional<double> ratio_to_int8(const SweepDump& dump, const SettingResult& setting);
/// What the figures of a dump are of: one line, without its name.
std::string dump_line(const SweepDump& dump);

/// The tables of all dumps; with `verbose` the details and those of layers and heads too.
std::string sweep_text(const Sweep& sweep, const Measure& measure, bool verbose);
std::string sweep_markdown(const Sweep& sweep, const Measure& measure, bool verbose);
/// Every figure: a line for each setting, each of its layers and each head.
std::string sweep_csv(const Sweep& sweep, const Measure& measure);

/// Rate against `measure`, one panel for each dump, drawn by gnuplot. `extension` is "svg" or "png".
std::string plot_sweep(const Sweep& sweep, const Measure& measure, std::string_view extension);
void write_plot(const std::string& path, const Sweep& sweep, const Measure& measure, bool overwrite);

/// One page that needs no other file and no network.
std::string sweep_html(const Sweep& sweep, const Measure& measure);
void write_report(const std::string& path, const Sweep& sweep, const Measure& measure, bool overwrite);

}  // namespace kvzip::tool
