// SPDX-License-Identifier: Apache-2.0
// What all pictures have in common: colours, and the frame that gnuplot's output gets.
#pragma once

#include <string>
#include <string_view>

namespace kvzip::tool {

// Colours that people with any kind of colour vision tell apart, dark enough for text on white, and their counterparts
// on black. Markers differ too: the number of one kind is prime to that of the other's.
struct Ink {
  std::string_view light, dark;
};
inline constexpr Ink kInks[] = {{"#0072b2", "#5ab4e6"}, {"#d55e00", "#ff9a52"}, {"#117733", "#62c77c"},
                                {"#aa4499", "#e79cdb"}, {"#332288", "#aaa0ff"}, {"#8a6d00", "#e3c34a"},
                                {"#882255", "#f08fb4"}, {"#2a8a80", "#5fd3c6"}};
inline constexpr Ink kText{"#222222", "#e8e8e8"}, kFaint{"#5f5f5f", "#a8a8a8"}, kAxis{"#444444", "#bcbcbc"},
    kGrid{"#e6e6e6", "#30363c"}, kFront{"#d4d4d4", "#4d545b"}, kPaper{"#ffffff", "#14171a"};

/// "svg" or "png", by the name of a file; fail(invalid_argument) for others.
std::string_view plot_format(std::string_view path);
/// The first lines of a script: a picture of so many pixels, twice as many of a PNG.
std::string plot_terminal(double width, double height, bool png);
/// gnuplot's SVG with a title, for light and dark surroundings. fail(io) when it is none.
std::string finish_svg(std::string svg, std::string_view what);
void write_picture(const std::string& path, std::string_view drawn, bool overwrite);

}  // namespace kvzip::tool
