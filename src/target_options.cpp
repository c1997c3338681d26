// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "target.hpp"

namespace kvzip::tool {

void add_targets(CLI::App& app, TargetOptions& options) {
  const auto add = [&](const char* name, std::optional<double>& value, const char* text) {
    const bool positive = &value == &options.ratio || &value == &options.bits;
    const CLI::Validator range(
        [positive](const std::string& given) {
          double x = 0;
          const bool good = CLI::detail::lexical_cast(given, x) && x >= (positive ? 0.001 : 0) && x <= 1e12;
          return good ? std::string() : fmt::format("{} is not a number from {} to 1e12", given, positive ? 0.001 : 0);
        },
        "");
    app.add_option(name, value, text)->option_text("X")->check(range);
  };
  add("--target-ratio", options.ratio, "find the setting that makes the file X times smaller");
  add("--target-bits", options.bits, "... that takes X bits a value of K and V");
  add("--target-nrmse", options.nrmse, "... with the error X of keys and of values");
  add("--target-attention", options.attention, "... with the error X of attention outputs");
  add("--max-error", options.max_error, "... with every value within X of its original,\nchecked and stored");
  add_fidelity(app, options.fidelity);
}

}  // namespace kvzip::tool
