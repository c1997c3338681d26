// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "formats/file.hpp"
#include "src/report/markup.hpp"
#include "src/sweep/sweep_page.hpp"
#include "src/sweep/sweep_report.hpp"

namespace kvzip::tool {
namespace {

/// Nothing of the page may come from elsewhere, and the browser sees to it.
constexpr std::string_view kHead =
    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; img-src data:\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";

std::string html_table(const SweepTable& table, const std::vector<bool>& front_rows) {
  std::string out = "<div class=\"scroll\"><table class=\"sortable\"><thead><tr>";
  std::vector<bool> right;
  for (const std::string& column : table.columns) {
    right.push_back(column.starts_with('>'));
    out += fmt::format("<th scope=\"col\"{}>{}</th>", right.back() ? " class=\"right\"" : "",
                       escape_markup(std::string_view(column).substr(right.back() ? 1 : 0)));
  }
  out += "</tr></thead>\n<tbody>\n";
  for (std::size_t r = 0; r < table.rows.size(); ++r) {
    out += r < front_rows.size() && front_rows[r] ? "<tr class=\"front\">" : "<tr>";
    for (std::size_t c = 0; c < table.rows[r].size(); ++c) {
      out += fmt::format("<td{}>{}</td>", right[c] ? " class=\"right\"" : "", escape_markup(table.rows[r][c]));
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string_view page_file(std::string_view name) {
  const auto files = page_files();
  return std::find_if(files.begin(), files.end(), [&](const PageFile& f) { return f.name == name; })->text;
}

/// In the order of rows.
std::vector<bool> front_rows(const SweepDump& dump, const Measure& measure) {
  const std::vector<bool> front = pareto_front(dump, measure);
  std::vector<bool> out;
  for (const std::size_t i : by_bytes(dump)) out.push_back(front[i]);
  return out;
}

std::string html_tables(const SweepDump& dump, const Measure& measure) {
  const std::vector<SweepTable> tables = sweep_tables(dump, measure);
  const std::vector<bool> front = front_rows(dump, measure);
  std::string out;
  for (std::size_t t = 0; t < tables.size(); ++t) {
    const std::string title = escape_markup(tables[t].title), table = html_table(tables[t], front);
    out += t == 0 ? fmt::format("<h3>{}</h3>\n{}", title, table)
                  : fmt::format("<details><summary>{}</summary>\n{}</details>\n", title, table);
  }
  return out;
}

std::string byte_bars(const SweepDump& dump) {
  std::uint64_t most = 1;
  for (const SettingResult& s : dump.settings) most = std::max(most, s.file_bytes);
  std::string out = "<h3>What the bytes hold, in bits per value</h3>\n<div class=\"legend\">";
  for (std::size_t k = 0; k < kByteKinds.size(); ++k) {
    out += fmt::format("<span><i class=\"k{}\"></i>{}</span>", k, kByteKinds[k]);
  }
  out += "</div>\n<div class=\"bars\">\n";
  for (const std::size_t i : by_bytes(dump)) {
    const SettingResult& s = dump.settings[i];
    out += fmt::format("<span>{}</span><span class=\"bar\">", escape_markup(s.name));
    for (std::size_t k = 0; k < kByteKinds.size(); ++k) {
      if (s.bytes[k] == 0) continue;
      const double share = 100 * static_cast<double>(s.bytes[k]) / static_cast<double>(most);
      out += fmt::format("<span class=\"k{}\" style=\"width:{:.3f}%\" title=\"{}: {} bits per value\"></span>", k,
                         share, kByteKinds[k], number_text(bits_of(s.bytes[k], dump.values)));
    }
    out += fmt::format("</span><span>{}</span>\n", number_text(bits_of(s.file_bytes, dump.values)));
  }
  return out + "</div>\n";
}

std::string commands_of(const SweepDump& dump) {
  std::string out =
      "<details><summary>Commands and pipelines</summary>\n<div class=\"scroll\"><table class=\"sortable\"><thead><tr>"
      "<th scope=\"col\">setting</th><th scope=\"col\">kind</th><th scope=\"col\">command that writes this file</th>"
      "<th scope=\"col\">rules</th></tr></thead><tbody>\n";
  for (const std::size_t i : by_bytes(dump)) {
    const SettingResult& s = dump.settings[i];
    std::string rules;
    for (std::size_t at = 0; at < s.rules.size();) {
      const std::size_t end = std::min(s.rules.find('\n', at), s.rules.size());
      rules += escape_markup(std::string_view(s.rules).substr(at, end - at)) + "\n";
      at = end + 1;
    }
    out += fmt::format(
        "<tr><td>{}</td><td>{}</td><td class=\"wrap\"><pre>{}</pre></td><td class=\"wrap\"><pre>{}</pre></td></tr>\n",
        escape_markup(s.name), escape_markup(s.kind), escape_markup(s.command), rules);
  }
  return out + "</tbody></table></div></details>\n";
}

std::string notes_of(const SweepDump& dump) {
  std::string out;
  for (const auto& [names, what] : left_out(dump)) {
    out += fmt::format("<li><b>{}</b>: {}</li>\n", escape_markup(names), escape_markup(what));
  }
  return out.empty() ? out : fmt::format("<h3>What the originals do not count</h3>\n<ul>\n{}</ul>\n", out);
}

std::string section_of(const Sweep& sweep, std::size_t number, const Measure& measure) {
  const SweepDump& dump = sweep.dumps[number];
  std::string out =
      fmt::format("<section>\n<h2>{}</h2>\n<p>{}</p>\n", escape_markup(dump.path), escape_markup(dump_line(dump)));
  if (dump.queries == 0)
    out += "<p class=\"faint\">No queries: nothing here is attention; proxies stand in for it and say so.</p>\n";
  if (!dump.note.empty()) out += fmt::format("<p class=\"faint\">{}</p>\n", escape_markup(dump.note));
  Sweep one;
  one.dumps = {dump};
  std::string plot = plot_sweep(one, measure, "svg");
  plot.erase(0, plot.find("<svg"));  // an XML declaration has no place inside a page
  out += fmt::format("<figure>{}</figure>\n", plot);
  out += html_tables(dump, measure) + byte_bars(dump);
  out += fmt::format(
      "<h3>Layers and heads</h3>\n<div class=\"heat-maps\" data-dump=\"{}\"><noscript>Drawn by a script of this page."
      "</noscript></div>\n",
      number);
  return out + notes_of(dump) + commands_of(dump) + "</section>\n";
}

Json figures_of(const FidelitySummary& errors) {
  Json out = Json::object();
  for (const Measure& m : measures()) {
    const auto value = m.of(errors);
    if (value) out[std::string(m.id)] = json_number(value);
  }
  return out;
}

Json layer_json(const LayerResult& layer) {
  Json out{{"layer", layer.layer}, {"figures", figures_of(layer.all)}};
  out["figures"]["key-bits"] = json_number(bits_of(layer.key_bytes, layer.key_values));
  out["figures"]["value-bits"] = json_number(bits_of(layer.value_bytes, layer.value_values));
  out["heads"] = Json::array();
  for (const FidelitySummary& head : layer.heads) out["heads"].push_back(figures_of(head));
  return out;
}

/// What the heat maps show: the chosen measure first.
Json figure_list(const SweepDump& dump, const Measure& chosen) {
  Json out = Json::array();
  const auto add = [&](const Measure& m) {
    const bool any = std::any_of(dump.settings.begin(), dump.settings.end(),
                                 [&](const SettingResult& s) { return m.of(s.all).has_value(); });
    if (any) out.push_back({{"id", m.id}, {"label", m.label}});
  };
  add(chosen);
  for (const Measure& m : measures()) {
    if (m.id != chosen.id) add(m);
  }
  out.push_back({{"id", "key-bits"}, {"label", "bits per value of keys"}});
  out.push_back({{"id", "value-bits"}, {"label", "bits per value of values"}});
  return out;
}

/// Text of a script element ends at "</" and comments begin at "<!": no '<' is left.
std::string layers_json(const Sweep& sweep, const Measure& measure) {
  Json dumps = Json::array();
  for (const SweepDump& dump : sweep.dumps) {
    Json settings = Json::array();
    for (const std::size_t i : by_bytes(dump)) {
      Json layers = Json::array();
      for (const LayerResult& layer : dump.settings[i].layers) layers.push_back(layer_json(layer));
      settings.push_back({{"name", plain_text(dump.settings[i].name)}, {"layers", std::move(layers)}});
    }
    dumps.push_back({{"figures", figure_list(dump, measure)}, {"settings", std::move(settings)}});
  }
  std::string out;
  for (const char c : Json{{"dumps", std::move(dumps)}}.dump(-1, ' ', true, Json::error_handler_t::replace)) {
    out += c == '<' ? std::string("\\u003c") : std::string(1, c);
  }
  return out;
}

}  // namespace

std::string sweep_html(const Sweep& sweep, const Measure& measure) {
  std::string out(kHead);
  out += fmt::format("<title>kvzip sweep: rate against {}</title>\n<style>\n{}</style>\n</head>\n<body>\n",
                     escape_markup(measure.label), page_file("style"));
  out += "<h1>Settings of kvzip compared</h1>\n";
  out += fmt::format(
      "<p class=\"faint\">kvzip {} {}; speeds are of one thread, in 1e6 bytes of source a second. "
      "Sizes count every byte of the file.</p>\n<pre>{}</pre>\n",
      escape_markup(sweep.version), escape_markup(sweep.machine), escape_markup(sweep.command));
  for (std::size_t d = 0; d < sweep.dumps.size(); ++d) out += section_of(sweep, d, measure);
  out += fmt::format(
      "<script type=\"application/json\" id=\"layers\">{}</script>\n<script>\n{}</script>\n</body>\n</html>\n",
      layers_json(sweep, measure), page_file("script"));
  return out;
}

void write_report(const std::string& path, const Sweep& sweep, const Measure& measure, bool overwrite) {
  OutputFile out(path, overwrite);
  const std::string page = sweep_html(sweep, measure);
  out.append(std::as_bytes(std::span(page)));
  out.finish();
}

}  // namespace kvzip::tool
