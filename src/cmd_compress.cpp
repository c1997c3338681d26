// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <sys/stat.h>

#include <map>
#include <memory>

#include "formats/file.hpp"
#include "kvzip/container.hpp"
#include "src/cli/measure_options.hpp"
#include "src/cli/padding.hpp"
#include "src/cli/selecting.hpp"
#include "src/commands.hpp"
#include "src/measure/saliency_source.hpp"
#include "src/report/report.hpp"
#include "src/tune/target.hpp"

namespace kvzip::tool {
namespace {

struct Options {
  Common common;
  Recognising recognising;
  Selecting selecting;
  Goals goals;
  FidelityOptions fidelity;
  std::vector<std::string> in;
  std::string out, preset, key, value, chunk_tokens, tables, saliency;
};

/// "a.safetensors", "a.safetensors and 2 more".
std::string inputs_name(const Options& o) {
  const std::string first = input_name(o.in[0]);
  return o.in.size() == 1 ? first : fmt::format("{} and {} more", first, o.in.size() - 1);
}

std::uint64_t tensor_bytes(const Dump& dump) {
  std::uint64_t bytes = 0;
  for (const TensorInfo& tensor : dump.tensors) bytes += tensor.bytes();
  return bytes;
}

/// "preset near-lossless, --key ..., --value ...".
std::string recipe(const Options& o, const RuleSet& rules) {
  std::string text = (o.goals.empty() ? "preset " : "") + rules.name;
  if (!o.key.empty()) text += ", key " + o.key;
  if (!o.value.empty()) text += ", value " + o.value;
  return text;
}

/// What was done, measured on the finished file. A pipe cannot be looked at again.
void summarise(const Options& o, const RuleSet& rules, const Recognition& recognition, std::uint64_t source_bytes) {
  std::string line = fmt::format("{}: {} -> ", inputs_name(o), size_text(source_bytes));
  if (is_stream_output(o.out)) {
    note(line + fmt::format("{}, {}", is_standard_output(o.out) ? "standard output" : o.out, recipe(o, rules)));
    return;
  }
  const KvzSummary summary = open_kvz(o.out)->summary();
  std::uint64_t bytes = 0, values = 0;
  for (const KvzGroup& group : summary.groups) {
    if (group.role != Role::key && group.role != Role::value && group.role != Role::pair) continue;
    bytes += group.coded_bytes;
    values += group.values;
  }
  line +=
      fmt::format("{} ({:.2f}x", size_text(summary.file_bytes), ratio_of(source_bytes, summary.file_bytes).value_or(0));
  if (const auto bits = bits_of(bytes, values)) line += fmt::format(", {:.2f} bits/value of K and V", *bits);
  note(line + "), " + recipe(o, rules));
  if (recognition.recognised == 0) note("nothing was recognised as key or value, so everything was stored losslessly");
  if (o.common.verbose == 0) return;
  std::map<std::string, std::uint64_t> pipelines;
  for (const KvzGroup& group : summary.groups) {
    pipelines[fmt::format("{} = {}", role_name(group.role), group.pipeline)] += group.coded_bytes;
  }
  for (const auto& [pipeline, coded] : pipelines) note(fmt::format("  {}: {}", pipeline, size_text(coded)));
}

void check_target(const Options& o) {
  if (o.goals.size() > 1)
    throw UsageError("one target at a time: --target-ratio, -bits, -nrmse, -attention or --max-error");
  const FidelityOptions plain, &f = o.fidelity;
  const bool asked = !f.queries2.empty() || f.split || f.top_k != plain.top_k ||
                     f.queries_per_head != plain.queries_per_head || f.scale != plain.scale;
  if (o.goals.empty() && asked) throw UsageError("--queries2 and the other options of attention go with a target");
  if (!o.goals.empty() && !(o.preset.empty() && o.key.empty() && o.value.empty())) {
    throw UsageError("a target finds the setting itself: leave out --preset, --key and --value");
  }
}

/// The input with its queries, where what is stored leaves them out; null otherwise. A pipe comes but once.
std::unique_ptr<DumpReader> open_with_queries(const Options& o, const KeyValues& meta) {
  const std::vector<Role> roles = o.selecting.selection().roles;
  const bool piped = std::find(o.in.begin(), o.in.end(), "-") != o.in.end();
  if (roles.empty() || piped || std::find(roles.begin(), roles.end(), Role::query) != roles.end()) return nullptr;
  Selecting with = o.selecting;
  with.role += ",query";
  return open_selected(o.in, with, o.recognising, {}, meta);
}

int compress(const Options& o) {
  if (o.out.empty()) throw UsageError("several inputs give no name for the container: give one with -o");
  KvzOptions options;
  if (o.goals.empty())
    options.rules = load_rules(o.preset.empty() ? std::string(kDefaultPreset) : o.preset, o.key, o.value);
  check_target(o);
  options.chunk_tokens = parse_chunk_tokens(o.chunk_tokens);
  options.user = parse_meta(o.recognising.meta);
  for (const std::string& in : o.in) refuse_same_file(in, o.out);
  FidelityOptions fidelity = o.fidelity;
  fidelity.recognise = recognise_options(o.recognising);
  const auto run = [&] {
    const bool part = !o.selecting.selection().empty();
    Recognising recognising = o.recognising;
    recognising.say = !o.common.quiet;
    const auto reader = part ? open_selected(o.in, o.selecting, recognising, {}, options.user) : open_inputs(o.in);
    const Recognition recognition = part ? *reader->recognition() : recognise_input(*reader, recognising, options.user);
    const std::string padded = o.common.quiet ? std::string() : padding_text(*reader, recognition);
    if (!padded.empty()) note(padded);
    const auto with_queries = open_with_queries(o, options.user);
    SaliencySource saliency(with_queries ? *with_queries : *reader,
                            with_queries ? *with_queries->recognition() : recognition, o.saliency, o.fidelity.queries,
                            fidelity.recognise, o.common.threads);
    bool met = true;
    if (!o.goals.empty() && reader->traits().once) {
      throw UsageError("a target reads a container several times: give it as a file, not from a pipe");
    }
    if (!o.goals.empty()) {
      refuse_existing(o.out, o.common.force);
      TargetOutcome outcome = find_target(*reader, recognition, *o.goals[0], fidelity, options, o.common.threads,
                                          o.common.quiet, &saliency);
      options = std::move(outcome.options);
      met = outcome.met;
      if (!met) complain(fmt::format("{}: {}", inputs_name(o), outcome.said));
      if (met && !o.common.quiet) note(outcome.said);
    }
    options.saliency = saliency.of(options.rules);
    if (o.common.verbose > 0 && !o.common.quiet && !saliency.said().empty()) note(saliency.said());
    if (!o.tables.empty()) options.tables.beside = load_tables(o.tables);
    if (!reader->traits().once) options.tables.stored = fit_tables(*reader, recognition, options, o.common.threads);
    const auto writer = create_kvz_writer(o.out, reader->dump(), recognition, options, o.common.force);
    {
      ProgressLine progress(inputs_name(o), !o.common.quiet);
      transcode(*reader, *writer, o.common.threads, progress.callback());
    }
    writer->finish();
    if (!o.common.quiet) summarise(o, options.rules, recognition, tensor_bytes(reader->dump()));
    return met ? kDone : kMissed;
  };
  return with_file(o.in[0], run);
}

}  // namespace

void add_compress(CLI::App& app, Action& action) {
  CLI::App* command =
      add_command(app, {"compress", "compress a dump into a .kvz container", "kvzip compress IN... [-o OUT] [OPTIONS]",
                        "  kvzip compress cache.safetensors -o cache.kvz --preset gear-2\n"
                        "  kvzip compress layer-*.safetensors -o cache.kvz\n"
                        "  kvzip synth --layers 8 --heads 2 --head-dim 128 --tokens 1024 -o - \\\n"
                        "    --to safetensors | kvzip compress - --preset kivi-2 -o cache.kvz"});
  auto o = std::make_shared<Options>();
  command->add_option("IN", o->in, "dump or container to read; of several, all tensors together");
  add_text(*command, "-o,--output", o->out, "OUT", "container to write (default: IN.kvz)");
  add_text(*command, "--preset", o->preset, "NAME|FILE", fmt::format("how to code (default: {})", kDefaultPreset));
  add_text(*command, "--key", o->key, "SPEC", "pipeline for keys, instead of the preset's");
  add_text(*command, "--value", o->value, "SPEC", "pipeline for values, instead of the preset's");
  add_text(*command, "--chunk-tokens", o->chunk_tokens, "N|all", "tokens coded together and read by themselves");
  add_text(*command, "--saliency", o->saliency, "SOURCE", "which tokens matter: queries, proxy or none")
      ->check(CLI::IsMember({"queries", "proxy", "none"}));
  add_text(*command, "--tables", o->tables, "FILE", "tables (.kvzd) that pipelines name, as klt:basis=NAME");
  add_texts(*command, "--meta", o->recognising.meta, "KEY=VALUE",
            "stored in OUT, and used for IN's metadata (axes=HTD)");
  add_goals(*command, o->goals);
  add_fidelity(*command, o->fidelity);
  add_selecting(*command, o->selecting, "only key, value, query or other; or a list: key,value");
  add_recognising(*command, o->recognising);
  add_threads(*command, o->common);
  add_trust(*command);
  add_force(*command, o->common);
  add_verbosity(*command, o->common);
  command->callback([o, &action] {
    if (o->in.empty()) o->in.push_back(piped_input("IN"));
    if (o->out.empty() && o->in.size() == 1) o->out = o->in[0] == "-" ? "-" : o->in[0] + ".kvz";
    action = [o] { return compress(*o); };
  });
}

}  // namespace kvzip::tool
