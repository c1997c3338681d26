// SPDX-License-Identifier: Apache-2.0
// Measures of attention as people and scripts read them. What is a proxy says so in its heading, and never shares a
// column with the real thing.
#pragma once

#include <string>

#include "src/measure/fidelity.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {

std::string fidelity_text(const Fidelity& fidelity, const FidelityOptions& options, bool heads);
/// Objects "attention", "attention2" and "proxy", those that there are.
Json fidelity_json(const Fidelity& fidelity, const FidelityOptions& options);
/// Lines with a heading.
std::string fidelity_csv(const Fidelity& fidelity);

}  // namespace kvzip::tool
