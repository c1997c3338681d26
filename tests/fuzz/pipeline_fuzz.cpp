// SPDX-License-Identifier: Apache-2.0
// Any text is refused, or its canonical form is a fixed point and its rules survive being written down again.
#include <cstdlib>
#include <string_view>

#include "codec/pipeline.hpp"
#include "kvzip/error.hpp"
#include "kvzip/rules.hpp"

namespace {

using namespace kvzip;

void check_pipeline(std::string_view text) {
  std::string canonical;
  try {
    canonical = canonical_pipeline(text);
  } catch (const Error& e) {
    if (e.code() != ErrorCode::invalid_argument) std::abort();
    return;
  }
  if (canonical_pipeline(canonical) != canonical) std::abort();
  const std::string all = Pipeline::parse(text).text(true);
  if (Pipeline::parse(all).text(true) != all || canonical_pipeline(all) != canonical) std::abort();
}

void check_rules(std::string_view text) {
  try {
    const RuleSet set = RuleSet::parse(text, "fuzz");
    for (const Rule& rule : set.rules) {
      if (canonical_pipeline(rule.pipeline) != rule.pipeline) std::abort();
      rule.matches(rule.role, 3, 32);
    }
  } catch (const Error& e) {
    if (e.code() != ErrorCode::invalid_argument) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check_pipeline(text);
  check_rules(text);
  return 0;
}
