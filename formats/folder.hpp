// SPDX-License-Identifier: Apache-2.0
// A folder as one dump: caches that are saved as a file for each layer.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kvzip/io.hpp"

namespace kvzip {

/// True for 9 before 10: runs of digits compare by what they count.
bool numbers_ascend(std::string_view a, std::string_view b);
/// The dumps in a folder by their extensions, in the order of the numbers in their names; not those in folders in it,
/// hidden ones and containers. fail(io) where it cannot be read.
std::vector<std::string> dumps_in_folder(const std::string& path);
/// The files of a folder in the order of their tokens: those that its kvzip.json lists, else its dumps, or, of bare
/// elements, all files but hidden ones and .json, in the order that their names say (in_order_of_names).
/// fail(invalid_argument) where there is none.
std::vector<std::string> chunks_in_folder(const std::string& path, bool bare);
/// All dumps in it, joined: along the tokens in the order of a kvzip.json that has one or says that its files are bare
/// elements, else side by side. fail(invalid_argument) where there is none.
std::unique_ptr<DumpReader> open_folder(const std::string& path);

}  // namespace kvzip
