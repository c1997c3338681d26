// SPDX-License-Identifier: Apache-2.0
// What a dump's file-level attributes say of its model.
#pragma once

#include <optional>

#include "formats/axes_choice.hpp"
#include "kvzip/layout.hpp"

namespace kvzip {

/// Values that make no sense are taken as absent: attributes of foreign files are hints.
ModelInfo read_model_info(const Dump& dump);
Rope read_rope(const Dump& dump);
ModelFacts read_model_facts(const Dump& dump);
/// The tensor that lists the tokens' ids: integers, [T] or [N, T]; none where several differ in T.
std::optional<std::size_t> find_token_ids(const Dump& dump);

}  // namespace kvzip
