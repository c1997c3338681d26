// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "src/report/gnuplot.hpp"
#include "src/report/markup.hpp"
#include "src/report/plot_style.hpp"
#include "src/sweep/plot_labels.hpp"
#include "src/sweep/sweep_report.hpp"

namespace kvzip::tool {
namespace {

// Pixels; a panel's axes leave room for a heading above and, on the right, for names at the ends of lines.
constexpr double kWidth = 860, kHeight = 500, kLeft = 74, kRight = 24, kTop = 62, kBottom = 54;
constexpr std::size_t kLongest = 48;  // letters of a name

constexpr unsigned kOpen[] = {6, 4, 8, 12, 10};  // circle, square, triangle, diamond, inverted triangle
constexpr unsigned filled(unsigned open) {
  return open + 1;
}

struct PlotPoint {
  double rate = 0, error = 0;
  bool front = false;
  std::string name;
};

struct Family {
  std::string name;
  std::vector<PlotPoint> points;  // by rate
};

struct Panel {
  std::vector<Family> families;
  std::size_t left_out = 0;  // settings without the measure, or with an endless error
  double rate_from = 1, rate_to = 16, error_from = 0.01, error_to = 1;
  std::optional<double> exact;  // where an error of 0 stands, which has no place on a logarithmic axis

  double shown_error(double error) const { return error > 0 ? error : exact.value_or(error_from); }
  Spot spot(const PlotPoint& p) const {
    const double x = std::log(p.rate / rate_from) / std::log(rate_to / rate_from);
    const double y = std::log(shown_error(p.error) / error_from) / std::log(error_to / error_from);
    return {kLeft + x * (kWidth - kLeft - kRight), kHeight - kBottom - y * (kHeight - kBottom - kTop)};
  }
};

void set_ranges(Panel& panel) {
  double least_rate = INFINITY, most_rate = 0, least = INFINITY, most = 0;
  bool any_exact = false;
  for (const Family& family : panel.families) {
    for (const PlotPoint& p : family.points) {
      least_rate = std::min(least_rate, p.rate);
      most_rate = std::max(most_rate, p.rate);
      if (p.error > 0) least = std::min(least, p.error);
      most = std::max(most, p.error);
      any_exact |= p.error == 0;
    }
  }
  if (most_rate > 0) {
    const double room = std::pow(most_rate / least_rate, 0.05) * 1.03;
    panel.rate_from = least_rate / room;
    panel.rate_to = most_rate * room * room;  // names stand to the right of the ends
  }
  if (most > 0) {
    const double room = std::pow(most / least, 0.05) * 1.1;
    panel.error_from = least / room;
    panel.error_to = most * room;
  }
  if (!any_exact) return;
  const double step = std::pow(panel.error_to / panel.error_from, 0.08);
  panel.exact = panel.error_from / step;
  panel.error_from /= step * std::sqrt(step);
}

Panel panel_of(const SweepDump& dump, const Measure& measure) {
  Panel panel;
  const std::vector<bool> front = pareto_front(dump, measure);
  for (std::size_t i = 0; i < dump.settings.size(); ++i) {
    const SettingResult& s = dump.settings[i];
    const auto error = measure.of(s.all);
    const auto rate = bits_of(s.file_bytes, dump.values);
    if (!error || !rate || !std::isfinite(*error) || *error < 0 || *rate <= 0) {
      ++panel.left_out;
      continue;
    }
    const std::string name = plain_text(s.family.empty() ? s.name : s.family, kLongest);
    auto family =
        std::find_if(panel.families.begin(), panel.families.end(), [&](const Family& f) { return f.name == name; });
    if (family == panel.families.end()) family = panel.families.insert(family, Family{name, {}});
    family->points.push_back({*rate, *error, front[i], plain_text(s.name, kLongest)});
  }
  for (Family& family : panel.families) {
    std::stable_sort(family.points.begin(), family.points.end(),
                     [](const PlotPoint& a, const PlotPoint& b) { return a.rate < b.rate; });
  }
  set_ranges(panel);
  return panel;
}

/// Ticks of an axis: "'text' value" with commas between.
std::string rate_ticks(const Panel& panel) {
  std::string out;
  for (const double rate : {0.125, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0}) {
    if (rate < panel.rate_from || rate > panel.rate_to) continue;
    out += fmt::format("{}'{}' {}", out.empty() ? "" : ", ", rate, rate);
  }
  return out;
}

std::string error_ticks(const Panel& panel) {
  std::string out;
  const double from = panel.exact ? *panel.exact * 1.3 : panel.error_from;
  const double decades = std::log10(panel.error_to / from);
  const auto add = [&](const std::string& text, double value, int level) {
    out += fmt::format("{}'{}' {:.17g} {}", out.empty() ? "" : ", ", text, value, level);
  };
  if (panel.exact) add("exact", *panel.exact, 0);
  const int first = static_cast<int>(std::floor(std::log10(from))),
            last = static_cast<int>(std::log10(panel.error_to)) + 1;
  const int every = static_cast<int>(decades / 10) + 1;  // decades from one named tick to the next
  for (int decade = first; decade <= last; ++decade) {
    for (int digit = 1; digit < (every == 1 ? 10 : 2); ++digit) {
      const double value = digit * std::pow(10.0, decade);
      if (value < from || value > panel.error_to) continue;
      const bool whole = digit == 1 && decade % every == 0;
      const bool named = whole || (decades < 2.2 && (digit == 2 || digit == 5)) || decades < 0.5;
      add(named ? fmt::format("{:.3g}", value) : "", value, named ? 0 : 1);
    }
  }
  return out;
}

std::string label_line(const PlacedLabel& label, double top, double height, const Ink& ink, int size, bool bold) {
  return fmt::format("set label {} at screen {:.5f}, screen {:.5f} left font '{},{}' tc rgb '{}' front\n",
                     gnuplot_quoted(label.text), label.left.x / kWidth, 1 - (top + label.left.y) / height,
                     bold ? "Helvetica:Bold" : "Helvetica", size, ink.light);
}

const Ink& ink_of(std::size_t family) {
  return kInks[family % std::size(kInks)];
}

/// A line's name stands at one of its ends, or else at a point between.
std::string family_labels(const Panel& panel, LabelSpace& space, double top, double height) {
  std::string out;
  for (std::size_t f = 0; f < panel.families.size(); ++f) {
    const auto& points = panel.families[f].points;
    std::vector<Spot> spots{panel.spot(points.back())};
    if (points.size() > 1) spots.push_back(panel.spot(points.front()));
    for (std::size_t i = 1; i + 1 < points.size(); ++i) spots.push_back(panel.spot(points[i]));
    const std::string& name = points.size() == 1 ? points[0].name : panel.families[f].name;
    const auto label = space.place(name, 13, spots);
    if (label) out += label_line(*label, top, height, ink_of(f), 13, true);
  }
  return out;
}

/// Names of Pareto-optimal settings, where there is room.
std::string front_labels(const Panel& panel, LabelSpace& space, double top, double height) {
  constexpr double kNothingHidden = 15;
  std::string out;
  for (const Family& family : panel.families) {
    if (family.points.size() == 1) continue;
    for (const PlotPoint& p : family.points) {
      if (!p.front || p.name == family.name) continue;
      const auto label = space.place(p.name, 10, {panel.spot(p)}, kNothingHidden);
      if (label) out += label_line(*label, top, height, kFaint, 10, false);
    }
  }
  return out;
}

/// The points that the band joins, by rate.
std::vector<PlotPoint> front_of(const Panel& panel) {
  std::vector<PlotPoint> out;
  for (const Family& family : panel.families) {
    std::copy_if(family.points.begin(), family.points.end(), std::back_inserter(out),
                 [](const PlotPoint& p) { return p.front && p.error > 0; });
  }
  std::stable_sort(out.begin(), out.end(), [](const PlotPoint& a, const PlotPoint& b) { return a.rate < b.rate; });
  return out;
}

std::string labels_of(const Panel& panel, double top, double height) {
  LabelSpace space({kLeft, kTop}, {kWidth - 2, kHeight - kBottom});
  for (const Family& family : panel.families) {
    for (std::size_t i = 0; i < family.points.size(); ++i) {
      space.add_point(panel.spot(family.points[i]));
      if (i > 0) space.add_line(panel.spot(family.points[i - 1]), panel.spot(family.points[i]));
    }
  }
  const std::vector<PlotPoint> front = front_of(panel);
  for (std::size_t i = 1; i < front.size(); ++i) space.add_line(panel.spot(front[i - 1]), panel.spot(front[i]));
  const std::string families = family_labels(panel, space, top, height);
  return families + front_labels(panel, space, top, height);
}

std::string data_of(const Panel& panel, std::size_t number) {
  std::string out;
  const auto row = [&](const PlotPoint& p) {
    return fmt::format("{:.9g} {:.9g}\n", p.rate, panel.shown_error(p.error));
  };
  for (std::size_t f = 0; f < panel.families.size(); ++f) {
    std::string line, open, full;
    for (const PlotPoint& p : panel.families[f].points) {
      (p.front ? full : open) += row(p);
      if (p.error > 0) line += row(p);  // no line leads to what has no place on the axis
    }
    for (const auto& [name, rows] : {std::pair("line", line), std::pair("open", open), std::pair("full", full)}) {
      if (!rows.empty()) out += fmt::format("${}{}_{} << KVZIP_END\n{}KVZIP_END\n", name, number, f, rows);
    }
  }
  std::string rows;
  for (const PlotPoint& p : front_of(panel)) rows += row(p);
  return rows.empty() ? out : out + fmt::format("$front{} << KVZIP_END\n{}KVZIP_END\n", number, rows);
}

std::string plot_command(const Panel& panel, std::size_t number) {
  std::string out = "plot NaN notitle";
  if (!front_of(panel).empty())
    out += fmt::format(", $front{} with lines lw 9 lc rgb '{}' title 'Pareto front'", number, kFront.light);
  for (std::size_t f = 0; f < panel.families.size(); ++f) {
    const Family& family = panel.families[f];
    const std::string ink(ink_of(f).light), title = gnuplot_quoted(family.name);
    const unsigned open = kOpen[f % std::size(kOpen)];
    const auto any = [&](auto is) { return std::any_of(family.points.begin(), family.points.end(), is); };
    if (any([](const PlotPoint& p) { return p.error > 0; })) {
      out += fmt::format(", $line{}_{} with lines lw 1.6 lc rgb '{}' title {}", number, f, ink, title);
    }
    if (any([](const PlotPoint& p) { return !p.front; })) {
      out +=
          fmt::format(", $open{}_{} with points pt {} ps 0.8 lw 1.5 lc rgb '{}' title {}", number, f, open, ink, title);
    }
    if (any([](const PlotPoint& p) { return p.front; })) {
      out +=
          fmt::format(", $full{}_{} with points pt {} ps 1 lc rgb '{}' title {}", number, f, filled(open), ink, title);
    }
  }
  return out + "\n";
}

std::string panel_script(const SweepDump& dump, const Measure& measure, std::size_t number, std::size_t count) {
  const Panel panel = panel_of(dump, measure);
  const double height = kHeight * static_cast<double>(count), top = kHeight * static_cast<double>(number);
  const auto up = [&](double y) { return 1 - (top + y) / height; };  // of the whole picture, from below
  std::string out = "unset label\nunset arrow\n";
  out +=
      fmt::format("set lmargin at screen {:.5f}\nset rmargin at screen {:.5f}\n", kLeft / kWidth, 1 - kRight / kWidth);
  out += fmt::format("set tmargin at screen {:.5f}\nset bmargin at screen {:.5f}\n", up(kTop), up(kHeight - kBottom));
  out += fmt::format("set xrange [{:.9g}:{:.9g}]\nset yrange [{:.9g}:{:.9g}]\n", panel.rate_from, panel.rate_to,
                     panel.error_from, panel.error_to);
  out += fmt::format("set xtics ({}) nomirror tc rgb '{}'\n", rate_ticks(panel), kText.light);
  out += fmt::format("set ytics ({}) nomirror tc rgb '{}'\n", error_ticks(panel), kText.light);
  if (panel.exact) {
    out +=
        fmt::format("set arrow from graph 0, first {0:.9g} to graph 1, first {0:.9g} nohead lw 1 lc rgb '{1}' back\n",
                    *panel.exact, kGrid.light);
  }
  const auto write = [&](std::string text, Spot at, const Ink& ink, int size, bool bold) {
    out += label_line({std::move(text), at}, top, height, ink, size, bold);
  };
  constexpr double kMargin = 16;
  write(plain_text(fmt::format("{}{}{}", dump.path, dump.model.empty() ? "" : ", ", dump.model), 100), {kMargin, 18},
        kText, 14, true);
  std::string line = fmt::format("{}, lower is better; grey band and filled markers: Pareto front", measure.label);
  if (panel.left_out > 0) line += fmt::format("; {} settings have no such figure", panel.left_out);
  write(line, {kMargin, 38}, kFaint, 12, false);
  if (panel.families.empty()) {
    write("nothing to draw: no setting has this measure", {kLeft + 40, kHeight / 2}, kText, 13, false);
  } else {
    out += labels_of(panel, top, height);
  }
  return out + data_of(panel, number) + plot_command(panel, number);
}

std::string script_of(const Sweep& sweep, const Measure& measure, bool png) {
  const std::size_t count = std::max<std::size_t>(sweep.dumps.size(), 1);
  const double height = kHeight * static_cast<double>(count);
  std::string out = plot_terminal(kWidth, height, png);
  // Names are text, never markup.
  out += "set termoption noenhanced\nset samples 2\nunset key\nset logscale x 2\nset logscale y 10\n";
  out += fmt::format("set border 3 lc rgb '{}'\nset tics out scale 0.6\n", kAxis.light);
  out += fmt::format("set grid xtics ytics lt 1 lw 1 lc rgb '{0}', lt 1 lw 1 lc rgb '{0}'\n", kGrid.light);
  out +=
      fmt::format("set xlabel 'bits per value, all bytes of the file counted' tc rgb '{}' offset 0,0.2\n", kText.light);
  out += "set multiplot\n";
  for (std::size_t d = 0; d < sweep.dumps.size(); ++d) out += panel_script(sweep.dumps[d], measure, d, count);
  return out + "unset multiplot\n";
}

}  // namespace

std::string plot_sweep(const Sweep& sweep, const Measure& measure, std::string_view extension) {
  const std::string drawn = run_gnuplot(script_of(sweep, measure, extension == "png"));
  return extension == "png" ? drawn : finish_svg(drawn, fmt::format("Rate against {}", measure.label));
}

void write_plot(const std::string& path, const Sweep& sweep, const Measure& measure, bool overwrite) {
  write_picture(path, plot_sweep(sweep, measure, plot_format(path)), overwrite);
}

}  // namespace kvzip::tool
