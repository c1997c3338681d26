// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "formats/collection.hpp"
#include "formats/file.hpp"
#include "formats/format_table.hpp"
#include "kvzip/recover.hpp"
#include "src/cli/batch.hpp"
#include "src/commands.hpp"
#include "src/report/progress.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

struct RecoverArguments {
  Common common;
  std::string in, out, to, tables;
  bool json = false;
};

Json json_damage(const RecoverArguments& o, const KvzDamage& damage) {
  Json holes = Json::array();
  for (const KvzHole& hole : damage.holes) {
    Json slices = Json::array();
    for (const Slice& slice : hole.slices) {
      slices.push_back({{"tensor", damage.tensors[slice.tensor].name}, {"start", slice.start}, {"count", slice.count}});
    }
    holes.push_back({{"name", hole.name},
                     {"why", hole.why},
                     {"offset", hole.offset},
                     {"values", hole.values},
                     {"slices", std::move(slices)}});
  }
  Json out{{"file", input_name(o.in)},  {"output", o.out.empty() ? Json() : Json(o.out)},
           {"values", damage.values},   {"lost", damage.lost},
           {"holes", std::move(holes)}, {"others", damage.others}};
  if (damage.base)
    out["base"] = {{"file", damage.base->file}, {"tokens", damage.base->tokens}, {"values", damage.base_values}};
  return out;
}

/// "98.41 %" of two numbers together, never rounded up to all.
std::string share_text(std::uint64_t part, std::uint64_t own, std::uint64_t others) {
  if (part == own && others == 0) return "100 %";
  const double all = static_cast<double>(own) + static_cast<double>(others);
  return fmt::format("{:.2f} %", std::min(99.99, 100 * static_cast<double>(part) / all));
}

int recover_file(const RecoverArguments& o) {
  RecoverOptions options{o.out, {}, o.common.force, o.tables, o.common.threads};
  std::string format;
  if (o.json && is_standard_output(o.out)) throw UsageError("--json and an output of - would both be standard output");
  if (o.json || is_standard_output(o.out)) keep_progress_apart();
  if (!o.out.empty()) {
    const bool container = o.to.empty() ? format_of_path(o.out) == "kvz" : o.to == "kvz";
    format = container ? "kvz" : output_format(o.out, o.to);
    options.format = format;
    refuse_same_file({o.in, o.tables}, o.out);
    refuse_existing(o.out, o.common.force);
  }
  require_no_collection(o.in);
  KvzDamage damage;
  {
    ProgressLine progress(input_name(o.in), !o.common.quiet);
    damage = recover_kvz(o.in, options, progress.callback());
  }
  for (const KvzHole& hole : damage.holes) {
    complain(printable(fmt::format("{}: lost: {} (byte {}): {}", input_name(o.in), hole.name, hole.offset, hole.why)));
  }
  for (const std::string& line : damage.others) complain(printable(fmt::format("{}: {}", input_name(o.in), line)));
  if (damage.base) {
    note(fmt::format("{}: its first {} tokens are in {}, which is not read here", input_name(o.in), damage.base->tokens,
                     damage.base->file));
  }
  if (o.json) print_json(json_damage(o, damage));
  if (!o.common.quiet) {
    note(fmt::format("{}: {} of its values {}", input_name(o.in),
                     share_text(damage.values - damage.lost, damage.values, damage.base_values),
                     o.out.empty() ? "can be read" : "are in " + o.out));
  }
  return damage.holes.empty() ? kDone : kCorrupt;
}

}  // namespace

void add_recover(CLI::App& app, Action& action) {
  CLI::App* command =
      add_command(app, {"recover", "save what survives in a damaged container", "kvzip recover FILE [-o OUT] [OPTIONS]",
                        "  kvzip recover cut.kvz\n"
                        "  kvzip recover cut.kvz -o rest.safetensors --json >holes.json\n\n"
                        "Frames whose checksums hold are kept, whatever became of the index. What is lost\n"
                        "is NaN, or 0 where no float is. Exit status: 0 no value is lost, 3 some are."});
  auto o = std::make_shared<RecoverArguments>();
  command->add_option("FILE", o->in, "container to read");
  add_text(*command, "-o,--output", o->out, "OUT",
           "dump or container to write; its extension gives\n"
           "the format (default: none, only say what is lost)");
  add_text(*command, "--to", o->to, "FORMAT", "kvz, safetensors, hdf5 ..., whatever OUT is called");
  add_text(*command, "--tables", o->tables, "FILE", "tables (.kvzd) that FILE names; the default is FILEd");
  command->add_flag("--json", o->json, "what is lost, as JSON on standard output");
  add_threads(*command, o->common);
  add_trust(*command);
  add_force(*command, o->common);
  add_verbosity(*command, o->common);
  command->callback([o, &action] {
    if (o->in.empty()) o->in = piped_input("FILE");
    action = [o] { return with_file(o->in, [&] { return recover_file(*o); }); };
  });
}

}  // namespace kvzip::tool
