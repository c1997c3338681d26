// SPDX-License-Identifier: Apache-2.0
// --order: what stands together in a container, the tokens of a layer or the layers of some tokens.
#pragma once

#include <cstdint>
#include <string>

#include "src/cli/options.hpp"

namespace kvzip::tool {

/// Reads "layer" (0) or "token[:N]" (N). UsageError for anything else.
std::uint64_t parse_order(const std::string& text);
void add_order(CLI::App& app, std::string& order);

}  // namespace kvzip::tool
