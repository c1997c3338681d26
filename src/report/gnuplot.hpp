// SPDX-License-Identifier: Apache-2.0
// Runs gnuplot. No shell is involved.
#pragma once

#include <string>
#include <string_view>

namespace kvzip::tool {

/// fail(io) that names the package when gnuplot is not on the path.
void require_gnuplot();
/// What the script writes to standard output; fail(io) with gnuplot's first complaint when it does not end well.
std::string run_gnuplot(std::string_view script);
/// A string of a script that is nothing but its text: no escapes, no line ends.
std::string gnuplot_quoted(std::string_view text);

}  // namespace kvzip::tool
