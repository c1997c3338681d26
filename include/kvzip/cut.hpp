// SPDX-License-Identifier: Apache-2.0
// Smaller copies of containers, without a value decoded.
#pragma once

#include <string>

#include "kvzip/io.hpp"

namespace kvzip {

/// Copies a container, whose pipelines that end with a stage of nested parts (`nested`) keep those for this share of
/// the channels, from 0 to 1, and no more than they had. All else is copied, but for the records of results and of
/// pages, which would not be true any more. fail(invalid_argument) where there is no such pipeline. `in` is a file;
/// `progress` is of its bytes.
void cut_kvz(const std::string& in, const std::string& out, double share, bool overwrite,
             const Progress& progress = {});

}  // namespace kvzip
