// SPDX-License-Identifier: Apache-2.0
// What is said of a model that a cache is of.
#pragma once

#include <string>

#include "kvzip/layout.hpp"

namespace kvzip::tool {

/// One or two lines: its name, its sizes, its rotary embedding.
std::string model_text(const ModelInfo& model);

}  // namespace kvzip::tool
