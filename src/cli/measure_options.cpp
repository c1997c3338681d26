// SPDX-License-Identifier: Apache-2.0
#include "src/cli/measure_options.hpp"

namespace kvzip::tool {
namespace {

constexpr std::uint32_t kMostTop = 1u << 20;
constexpr double kLeastScale = 1e-6, kMostScale = 1e6;

}  // namespace

void add_fidelity(CLI::App& app, FidelityOptions& options) {
  add_text(app, "--queries", options.queries, "FILE", "queries from another file than the dump");
  add_text(app, "--queries2", options.queries2, "FILE", "a second, later set of queries, measured apart");
  app.add_option("--split", options.split, "tokens from N on stay the original's")->option_text("N");
  const auto per_head = [&options](const std::string& text) {
    std::uint32_t n = 0;
    if (text != "all" && (!CLI::detail::lexical_cast(text, n) || n == 0)) {
      throw CLI::ValidationError("--queries-per-head", text + ": expected a number, or 'all'");
    }
    options.queries_per_head = n;
  };
  app.add_option_function<std::string>("--queries-per-head", per_head, "evenly spaced; default 256")
      ->option_text("N|all");
  app.add_option("--top-k", options.top_k, "tokens whose overlap is measured; default 16")
      ->option_text("K")
      ->check(CLI::Range(1u, kMostTop));
  app.add_option("--attention-scale", options.scale, "of logits; default 1/sqrt(head_dim)")
      ->option_text("X")
      ->check(finite_range(kLeastScale, kMostScale));
}

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
