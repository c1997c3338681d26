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
/// All of them, joined. fail(invalid_argument) where there is none.
std::unique_ptr<DumpReader> open_folder(const std::string& path);

}  // namespace kvzip
