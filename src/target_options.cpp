// SPDX-License-Identifier: Apache-2.0
#include "target.hpp"

namespace kvzip::tool {

void add_targets(CLI::App& app, TargetOptions& options) {
  const auto add = [&](const char* name, std::optional<double>& value, const char* text) {
    const bool positive = &value == &options.ratio || &value == &options.bits;
    app.add_option(name, value, text)->option_text("X")->check(finite_range(positive ? 0.001 : 0, 1e12));
  };
  add("--target-ratio", options.ratio, "find the setting that makes the file X times smaller");
  add("--target-bits", options.bits, "... that takes X bits a value of K and V");
  add("--target-nrmse", options.nrmse, "... with the error X of keys and of values");
  add("--target-attention", options.attention, "... with the error X of attention outputs");
  add("--max-error", options.max_error, "... with every value within X of its original,\nchecked and stored");
  add_fidelity(app, options.fidelity);
}

}  // namespace kvzip::tool
