// SPDX-License-Identifier: Apache-2.0
#include "src/report/layer_plot.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "src/report/gnuplot.hpp"
#include "src/report/markup.hpp"
#include "src/report/plot_style.hpp"

namespace kvzip::tool {
namespace {

constexpr double kWidth = 860, kPanel = 300, kHead = 40;  // pixels
constexpr std::size_t kLongest = 100;                     // letters of the title

using Roles = std::map<Role, std::vector<LayerPoint>>;

bool has_errors(const Roles& roles) {
  return std::any_of(roles.begin(), roles.end(), [](const auto& role) {
    return std::any_of(role.second.begin(), role.second.end(), [](const LayerPoint& p) { return p.error.has_value(); });
  });
}

/// One panel; `value` gives what is drawn of a point, or nothing.
template <typename Value>
std::string panel(const Roles& roles, std::string_view axis, std::size_t number, Value value) {
  std::string data, plot;
  std::size_t ink = 0;
  for (const auto& [role, points] : roles) {
    const std::string name = fmt::format("$panel{}_{}", number, ink);
    std::string rows;
    for (const LayerPoint& p : points) {
      if (const std::optional<double> v = value(p); v && std::isfinite(*v))
        rows += fmt::format("{} {:.9g}\n", p.layer, *v);
    }
    if (!rows.empty()) {
      data += fmt::format("{} << KVZIP_END\n{}KVZIP_END\n", name, rows);
      plot += fmt::format("{}{} with linespoints pt {} ps 0.7 lw 1.6 lc rgb '{}' title {}", plot.empty() ? "" : ", ",
                          name, 7 - 2 * (ink % 2), kInks[ink % std::size(kInks)].light,
                          gnuplot_quoted(std::string(role_name(role)) + "s"));
    }
    ++ink;
  }
  if (plot.empty()) return {};
  return data + fmt::format("set ylabel '{}' tc rgb '{}'\nplot {}\n", axis, kText.light, plot);
}

}  // namespace

std::string plot_layers(const std::string& title, const Roles& roles, std::string_view format) {
  const std::size_t panels = has_errors(roles) ? 2 : 1;
  const double height = kHead + kPanel * static_cast<double>(panels);
  std::string script = plot_terminal(kWidth, height, format == "png");
  script += "set termoption noenhanced\n";
  script +=
      fmt::format("set border 3 lc rgb '{}'\nset tics out nomirror scale 0.6 tc rgb '{}'\n", kAxis.light, kText.light);
  script += fmt::format("set grid xtics ytics lt 1 lw 1 lc rgb '{0}', lt 1 lw 1 lc rgb '{0}'\n", kGrid.light);
  script += fmt::format("set key top right horizontal tc rgb '{0}'\nset xlabel 'layer' tc rgb '{0}'\n", kText.light);
  std::uint32_t first = UINT32_MAX, last = 0;
  for (const auto& role : roles) {
    for (const LayerPoint& p : role.second) first = std::min(first, p.layer), last = std::max(last, p.layer);
  }
  // From 0, so that what looks twice as high is twice as much; and room for the key.
  script +=
      fmt::format("set xrange [{}:{}]\nset yrange [0:*]\nset offsets 0, 0, graph 0.15, 0\n", first - 0.5, last + 0.5);
  script += fmt::format("set multiplot layout {},1 title {} tc rgb '{}'\n", panels,
                        gnuplot_quoted(plain_text(title, kLongest)), kText.light);
  script += panel(roles, "bits per value", 0, [](const LayerPoint& p) { return std::optional(p.bits); });
  if (panels == 2) script += panel(roles, "error (nrmse)", 1, [](const LayerPoint& p) { return p.error; });
  const std::string drawn = run_gnuplot(script + "unset multiplot\n");
  return format == "png" ? drawn : finish_svg(drawn, "Bits per value and error by layer");
}

}  // namespace kvzip::tool
