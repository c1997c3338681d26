// SPDX-License-Identifier: Apache-2.0
// The description at the front of a container: a JSON text (man/kvz.5, "Header").
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/kvz/kvz_plan.hpp"
#include "kvzip/container.hpp"

namespace kvzip {

struct KvzHeader {
  std::string writer, preset;
  std::vector<std::pair<std::string, std::string>> user;
  Dump dump;
  Recognition recognition;
  Plan plan;  // finished
  std::optional<KvzBase> base{};
};

std::string write_kvz_header(const KvzHeader& header);
/// Hostile text: everything is checked, and the plan is finished. Errors are corrupt, unsupported or limit. `features`
/// are those of the prelude: what they do not name is not looked at.
KvzHeader read_kvz_header(std::string_view text, std::uint32_t features);

}  // namespace kvzip
