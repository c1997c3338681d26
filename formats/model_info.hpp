// SPDX-License-Identifier: Apache-2.0
// What a dump's file-level attributes say of its model.
#pragma once

#include "formats/axes_choice.hpp"
#include "kvzip/layout.hpp"

namespace kvzip {

/// Values that make no sense are taken as absent: attributes of foreign files are hints.
ModelInfo read_model_info(const Dump& dump);
Rope read_rope(const Dump& dump);
ModelFacts read_model_facts(const Dump& dump);

}  // namespace kvzip
