// SPDX-License-Identifier: Apache-2.0
// A picture of what layers take, and of what coding does to them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvzip/role.hpp"

namespace kvzip::tool {

struct LayerPoint {
  std::uint32_t layer = 0;
  double bits = 0;                // per value
  std::optional<double> error{};  // nrmse
};

/// Bits per value by layer, a line for each role and one panel, and below it the errors where there are some.
/// `format`: see plot_format().
std::string plot_layers(const std::string& title, const std::map<Role, std::vector<LayerPoint>>& roles,
                        std::string_view format);

}  // namespace kvzip::tool
