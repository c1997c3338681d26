// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "codec/fail.hpp"
#include "formats/collection.hpp"
#include "formats/kvz/kvz_growth.hpp"
#include "formats/kvz/kvz_plan.hpp"
#include "kvzip/container.hpp"
#include "src/commands.hpp"
#include "src/measure/saliency_source.hpp"
#include "src/report/progress.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

struct AppendArguments {
  Common common;
  Recognising recognising;
  Selecting selecting;
  std::string container, preset, key, value, chunk_tokens, tables;
  std::vector<std::string> in;
};

/// A pipeline as it is for a sequence without padding (kvzip-pipeline(7), window).
std::string unpadded(std::string text) {
  constexpr std::string_view kWindow = "window:recent=0", kEnd = ":end=", kRows = ":rows=used";
  if (const std::size_t at = text.find(kEnd); at != text.npos) {
    text.erase(at, text.find_first_not_of("0123456789", at + kEnd.size()) - at);
  }
  if (const std::size_t at = text.find(kRows); at != text.npos) text.erase(at, kRows.size());
  if (text.starts_with(kWindow) && text.substr(kWindow.size()).starts_with(",")) text.erase(0, kWindow.size() + 1);
  return text;
}

/// The rules would code the container as it is coded.
bool made_by(const RuleSet& rules, std::optional<std::uint64_t> chunk_tokens, const KvzReader& container) {
  const KvzTables tables{container.stored_tables(), {}};
  const Plan plan = make_plan(container.dump(), *container.recognition(), rules, chunk_tokens, &tables);
  const std::vector<KvzGroup>& groups = container.description().groups;
  return std::ranges::all_of(plan.groups, [&](const PlanGroup& group) {
    const std::string text = unpadded(plan.pipelines[group.pipeline].text());
    return std::ranges::any_of(groups, [&](const KvzGroup& known) {
      return known.tensors[0] == group.slots[0].tensor && known.role == group.context.role &&
             unpadded(known.pipeline) == text && (known.chunk_rows == group.chunk || !group.tiled);
    });
  });
}

/// The preset that the container was made with, unless another is asked for.
RuleSet rules_for(const AppendArguments& o, std::optional<std::uint64_t> chunk_tokens, const KvzReader& container) {
  if (!o.preset.empty()) return load_rules(o.preset, o.key, o.value);
  const std::string& preset = container.description().preset;
  const auto known = builtin_presets();
  if (std::ranges::find(known, preset, &PresetText::name) == known.end()) {
    throw UsageError(fmt::format("{} was made with '{}', which is no preset: give --preset", o.container, preset));
  }
  RuleSet rules = load_rules(preset, o.key, o.value);
  if (container.description().appended == 0 && !made_by(rules, chunk_tokens, container)) {
    throw UsageError(
        fmt::format("{} is not coded as preset {} does: give --preset, and with it --key, --value or "
                    "--chunk-tokens where they are to differ",
                    o.container, preset));
  }
  return rules;
}

/// What the new tokens do not say of the model is as in the container; they stand behind those that it has.
void place_behind(const AppendArguments& o, KvzReader& container, DumpReader& more, const KeyValues& meta,
                  Recognition& roles) {
  const ModelInfo& model = container.recognition()->model;
  const std::uint64_t tokens = tokens_of(container.dump(), *container.recognition());
  if (o.selecting.tokens.empty() && !o.selecting.mix && tokens > 1 && repeats_token_ids(container, tokens, more)) {
    fail(ErrorCode::invalid_argument,
         "its first {} tokens are those of {}: --tokens {}: takes what is new (--mix goes on)", tokens, o.container,
         tokens);
  }
  const std::uint64_t next = model.rope.first_position + tokens;
  const auto given = std::ranges::find_if(meta, [](const auto& pair) { return pair.first == "first_position"; });
  const std::string stated = given != meta.end() ? given->second : more.dump().text("first_position");
  if (!stated.empty() && roles.model.rope.first_position != next && !o.selecting.mix) {
    fail(ErrorCode::invalid_argument, "its first token is at position {}, and the next one of {} is {} (--mix goes on)",
         roles.model.rope.first_position, o.container, next);
  }
  if (roles.model.model.empty()) roles.model.model = model.model;
  if (roles.model.rope.state == Rope::State::unknown) roles.model.rope = model.rope;
  roles.model.rope.first_position = next;
}

int append(const AppendArguments& o) {
  refuse_same_file(o.in, o.container);
  require_no_collection(o.container);
  if (collection_of(o.container)) {
    throw UsageError(
        fmt::format("{}: a member of a collection: 'tar xf' makes it a file, to which is appended", o.container));
  }
  KvzOptions options;
  options.user = parse_meta(o.recognising.meta);
  options.chunk_tokens = parse_chunk_tokens(o.chunk_tokens);
  if (!o.tables.empty()) options.tables.beside = load_tables(o.tables);
  return with_file(o.in[0], [&] {
    Recognising recognising = o.recognising;
    recognising.say = !o.common.quiet;
    const bool part = !o.selecting.selection().empty();
    const auto reader = part ? open_selected(o.in, o.selecting, recognising, {}, options.user)
                             : open_inputs(o.in, o.selecting.mix, recognising);
    require_file(*reader, "append");
    Recognition roles = part ? *reader->recognition() : recognise_input(*reader, recognising, options.user);
    std::uint64_t tokens = 0, bytes = 0;
    {
      const auto container = with_file(o.container, [&] { return open_kvz(o.container); });
      if (container->traits().once) throw UsageError("a pipe cannot be appended to");
      require_belonging(*container, *reader, Belonging::model, o.selecting.mix);
      options.rules = rules_for(o, options.chunk_tokens, *container);
      place_behind(o, *container, *reader, options.user, roles);
      tokens = tokens_of(container->dump(), *container->recognition());
      bytes = std::filesystem::file_size(o.container);
    }
    SaliencySource saliency(*reader, roles, {}, {}, recognise_options(o.recognising), o.common.threads,
                            progress_when_called("saliency", !o.common.quiet, "layers"));
    options.saliency = saliency.of(options.rules);
    std::uint64_t after = 0;
    {
      ProgressLine progress(input_name(o.in[0]), !o.common.quiet);
      after = append_kvz(o.container, *reader, roles, options, o.common.threads, progress.callback());
    }
    if (!o.common.quiet) {
      note(fmt::format("{}: {} tokens and {} more, {} -> {}", o.container, tokens, tokens_of(reader->dump(), roles),
                       size_text(bytes), size_text(after)));
    }
    return kDone;
  });
}

}  // namespace

void add_append(CLI::App& app, Action& action) {
  CLI::App* command =
      add_command(app, {"append", "add tokens that come next to a container", "kvzip append CONTAINER NEW... [OPTIONS]",
                        "  kvzip append cache.kvz turn-2.safetensors\n"
                        "  kvzip append cache.kvz whole.safetensors --tokens 400:"});
  auto o = std::make_shared<AppendArguments>();
  command->add_option("CONTAINER", o->container, "container that grows")->required();
  command->add_option("NEW", o->in, "dump of the tokens that follow")->required();
  add_text(*command, "--tokens", o->selecting.tokens, "A:B", "only these tokens of NEW, from A to B - 1");
  add_text(*command, "--role", o->selecting.role, "ROLE", "only key, value, query or other of NEW; or a list");
  add_text(*command, "--preset", o->preset, "NAME|FILE", "how to code (default: as the container is)");
  add_text(*command, "--key", o->key, "SPEC", "pipeline for keys, instead of the preset's");
  add_text(*command, "--value", o->value, "SPEC", "pipeline for values, instead of the preset's");
  add_text(*command, "--chunk-tokens", o->chunk_tokens, "N|all", "tokens coded together and read by themselves");
  add_text(*command, "--tables", o->tables, "FILE", "tables (.kvzd) that pipelines name, as klt:basis=NAME");
  add_texts(*command, "--meta", o->recognising.meta, "KEY=VALUE", "used for NEW's metadata (axes=HTD)");
  add_mix(*command, o->selecting.mix);
  add_recognising(*command, o->recognising);
  add_views(*command, o->recognising);
  add_threads(*command, o->common);
  add_trust(*command);
  add_verbosity(*command, o->common);
  command->callback([o, &action] { action = [o] { return append(*o); }; });
}

}  // namespace kvzip::tool
