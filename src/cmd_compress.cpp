// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "codec/limits.hpp"
#include "formats/collection.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/left_out.hpp"
#include "src/cli/batch.hpp"
#include "src/cli/input_removal.hpp"
#include "src/cli/measure_options.hpp"
#include "src/cli/order.hpp"
#include "src/cli/padding.hpp"
#include "src/cli/shared_batch.hpp"
#include "src/commands.hpp"
#include "src/measure/page_digests.hpp"
#include "src/measure/saliency_source.hpp"
#include "src/report/progress.hpp"
#include "src/report/report.hpp"
#include "src/tune/target.hpp"

namespace kvzip::tool {
namespace {

struct CompressArguments {
  Common common;
  Recognising recognising;
  Selecting selecting;
  Goals goals;
  FidelityOptions fidelity;
  Batch batch;
  std::string out, preset, key, value, chunk_tokens, tables, saliency, order;
  int level = 0;
  std::uint32_t pages = 0;  // tokens of one; 0 = none are stored
  bool remove = false, share = false;
};

/// What becomes one container.
struct Job {
  std::vector<std::string> in;
  std::string out;
  CollectionWriter* all = nullptr;  // whose member it is; `out` opens it once it is written
};

/// From the most that is kept to the smallest; 6 is the default.
constexpr std::array<std::string_view, 9> kLevels{"lossless",       "int8",           "near-lossless",
                                                  "kvzip-near",     "kvzip-near",     "kvzip-near",
                                                  "kvzip-balanced", "kvzip-balanced", "kvzip-small"};
static_assert(kLevels[5] == kDefaultPreset);

/// "a.safetensors", "a.safetensors and 2 more".
std::string inputs_name(const Job& job) {
  const std::string first = input_name(job.in[0]);
  return job.in.size() == 1 ? first : fmt::format("{} and {} more", first, job.in.size() - 1);
}

std::uint64_t tensor_bytes(const Dump& dump) {
  std::uint64_t bytes = 0;
  for (const TensorInfo& tensor : dump.tensors) bytes += tensor.bytes();
  return bytes;
}

/// "preset near-lossless, --key ..., --value ...".
std::string recipe(const CompressArguments& o, const RuleSet& rules) {
  std::string text = (o.goals.empty() ? "preset " : "") + rules.name;
  if (!o.key.empty()) text += ", key " + o.key;
  if (!o.value.empty()) text += ", value " + o.value;
  return text;
}

/// What was done, measured on the finished file. A pipe cannot be looked at again.
void say_done(const CompressArguments& o, const Job& job, const RuleSet& rules, const Outcome& outcome) {
  const std::string line = fmt::format("{}: {} -> ", inputs_name(job), size_text(*outcome.source_bytes));
  if (!outcome.file_bytes) {
    note(line + fmt::format("{}, {}", is_standard_output(job.out) ? "standard output" : job.out, recipe(o, rules)));
    return;
  }
  const KvzSummary summary = open_kvz(job.out)->summary();
  std::uint64_t bytes = 0, values = 0;
  std::map<std::string, std::uint64_t> pipelines;
  for (const KvzGroup& group : summary.groups) {
    pipelines[fmt::format("{} = {}", role_name(group.role), group.pipeline)] += group.coded_bytes;
    if (group.role != Role::key && group.role != Role::value && group.role != Role::pair) continue;
    bytes += group.coded_bytes;
    values += group.values;
  }
  std::string after = fmt::format("{} ({:.2f}x", size_text(summary.file_bytes),
                                  ratio_of(*outcome.source_bytes, summary.file_bytes).value_or(0));
  if (const auto bits = bits_of(bytes, values)) after += fmt::format(", {:.2f} bits/value of K and V", *bits);
  if (outcome.shared_tokens > 0) {
    after += fmt::format(", {} tokens of {} shared with {}", outcome.shared_tokens, size_text(outcome.shared_bytes),
                         summary.base->file);
  }
  const std::string order = summary.appended == 0 ? "" : fmt::format(", {} containers of tokens", summary.appended + 1);
  note(line + after + "), " + recipe(o, rules) + order);
  if (o.common.verbose == 0) return;
  for (const auto& [pipeline, coded] : pipelines) note(fmt::format("  {}: {}", pipeline, size_text(coded)));
}

void check_target(const CompressArguments& o) {
  if (o.level != 0 && !o.preset.empty()) throw UsageError("-1 to -9 are presets: leave out the level or --preset");
  if (o.goals.size() > 1)
    throw UsageError("one target at a time: --target-ratio, -bits, -nrmse, -attention or --max-error");
  const FidelityOptions plain, &f = o.fidelity;
  const bool asked = !f.queries2.empty() || f.split || f.top_k != plain.top_k ||
                     f.queries_per_head != plain.queries_per_head || f.scale != plain.scale;
  if (o.goals.empty() && asked) throw UsageError("--queries2 and the other options of attention go with a target");
  if (!o.goals.empty() && !(o.level == 0 && o.preset.empty() && o.key.empty() && o.value.empty())) {
    throw UsageError("a target finds the setting itself: leave out --preset, --key, --value and levels");
  }
}

void check_sharing(const CompressArguments& o) {
  if (!o.share) return;
  if (o.pages > 0 || !o.selecting.selection().empty() || parse_order(o.order) > 0) {
    throw UsageError("--share-prefix takes whole dumps: not with --pages, --order token, --layers, --tokens or --role");
  }
  if (!o.goals.empty() && o.goals[0]->needs_queries()) {
    throw UsageError(
        "--share-prefix: attention looks at shared tokens, too, so --target-attention has no cache to ask");
  }
}

void check_order(const CompressArguments& o) {
  if (parse_order(o.order) == 0) return;
  if (!o.goals.empty())
    throw UsageError("a target is met by a container in the order of layers: not with --order token");
  if (o.pages > 0) throw UsageError("--pages are of one container, and --order token makes several");
}

void check_removal(const CompressArguments& o) {
  if (!o.remove) return;
  if (o.common.keep) throw UsageError("-k keeps inputs, --rm removes them: choose one");
  if (o.common.unsynced) throw UsageError("--rm takes away what is safe elsewhere: not with --no-sync");
  if (!o.selecting.selection().empty()) throw UsageError("--rm would lose what --layers, --tokens or --role leave out");
}

/// The input with its queries, where what is stored leaves them out; null otherwise. A pipe comes but once.
std::unique_ptr<DumpReader> open_with_queries(const CompressArguments& o, const Job& job, const KeyValues& meta) {
  const std::vector<Role> roles = o.selecting.selection().roles;
  const bool piped = std::find(job.in.begin(), job.in.end(), "-") != job.in.end();
  if (roles.empty() || piped || std::find(roles.begin(), roles.end(), Role::query) != roles.end()) return nullptr;
  Selecting with = o.selecting;
  with.role += ",query";
  return open_selected(job.in, with, o.recognising, {}, meta);
}

/// Puts the target's setting into `options`; false when it is not met.
bool reach_target(const CompressArguments& o, const Job& job, DumpReader& reader, const Recognition& recognition,
                  const FidelityOptions& fidelity, SaliencySource& saliency, KvzOptions& options) {
  if (reader.traits().once) {
    throw UsageError("a target reads a container several times: give it as a file, not from a pipe");
  }
  refuse_existing(job.out, o.common.force);
  // Settings are tried beside no other container.
  const std::optional<KvzBase> base = std::exchange(options.base, std::nullopt);
  TargetOutcome outcome =
      find_target(reader, recognition, *o.goals[0], fidelity, options, o.common.threads, o.common.quiet, &saliency);
  options = std::move(outcome.options);
  options.base = base;
  if (!outcome.met) complain(fmt::format("{}: {}", inputs_name(job), outcome.said));
  if (outcome.met && !o.common.quiet) note(outcome.said);
  return outcome.met;
}

/// Writes the container. Pages are of what it decodes to, so with them it is first written aside and read again.
void write_container(const CompressArguments& o, const Job& job, DumpReader& reader, const Recognition& recognition,
                     const KvzOptions& options) {
  if (const std::uint64_t tokens = parse_order(o.order); tokens > 0) {
    ProgressLine progress(inputs_name(job), !o.common.quiet);
    compress_by_tokens(job.out, reader, recognition, options, tokens, o.common.threads, o.common.force,
                       progress.callback());
    return;
  }
  const auto write = [&](DumpWriter& writer) {
    {
      ProgressLine progress(inputs_name(job), !o.common.quiet);
      MeteredWriter metered(writer, progress);
      transcode(reader, metered, o.common.threads, progress.callback());
    }
    writer.finish();
  };
  if (job.all != nullptr) {
    auto sink = job.all->add(job.out.substr(job.out.rfind('/') + 1));
    return write(*create_kvz_writer(std::move(sink), reader.dump(), recognition, options));
  }
  if (o.pages == 0) return write(*create_kvz_writer(job.out, reader.dump(), recognition, options, o.common.force));
  const bool stream = is_stream_output(job.out);
  if (!stream) refuse_existing(job.out, o.common.force);
  const TemporaryFile aside(stream ? temporary_directory() + "/container" : job.out);
  write(*create_kvz_writer(aside.sink(), reader.dump(), recognition, options));
  const auto again = open_kvz(aside.input(job.out));
  again->use_tables(options.tables.beside);
  KvzPages pages;
  {
    ProgressLine progress("pages", !o.common.quiet, "layers");
    pages = digest_pages(*again, recognition, o.pages, progress.callback());
  }
  OutputFile out(job.out, o.common.force);
  add_kvz_pages(aside.input(job.out), pages, out);
  out.finish();
}

/// Opens a dump as compress_job() does.
std::pair<std::unique_ptr<DumpReader>, Recognition> open_whole(const CompressArguments& o, const std::string& in,
                                                               const KeyValues& meta) {
  auto reader = open_inputs({in}, o.selecting.mix, o.recognising);
  Recognition roles = recognise_input(*reader, o.recognising, meta);
  return {std::move(reader), std::move(roles)};
}

void require_nothing_left_out(DumpReader& reader) {
  const auto lost = left_out_of(reader);
  if (lost.empty()) return;
  throw UsageError(fmt::format("--rm would lose what is left out: {}{}", lost[0],
                               lost.size() == 1 ? "" : fmt::format("; and {} more", lost.size() - 1)));
}

/// `base`: whose container may have the first tokens; null = none.
Outcome compress_job(const CompressArguments& o, const Job& job, KvzOptions options, const SharedDump* base = nullptr) {
  const std::vector<Seen> to_remove = o.remove ? inputs_to_remove(job.in, job.out) : std::vector<Seen>();
  refuse_same_file(job.in, job.out);
  refuse_same_file({o.tables, o.fidelity.queries, o.fidelity.queries2}, job.out);
  FidelityOptions fidelity = o.fidelity;
  fidelity.recognise = recognise_options(o.recognising);
  const bool part = !o.selecting.selection().empty();
  Recognising recognising = o.recognising;
  recognising.say = !o.common.quiet;
  auto reader = part ? open_selected(job.in, o.selecting, recognising, {}, options.user)
                     : open_inputs(job.in, o.selecting.mix, recognising);
  Recognition recognition = part ? *reader->recognition() : recognise_input(*reader, recognising, options.user);
  const bool by_tokens = parse_order(o.order) > 0;
  if (by_tokens && reader->traits().once) {
    throw UsageError("--order token reads a container out of order: give it as a file, not from a pipe");
  }
  if (o.pages > 0) require_file(*reader, "--pages");
  if (o.remove) require_nothing_left_out(*reader);
  const std::string padded = o.common.quiet ? std::string() : padding_text(*reader, recognition);
  if (!padded.empty()) note(padded);
  Outcome outcome;
  std::unique_ptr<DumpReader> whole;  // where `reader` is a part of it
  if (base != nullptr) {
    const auto open = [&](const std::string& in) { return open_whole(o, in, options.user); };
    ProgressLine progress("comparing with " + base->in, !o.common.quiet, "tensors");
    whole = share_prefix(*base, open, reader, recognition, options, outcome, progress.callback());
  }
  const auto with_queries = open_with_queries(o, job, options.user);
  SaliencySource saliency(with_queries ? *with_queries : *reader,
                          with_queries ? *with_queries->recognition() : recognition, o.saliency, o.fidelity.queries,
                          fidelity.recognise, o.common.threads,
                          progress_when_called("saliency", !o.common.quiet, "layers"));
  if (!o.goals.empty() && !reach_target(o, job, *reader, recognition, fidelity, saliency, options)) {
    outcome.status = kMissed;
  }
  options.saliency = saliency.of(options.rules);
  if (o.common.verbose > 0 && !o.common.quiet && !saliency.said().empty()) note(saliency.said());
  if (!o.tables.empty()) options.tables.beside = load_tables(o.tables);
  // Blocks of a quantised cache are shorter than their values, and come back as they were.
  const bool values = part || by_tokens || o.pages > 0 || !o.goals.empty() || !options.rules.exact();
  DumpReader* blocks = values ? nullptr : stored_blocks(*reader);
  if (values && !part && !o.common.quiet) note_quantised(*reader);
  if (by_tokens && !o.common.quiet && stored_blocks(*reader) != nullptr && options.rules.exact())
    note("its quantised blocks have no order of tokens, so their values are stored, which takes more");
  DumpReader& source = blocks != nullptr ? *blocks : *reader;
  recognising.say = recognising.strict = recognising.some = false;
  const Recognition stored = blocks != nullptr ? recognise_input(source, recognising, options.user) : recognition;
  if (!source.traits().once && !by_tokens) {
    ProgressLine progress("tables", !o.common.quiet, "tables");
    fit_options(source, stored, options, o.common.threads, progress.callback());
  }
  write_container(o, job, source, stored, options);
  outcome.source_bytes = tensor_bytes((whole ? *whole : source).dump());
  if (!is_stream_output(job.out)) outcome.file_bytes = stored_bytes(job.out);
  if (!o.common.quiet) say_done(o, job, options.rules, outcome);
  if (!o.common.quiet && recognition.recognised == 0)
    note("nothing was recognised as key or value, so everything was stored losslessly");
  // Later dumps are compared with those that they share tokens with.
  if (o.remove && !o.share && outcome.status == kDone) remove_inputs(job.in, to_remove, job.out, o.common);
  return outcome;
}

/// Everything that has no container of its own yet: dumps, by their names.
bool is_dump_name(std::string_view path) {
  const std::string_view format = format_of_path(path);
  return !format.empty() && format != "kvz";
}

int share(const CompressArguments& o, const Batch& batch, const std::vector<BatchFile>& files,
          const KvzOptions& options, const std::function<std::string(const std::string&)>& name) {
  const auto open = [&](const std::string& in) { return open_whole(o, in, options.user); };
  const auto one = [&](const BatchFile& file, const SharedDump* base, CollectionWriter* all) {
    const std::string member = file.out.substr(file.out.rfind('/') + 1);
    return compress_job(o, {{file.in}, all == nullptr ? file.out : all->path_of(member), all}, options, base);
  };
  return compress_shared({o.out, o.remove, least_shared(options), open, one}, batch, o.common, files, name);
}

int compress(const CompressArguments& o) {
  check_level_words(o.batch.in);
  check_target(o);
  check_order(o);
  check_removal(o);
  check_sharing(o);
  KvzOptions options;
  const std::string preset = o.level != 0 ? std::string(kLevels[static_cast<std::size_t>(o.level) - 1]) : o.preset;
  if (o.goals.empty())
    options.rules = load_rules(preset.empty() ? std::string(kDefaultPreset) : preset, o.key, o.value);
  options.chunk_tokens = parse_chunk_tokens(o.chunk_tokens);
  options.user = parse_meta(o.recognising.meta);
  const bool joins = !o.out.empty() && !o.share;
  if (!o.out.empty() && !o.batch.folder.empty())
    throw UsageError("-o and -c are for one output, --output-dir names a folder for many: choose one");
  Batch batch = o.batch;
  batch.joins = joins;
  if (o.recognising.by_tokens && (!batch.joins || batch.recursive)) {
    throw UsageError("--join tokens makes one container of all inputs: name it with -o, without -r");
  }
  std::vector<BatchFile> files = batch_files(batch, is_dump_name);
  if (!joins) {
    const auto name = [](const std::string& in) {
      if (format_of_path(in) != "kvz") return in == "-" ? in : in + ".kvz";
      throw UsageError(fmt::format("{}: a container already; to code it anew name the output with -o", in));
    };
    if (o.share) return share(o, batch, files, options, name);
    name_outputs(batch, files, name);
    return run_batch(batch, o.common, files, [&](const BatchFile& file) {
      return with_file(file.in, [&] { return compress_job(o, {{file.in}, file.out}, options); });
    });
  }
  if (files.empty()) return kDone;
  // One container of all inputs.
  Job job{{}, o.out};
  for (const BatchFile& file : files) job.in.push_back(file.in);
  const BatchFile whole{inputs_name(job), {}, o.out};
  return run_batch(o.batch, o.common, {whole}, [&](const BatchFile&) {
    return with_file(job.in[0], [&] { return compress_job(o, job, options); });
  });
}

}  // namespace

void add_compress(CLI::App& app, Action& action) {
  CLI::App* command =
      add_command(app, {"compress", "compress a dump into a .kvz container", "kvzip compress IN... [-o OUT] [OPTIONS]",
                        "  kvzip compress cache.safetensors -o cache.kvz --preset gear-2\n"
                        "  kvzip compress layer-*.safetensors -o cache.kvz\n"
                        "  kvzip compress -r dumps --output-dir packed --keep-going\n"
                        "  kvzip convert cache.npz - --to safetensors | kvzip compress - -o cache.kvz"});
  auto o = std::make_shared<CompressArguments>();
  command->add_option("IN", o->batch.in, "dump or container to read");
  add_text(*command, "-o,--output", o->out, "OUT", "container of all inputs (default: IN.kvz for each)");
  add_stdout(*command, o->common, o->out);
  add_batch(*command, o->batch, true);
  command->add_flag("--share-prefix", o->share, "tokens that dumps begin with alike are stored once");
  command->add_flag("--rm", o->remove, "remove inputs once OUT has been read again");
  CLI::Option* level = command->add_flag("-1{1},-2{2},-3{3},-4{4},-5{5},-6{6},-7{7},-8{8},-9{9}", o->level,
                                         "presets, from lossless (-1) to smallest (-9)");
  level->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  add_text(*command, "--preset", o->preset, "NAME|FILE", fmt::format("how to code (default: {})", kDefaultPreset));
  add_text(*command, "--key", o->key, "SPEC", "pipeline for keys, instead of the preset's");
  add_text(*command, "--value", o->value, "SPEC", "pipeline for values, instead of the preset's");
  add_text(*command, "--chunk-tokens", o->chunk_tokens, "N|all", "tokens coded together and read by themselves");
  command->add_option("--pages", o->pages, "store digests of the keys of every N tokens")
      ->option_text("N")
      ->transform(number_in(1u, limits::kPageTokens));
  add_order(*command, o->order);
  add_text(*command, "--saliency", o->saliency, "SOURCE", "which tokens matter: queries, proxy or none")
      ->check(one_of({"queries", "proxy", "none"}));
  add_text(*command, "--tables", o->tables, "FILE", "tables (.kvzd) that pipelines name, as klt:basis=NAME");
  add_texts(*command, "--meta", o->recognising.meta, "KEY=VALUE",
            "stored in OUT, and used for IN's metadata (axes=HTD)");
  add_mix(*command, o->selecting.mix);
  add_goals(*command, o->goals);
  add_fidelity(*command, o->fidelity);
  add_selecting(*command, o->selecting, "only key, value, query or other; or a list: key,value");
  add_recognising(*command, o->recognising);
  add_views(*command, o->recognising);
  add_threads(*command, o->common);
  add_trust(*command);
  add_force(*command, o->common);
  add_verbosity(*command, o->common);
  command->callback([o, &action, level] {
    if (std::set<std::string>(level->results().begin(), level->results().end()).size() > 1) {
      throw CLI::ValidationError("one level, -1 to -9, not several");  // -19 would be two
    }
    divide_threads(o->batch, o->common);
    if (o->batch.in.empty() && o->batch.names.empty()) o->batch.in.push_back(piped_input("IN"));
    action = [o] { return compress(*o); };
  });
}

}  // namespace kvzip::tool
