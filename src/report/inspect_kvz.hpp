// SPDX-License-Identifier: Apache-2.0
// What `inspect` says of a container.
#pragma once

#include <string>

#include "kvzip/container.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {

/// Tables with more rows than this show the layers that look alike as one row.
inline constexpr std::size_t kManyRows = 40;

Json container_json(const std::string& name, const Dump& dump, const Recognition& recognition,
                    const KvzSummary& summary);
std::string container_text(const std::string& name, const Dump& dump, const Recognition& recognition,
                           const KvzSummary& summary, bool all);
/// One or two lines on the model: its name, its sizes, its rotary embedding.
std::string model_text(const ModelInfo& model);

}  // namespace kvzip::tool
