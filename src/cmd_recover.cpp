// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "codec/fail.hpp"
#include "formats/collection.hpp"
#include "formats/file.hpp"
#include "formats/format_table.hpp"
#include "formats/kvz/kvz.hpp"
#include "kvzip/inputs.hpp"
#include "kvzip/recover.hpp"
#include "src/cli/batch.hpp"
#include "src/commands.hpp"
#include "src/report/progress.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

struct RecoverArguments {
  Common common;
  std::string in, out, to, tables, folder;
  bool json = false;
  bool member = false;  // of a collection, all of whose are looked at
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

using Damaged = std::shared_ptr<const InputFile>;

/// FILE, or FILE/NAME in a collection that may be cut.
Damaged open_damaged(const std::string& path) {
  const auto all = collection_of(path);
  if (!all) return std::make_shared<const InputFile>(salvage_input(path));
  InputFile file(*all);
  const CutCollection found = salvage_collection(file);
  const std::string name = path.substr(all->size() + 1);
  const auto member = std::ranges::find(found.members, name, &CollectionMember::name);
  if (member == found.members.end()) {
    fail_in(path, ErrorCode::io, "no member of this name is in the collection{}",
            found.why ? ", as far as it can be read: " + found.why->message() : "");
  }
  return std::make_shared<const InputFile>(std::move(file), member->begin, member->bytes, path);
}

KvzDamage recover_from(const Damaged& file, const RecoverArguments& o, const std::string& out,
                       std::string_view format) {
  ProgressLine progress(input_name(o.in), !o.common.quiet);
  return recover_kvz(file, o.in == "-" ? "" : o.in, {out, format, o.common.force, o.tables, o.common.threads},
                     progress.callback());
}

int report(const RecoverArguments& o, const KvzDamage& damage) {
  for (const KvzHole& hole : damage.holes) {
    complain(printable(fmt::format("{}: lost: {} (byte {}): {}", input_name(o.in), hole.name, hole.offset, hole.why)));
  }
  for (const std::string& line : damage.others) complain(printable(fmt::format("{}: {}", input_name(o.in), line)));
  if (damage.base) {
    note(fmt::format("{}: its first {} tokens are in {}, which is not read here", input_name(o.in), damage.base->tokens,
                     damage.base->file));
  }
  if (o.json) o.member ? print_json_line(json_damage(o, damage)) : print_json(json_damage(o, damage));
  if (!o.common.quiet) {
    note(fmt::format("{}: {} of its values {}", input_name(o.in),
                     share_text(damage.values - damage.lost, damage.values, damage.base_values),
                     o.out.empty() ? "can be read" : "are in " + o.out));
  }
  return damage.holes.empty() && !damage.followed ? kDone : kCorrupt;
}

int recover_file(const RecoverArguments& o) {
  const InputScope inputs;
  if (!o.folder.empty())
    throw UsageError("--output-dir takes what a collection holds; -o names the output of a container");
  std::string format;
  if (!o.out.empty()) {
    const bool container = o.to.empty() ? format_of_path(o.out) == "kvz" : o.to == "kvz";
    format = container ? "kvz" : output_format(o.out, o.to);
    refuse_same_file({o.in, o.tables}, o.out);
    refuse_existing(o.out, o.common.force);
  }
  return report(o, recover_from(open_damaged(o.in), o, o.out, format));
}

void copy_file(const InputFile& from, const std::string& out, bool overwrite) {
  constexpr std::uint64_t kStep = std::uint64_t{4} << 20;
  OutputFile to(out, overwrite);
  Bytes some;
  for (std::uint64_t at = 0; at < from.size(); at += some.size()) {
    some.resize(std::min(kStep, from.size() - at));
    from.read_at(at, some);
    to.append(some);
  }
  to.finish();
}

/// What is sound is copied as it is: another member may begin with its tokens, and knows it by its bytes.
int recover_member(const RecoverArguments& o, const Damaged& file) {
  const InputScope inputs;
  if (!o.out.empty()) {
    refuse_same_file({o.in, o.tables}, o.out);
    refuse_existing(o.out, o.common.force);
  }
  KvzDamage damage = recover_from(file, o, {}, {});
  if (!o.out.empty())
    damage.none() ? copy_file(*file, o.out, o.common.force) : void(recover_from(file, o, o.out, "kvz"));
  return report(o, damage);
}

/// With --json programs learn it in a line like those of members.
void tell_failure(const RecoverArguments& o, const std::string& file, const std::string& text) {
  complain(printable(text));
  if (!o.json) return;
  Json line{{"file", file}, {"error", text}};
  add_bytes_of_name(line, "file", file);
  print_json_line(line);
}

/// Each member by itself, as far as the archive can be followed.
int recover_collection(const RecoverArguments& o) {
  if (!o.to.empty()) throw UsageError("--to: what a collection holds stays containers; decompress decodes them");
  const CutCollection found = salvage_collection(InputFile(o.in));
  std::error_code error;
  if (!o.folder.empty() && !found.members.empty() && !std::filesystem::create_directories(o.folder, error) && error) {
    fail_in(o.folder, ErrorCode::io, "cannot make the folder: {}", error.message());
  }
  int worst = kDone;
  for (const CollectionMember& member : found.members) {
    RecoverArguments one = o;
    one.member = true;
    one.in = o.in + "/" + member.name;
    if (!o.folder.empty()) one.out = (std::filesystem::path(o.folder) / member.name).string();
    int status = kDone;
    const auto failure = failure_of([&] {
      const auto file = std::make_shared<const InputFile>(InputFile(o.in), member.begin, member.bytes, one.in);
      status = with_file(one.in, [&] { return recover_member(one, file); });
    });
    if (failure) tell_failure(o, one.in, failure->text);
    worst = std::max(worst, failure ? failure->status : status);
  }
  if (!found.why) return worst;
  tell_failure(o, o.in, fmt::format("{}: {}", o.in, found.why->message()));
  return std::max<int>(worst, exit_status(found.why->code()));
}

int recover(const RecoverArguments& o) {
  if (!o.out.empty() && !o.folder.empty()) throw UsageError("-o and --output-dir: choose one");
  if (o.json && is_standard_output(o.out)) throw UsageError("--json and an output of - would both be standard output");
  if (o.json || is_standard_output(o.out)) keep_progress_apart();
  if (!is_archive(o.in)) return recover_file(o);
  if (!o.out.empty()) require_no_collection(o.in);
  return recover_collection(o);
}

}  // namespace

void add_recover(CLI::App& app, Action& action) {
  CLI::App* command =
      add_command(app, {"recover", "save what survives in a damaged container",
                        "kvzip recover FILE [-o OUT | --output-dir DIR] [OPTIONS]",
                        "  kvzip recover cut.kvz\n"
                        "  kvzip recover cut.kvz -o rest.safetensors --json >holes.json\n"
                        "  kvzip recover cut.kvz.tar --output-dir rest\n\n"
                        "Frames whose checksums hold are kept, whatever became of the index. What is lost\n"
                        "is NaN, or 0 where no float is. Exit status: 0 no value is lost, 3 some are."});
  auto o = std::make_shared<RecoverArguments>();
  command->add_option("FILE", o->in, "container or collection to read");
  add_text(*command, "-o,--output", o->out, "OUT",
           "dump or container to write; its extension gives\n"
           "the format (default: none, only say what is lost)");
  add_text(*command, "--output-dir", o->folder, "DIR", "where the containers of a collection go");
  add_text(*command, "--to", o->to, "FORMAT", "kvz, safetensors, hdf5 ..., whatever OUT is called");
  add_text(*command, "--tables", o->tables, "FILE", "tables (.kvzd) that FILE names; the default is FILEd");
  command->add_flag("--json", o->json, "what is lost, as JSON on standard output");
  add_threads(*command, o->common);
  add_trust(*command);
  add_force(*command, o->common);
  add_verbosity(*command, o->common);
  command->callback([o, &action] {
    if (o->in.empty()) o->in = piped_input("FILE");
    action = [o] { return with_file(o->in, [&] { return recover(*o); }); };
  });
}

}  // namespace kvzip::tool
