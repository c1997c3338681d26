// SPDX-License-Identifier: Apache-2.0
// Measuring settings on a dump: each one is written to a temporary container, decoded, and compared.
#pragma once

#include "kvzip/container.hpp"
#include "src/request/selecting.hpp"
#include "src/sweep/settings.hpp"
#include "src/sweep/sweep.hpp"

namespace kvzip::tool {

struct SweepRequest {
  std::vector<Setting> settings;
  Recognising recognising;
  Selecting selecting;
  FidelityOptions fidelity;
  std::string chunk_tokens;  // --chunk-tokens
  std::string resume;        // a folder that keeps finished rows; empty = none
  std::string measure;       // one that the dump must have, or this is an error after its first row; empty = any
  bool quiet = false;
};

/// One row for each setting on the keys and values of a dump.
SweepDump sweep_dump(const std::string& path, const SweepRequest& request);

/// The command that writes the file a row is about, and what it writes with: the setting's rules under the name that
/// the command gives them, which is a part of the file.
struct Recipe {
  std::string command;
  KvzOptions options;
};
Recipe recipe_of(const std::string& path, const SweepRequest& request, const Setting& setting);

}  // namespace kvzip::tool
