// SPDX-License-Identifier: Apache-2.0
// What options take from the values of a dump (fit_options()).
#pragma once

#include <cstdint>
#include <vector>

#include "formats/kvz/kvz_plan.hpp"
#include "kvzip/container.hpp"

namespace kvzip {

/// `tables.stored`, for the other options.
Tables fit_tables(DumpReader& reader, const Recognition& recognition, const KvzOptions& options, unsigned threads,
                  const Progress& progress = {});

/// Tokens of a group before the padding of what its slots hold; all where that is only zeros.
std::uint64_t tokens_of_group(DumpReader& reader, const PlanGroup& group);

/// `used_tokens`.
std::vector<std::uint64_t> find_used_tokens(DumpReader& reader, const Recognition& recognition,
                                            const KvzOptions& options);

}  // namespace kvzip
