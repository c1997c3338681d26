// SPDX-License-Identifier: Apache-2.0
#include "src/cli/measure_options.hpp"

#include "codec/number.hpp"

namespace kvzip::tool {
namespace {

constexpr std::uint32_t kMostTop = 1u << 20;
constexpr double kLeastScale = 1e-6, kMostScale = 1e6;

}  // namespace

void add_attention_scale(CLI::App& app, double& scale) {
  app.add_option("--attention-scale", scale, "of logits; default 1/sqrt(head_dim)")
      ->option_text("X")
      ->transform(number_in(kLeastScale, kMostScale));
}

void add_queries_per_head(CLI::App& app, std::uint32_t& most) {
  const auto parse = [&most](const std::string& text) {
    const auto n = text == "all" ? 0 : parse_number<std::uint32_t>(text, 1);
    if (!n) throw CLI::ValidationError("--queries-per-head", text + ": expected a number, or 'all'");
    most = *n;
  };
  app.add_option_function<std::string>("--queries-per-head", parse, "evenly spaced; default 256")->option_text("N|all");
}

void add_fidelity(CLI::App& app, FidelityOptions& options) {
  add_text(app, "--queries", options.queries, "FILE", "queries from another file than the dump");
  add_text(app, "--queries2", options.queries2, "FILE", "a second, later set of queries, measured apart");
  app.add_option("--split", options.split, "tokens from N on stay the original's")
      ->option_text("N")
      ->transform(number_in<std::uint64_t>(0));
  add_queries_per_head(app, options.queries_per_head);
  app.add_option("--top-k", options.top_k, "tokens whose overlap is measured; default 16")
      ->option_text("K")
      ->transform(number_in(1u, kMostTop));
  add_attention_scale(app, options.scale);
}

void add_goals(CLI::App& app, Goals& goals) {
  constexpr double kMost = 1e12;
  for (const GoalKind& kind : goal_kinds()) {
    const auto add = [&goals, &kind](double wanted) { goals.push_back(kind.make(wanted)); };
    app.add_option_function<double>(std::string(kind.option), add, std::string(kind.help))
        ->option_text("X")
        ->transform(number_in(kind.least, kMost));
  }
}

}  // namespace kvzip::tool
