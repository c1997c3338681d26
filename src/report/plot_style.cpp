// SPDX-License-Identifier: Apache-2.0
#include "src/report/plot_style.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <span>

#include "codec/fail.hpp"
#include "formats/file.hpp"
#include "src/report/markup.hpp"

namespace kvzip::tool {
namespace {

/// Rules for dark surroundings: gnuplot writes colours as attributes, which style sheets overrule.
std::string style_of() {
  std::string dark;
  const auto add = [&](const Ink& ink) {
    for (const char* property : {"stroke", "fill", "color"}) {
      dark += fmt::format(".kvzip-plot [{0}=\"{1}\"]{{{0}:{2}}}", property, ink.light, ink.dark);
    }
  };
  for (const Ink& ink : kInks) add(ink);
  for (const Ink& ink : {kText, kFaint, kAxis, kGrid, kFront}) add(ink);
  return fmt::format(
      "<style>.kvzip-plot{{background:{};font-family:Helvetica,Arial,\"Liberation Sans\",sans-serif}}"
      "@media screen and (prefers-color-scheme:dark){{.kvzip-plot{{background:{}}}{}}}</style>\n",
      kPaper.light, kPaper.dark, dark);
}

/// gnuplot writes "rgb( 68,  68,  68)"; the style sheet's rules look for "#444444".
std::string with_hex_colours(std::string_view svg) {
  std::string out;
  for (std::size_t at = 0; at < svg.size();) {
    const std::size_t next = svg.find("rgb(", at);
    const std::size_t end = next == svg.npos ? svg.npos : svg.find(')', next);
    unsigned r = 0, g = 0, b = 0;
    const std::string text(end == svg.npos ? std::string_view() : svg.substr(next, end - next + 1));
    // NOLINTNEXTLINE(cert-err34-c): numbers of three digits, by gnuplot
    if (std::sscanf(text.c_str(), "rgb(%u ,%u ,%u)", &r, &g, &b) != 3 || r > 255 || g > 255 || b > 255) {
      const std::size_t stop = next == svg.npos ? svg.size() : next + 4;
      out += svg.substr(at, stop - at);
      at = stop;
      continue;
    }
    out += svg.substr(at, next - at);
    out += fmt::format("#{:02x}{:02x}{:02x}", r, g, b);
    at = end + 1;
  }
  return out;
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != text.npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

}  // namespace

std::string_view plot_format(std::string_view path) {
  for (const std::string_view format : {"svg", "png"}) {
    if (path.size() > format.size() && path.ends_with(format) && path[path.size() - format.size() - 1] == '.')
      return format;
  }
  fail(ErrorCode::invalid_argument, "{}: plots are .svg or .png", path);
}

std::string plot_terminal(double width, double height, bool png) {
  std::string out = "set encoding utf8\n";
  if (png) {
    // Twice the pixels, for print. gnuplot's points are larger than pixels there.
    out += fmt::format(
        "set terminal pngcairo size {},{} fontscale 1.5 linewidth 2 pointscale 2.4 font 'Helvetica,12' background "
        "'{}'\n",
        2 * width, 2 * height, kPaper.light);
  } else {
    out += fmt::format("set terminal svg size {},{} dynamic font 'Helvetica,12'\n", width, height);
  }
  return out;
}

std::string finish_svg(std::string svg, std::string_view what) {
  const std::size_t start = svg.find("<svg"), title = svg.find("<title>Gnuplot</title>");
  if (start == svg.npos || title == svg.npos) fail(ErrorCode::io, "gnuplot wrote something else than an SVG picture");
  const std::string about = escape_markup(what);
  svg.replace(title, std::string_view("<title>Gnuplot</title>").size(),
              fmt::format("<title>{}</title>\n{}", about, style_of()));
  svg.insert(start + 4, fmt::format(" class=\"kvzip-plot\" role=\"img\" aria-label=\"{}\"", about));
  constexpr std::string_view kFonts = "font-family=\"Helvetica,Arial,'Liberation Sans',sans-serif\"";
  replace_all(svg, "font-family=\"Helvetica\"", kFonts);
  replace_all(svg, "font-family=\"Helvetica:Bold\"", fmt::format("{} font-weight=\"bold\"", kFonts));
  return with_hex_colours(svg);
}

void write_picture(const std::string& path, std::string_view drawn, bool overwrite) {
  OutputFile out(path, overwrite);
  out.append(std::as_bytes(std::span(drawn)));
  out.finish();
}

}  // namespace kvzip::tool
