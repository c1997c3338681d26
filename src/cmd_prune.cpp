// SPDX-License-Identifier: Apache-2.0
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <memory>

#include "codec/fail.hpp"
#include "codec/number.hpp"
#include "formats/hdf5/hdf5.hpp"
#include "formats/mlx_cache.hpp"
#include "formats/row_places.hpp"
#include "formats/selection.hpp"
#include "formats/used_rows.hpp"
#include "src/commands.hpp"
#include "src/prune/merge.hpp"
#include "src/prune/pruned_reader.hpp"
#include "src/report/progress.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

enum class Policy : std::uint8_t { h2o, keyformer, kvmerger, streaming };
constexpr std::array<std::string_view, 4> kPolicies{"h2o", "keyformer", "kvmerger", "streaming"};

struct PruneArguments {
  Common common;
  Recognising recognising;
  std::string in, out, to, queries, mask, keep, by_name, policy_name = "h2o";
  std::optional<std::uint64_t> sinks, window;
  std::uint64_t seed = 0;
  std::uint32_t queries_per_head = 0;

  Policy policy() const { return static_cast<Policy>(std::ranges::find(kPolicies, policy_name) - kPolicies.begin()); }
  KeepBy by() const { return by_name == "head" ? KeepBy::head : by_name == "layer" ? KeepBy::layer : KeepBy::sequence; }
  bool scored() const { return mask.empty() && policy() != Policy::streaming; }
};

/// Of `tokens`; a share stands for at least one token.
std::uint64_t tokens_to_keep(const std::string& text, std::uint64_t tokens) {
  if (!text.empty() && text.back() == '%') {
    const auto share = parse_number<double>(std::string_view(text).substr(0, text.size() - 1), 0, 100);
    if (share) {
      const double kept = std::round(*share / 100 * static_cast<double>(tokens));
      return kept < static_cast<double>(tokens) ? std::max<std::uint64_t>(static_cast<std::uint64_t>(kept), 1) : tokens;
    }
  } else if (const auto n = parse_number<std::uint64_t>(text, 1)) {
    return std::min(*n, tokens);
  }
  throw UsageError(fmt::format("--keep {}: expected tokens, as 256, or a share of them, as 20%", text));
}

/// H2O keeps as many recent tokens as heavy hitters.
Budget budget_of(const PruneArguments& o, std::uint64_t tokens) {
  Budget out{tokens_to_keep(o.keep, tokens), 0, 0};
  const bool streaming = o.policy() == Policy::streaming;
  constexpr std::uint64_t kStreamingSinks = 4;
  out.sinks = o.sinks.value_or(streaming ? std::min(kStreamingSinks, out.tokens) : 0);
  const std::uint64_t rest = out.tokens > out.sinks ? out.tokens - out.sinks : 0;
  std::uint64_t window = 0;
  if (o.policy() == Policy::h2o) window = rest / 2;
  if (o.policy() == Policy::keyformer) window = rest / 10 * 3 + rest % 10 * 3 / 10;
  out.window = streaming ? rest : o.window.value_or(window);
  if (out.sinks > out.tokens || out.window > out.tokens - out.sinks) {
    throw UsageError(fmt::format("--keep {}: of {} tokens {} stay, fewer than {} sinks and a window of {}", o.keep,
                                 tokens, out.tokens, out.sinks, out.window));
  }
  if (o.policy() == Policy::kvmerger && out.tokens < tokens && out.tokens == out.sinks + out.window) {
    throw UsageError(fmt::format("--keep {}: sinks and window leave no token for what is merged", o.keep));
  }
  return out;
}

Kept choose(const PruneArguments& o, DumpReader& reader, const Recognition& roles) {
  const HeadMap heads = find_heads(reader.dump(), roles, 0);
  const std::uint64_t tokens = common_tokens(heads);
  if (!o.mask.empty()) {
    const std::string text = read_rules_text(o.mask);
    std::vector<std::uint64_t> list = in_file(o.mask, [&] { return parse_mask(text, tokens); });
    std::vector<double> stays(tokens, 0);
    for (const std::uint64_t token : list) stays[token] = 1;
    const std::uint64_t sinks = std::min(o.sinks.value_or(0), tokens), window = std::min(o.window.value_or(0), tokens);
    list.clear();
    for (std::uint64_t t = 0; t < tokens; ++t) {
      if (t < sinks || t >= tokens - window || stays[t] != 0) list.push_back(t);
    }
    if (list.empty()) fail_in(o.mask, ErrorCode::invalid_argument, "no token would stay");
    return keep_same(heads, list);
  }
  const Budget budget = budget_of(o, tokens);
  if (o.policy() == Policy::streaming) return keep_same(heads, choose_tokens(std::vector<double>(tokens), budget));
  Asking asking(reader, roles, {o.queries, o.queries_per_head, recognise_options(o.recognising)});
  if (!asking.note().empty() && !o.common.quiet) note(asking.note());
  ScoreOptions scoring;
  scoring.keyformer = o.policy() == Policy::keyformer;
  scoring.seed = o.seed;
  scoring.threads = o.common.threads;
  ProgressLine progress("scores", !o.common.quiet, "layers");
  const auto scores = score_tokens(asking, scoring, progress.callback());
  if (o.policy() == Policy::kvmerger) return keep_by_merging(reader, asking.layers(), scores, o.by(), budget);
  return keep_by_scores(scores, o.by(), budget);
}

/// Without the padding at its end, which is no recent token and has no attention; `roles` become those of what stays.
std::unique_ptr<DumpReader> without_padding(std::unique_ptr<DumpReader> reader, Recognition& roles, bool quiet) {
  const std::uint64_t tokens = common_tokens(find_heads(reader->dump(), roles, 0));
  const RowPlaces places = row_places(*reader, roles);
  std::uint64_t used = 0;
  for (std::size_t t = 0; t < roles.tensors.size(); ++t) {
    if (places.rows[t] == 0) continue;
    used = std::max(used, std::min(places.rows[t], used_rows(*reader, t, roles.tensors[t].axes.find('T'))));
  }
  if (used == 0 || used >= tokens) return reader;
  if (!quiet) note(fmt::format("tokens {} to {} are padding, and go", used, tokens - 1));
  Selection before;
  before.tokens = {0, used};
  reader = select_positions(std::move(reader), roles, before);
  roles = *reader->recognition();
  return reader;
}

void check(const PruneArguments& o) {
  if (o.mask.empty() && o.keep.empty())
    throw UsageError("--keep or --mask is required: how many tokens stay, or which");
  if (!o.mask.empty() && !o.keep.empty()) throw UsageError("--keep and --mask: choose one");
  if (!o.scored() && (!o.queries.empty() || !o.by_name.empty())) {
    throw UsageError("a mask and --policy streaming ask no queries and are the same for all layers and heads");
  }
  if (o.mask.empty() && o.policy() == Policy::streaming && o.window) {
    throw UsageError("--window: with --policy streaming all that --keep leaves beside the sinks is the window");
  }
}

int prune(const PruneArguments& o) {
  check(o);
  const std::string format = output_format(o.out, o.to);
  refuse_same_file({o.in, o.mask, o.queries}, o.out);
  return with_file(o.in, [&] {
    auto reader = open_reader(o.in);
    require_file(*reader, "prune");
    if (MlxCache(reader->dump()).present()) {
      fail(ErrorCode::invalid_argument,
           "a prompt cache of MLX, which counts rows and positions by one number, so that mlx-lm loads none that lacks "
           "tokens in between; 'kvzip compress --tokens A:B' takes those of a range");
    }
    Recognition roles = recognise_input(*reader, o.recognising, {});
    const auto beside = hdf5_left_out(*reader);
    if (!beside.empty() && !o.common.quiet) note(fmt::format("left out: {}", fmt::join(beside, "; ")));
    if (o.mask.empty()) reader = without_padding(std::move(reader), roles, o.common.quiet);
    const Kept kept = choose(o, *reader, roles);
    PrunedReader pruned(*reader, roles, kept);
    const auto writer = create_writer(o.out, format, pruned.dump(), o.common.force);
    {
      ProgressLine progress(input_name(o.in), !o.common.quiet);
      transcode(pruned, *writer, o.common.threads, progress.callback());
    }
    writer->finish();
    if (o.common.verbose > 0) {
      note(fmt::format("{}: {} of {} tokens -> {}", input_name(o.in), kept.tokens,
                       common_tokens(find_heads(reader->dump(), roles, 0)), o.out));
    }
    return kDone;
  });
}

}  // namespace

void add_prune(CLI::App& app, Action& action) {
  CLI::App* command = add_command(app, {"prune", "leave out tokens that attention does not need",
                                        "kvzip prune IN OUT --keep N|P% | --mask FILE [OPTIONS]",
                                        "  kvzip prune cache.h5 small.h5 --keep 20% --policy keyformer --by head\n"
                                        "  kvzip prune cache.safetensors - --to hdf5 --keep 512 --policy streaming"});
  auto o = std::make_shared<PruneArguments>();
  command->add_option("IN", o->in, "any file kvzip reads")->required();
  command->add_option("OUT", o->out, "file to write; its extension gives the format")->required();
  add_text(*command, "--to", o->to, "FORMAT", "safetensors, hdf5, npz or npy, whatever OUT is called");
  add_text(*command, "--keep", o->keep, "N|P%", "tokens that stay, of each list");
  add_text(*command, "--policy", o->policy_name, "NAME", "h2o (default), keyformer, kvmerger or streaming")
      ->check(one_of({"h2o", "keyformer", "kvmerger", "streaming"}));
  add_text(*command, "--by", o->by_name, "UNIT", "a list for each layer or head; default sequence")
      ->check(one_of({"sequence", "layer", "head"}));
  add_text(*command, "--mask", o->mask, "FILE", "a digit a token: 1 stays, 0 goes");
  command->add_option("--sinks", o->sinks, "first tokens that always stay")
      ->option_text("N")
      ->transform(number_in<std::uint64_t>(0));
  command->add_option("--window", o->window, "last tokens that always stay")
      ->option_text("N")
      ->transform(number_in<std::uint64_t>(0));
  add_text(*command, "--queries", o->queries, "FILE", "queries from another file than the dump");
  const auto per_head = [o](const std::string& text) {
    const auto n = text == "all" ? 0 : parse_number<std::uint32_t>(text, 1);
    if (!n) throw CLI::ValidationError("--queries-per-head", text + ": expected a number, or 'all'");
    o->queries_per_head = *n;
  };
  command->add_option_function<std::string>("--queries-per-head", per_head, "evenly spaced; default all")
      ->option_text("N|all");
  command->add_option("--seed", o->seed, "of keyformer's noise; default 0")
      ->option_text("N")
      ->transform(number_in<std::uint64_t>(0));
  add_recognising(*command, o->recognising);
  add_threads(*command, o->common);
  add_trust(*command);
  add_force(*command, o->common);
  add_verbosity(*command, o->common);
  command->callback([o, &action] { action = [o] { return prune(*o); }; });
}

}  // namespace kvzip::tool
