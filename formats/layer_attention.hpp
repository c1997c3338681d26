// SPDX-License-Identifier: Apache-2.0
// What a dump's file-level attributes say of single layers.
#pragma once

#include <span>
#include <string>
#include <utility>

#include "kvzip/layout.hpp"

namespace kvzip {

/// Fills `window` and `own` of a model whose `rope` and `layers` are known. man/kvzip.1, METADATA, is the definition;
/// what makes no sense is taken as absent. `user`: names and values that were given beside the dump, and go before it.
void read_layer_attention(const Dump& dump, ModelInfo& model,
                          std::span<const std::pair<std::string, std::string>> user = {});

}  // namespace kvzip
