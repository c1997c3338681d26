// SPDX-License-Identifier: Apache-2.0
// What a dump's file-level attributes say of its model.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "formats/axes_choice.hpp"
#include "kvzip/layout.hpp"

namespace kvzip {

/// Values that make no sense are taken as absent: attributes of foreign files are hints.
ModelInfo read_model_info(const Dump& dump);
Rope read_rope(const Dump& dump);
ModelFacts read_model_facts(const Dump& dump);
/// What is wrong with a value that the user gives for one of these attributes, NAME or NAME[LAYERS]; empty for an empty
/// value, which says nothing, and for names that mean nothing here.
std::string metadata_problem(std::string_view name, std::string_view value);
/// The tensor that lists the tokens' ids: integers, [T] or [N, T]; none where several differ in T.
std::optional<std::size_t> find_token_ids(const Dump& dump);

}  // namespace kvzip
