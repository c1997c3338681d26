// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include "formats/collection.hpp"
#include "formats/file.hpp"
#include "formats/format_table.hpp"
#include "kvzip/container.hpp"
#include "src/cli/batch.hpp"
#include "src/commands.hpp"
#include "src/report/progress.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

struct VerifyArguments {
  Common common;
  Batch batch;
};

/// By its first bytes. Fails for what no reader takes.
bool looks_like_container(const std::string& path) {
  if (path == "-") refuse_terminal(stdin_stream());
  if (path == "-") return probe_format(stdin_stream().peek(kProbeBytes), input_name(path)).name == "kvz";
  const InputFile file(path);
  Bytes first(std::min<std::uint64_t>(file.size(), kProbeBytes));
  file.read_at(0, first);
  return probe_format(first, path).name == "kvz";
}

/// What has been read to its end from a pipe has none that could be looked at.
void add_sizes(const std::string& path, Outcome& outcome) {
  if (path == "-") return;
  const auto reader = open_reader(path);
  outcome.source_bytes = 0;
  for (const TensorInfo& tensor : reader->dump().tensors) *outcome.source_bytes += tensor.bytes();
  if (reader->traits().container != nullptr) outcome.file_bytes = stored_bytes(path);
}

/// Runs f on what may be a copy of a pipe: errors name the pipe.
template <typename F>
auto of_pipe(const std::string& copy, const std::string& name, F&& f) {
  try {
    return f();
  } catch (const Error& error) {
    if (error.file() != copy || copy == name) throw;
    Error named(error.code(), error.message(), error.hint(), error.hint_detail());
    if (!error.where().empty()) named.add_where(error.where());
    named.add_file(name);
    throw named;
  }
}

/// What is wrong with it, and what it is.
std::pair<std::vector<std::string>, std::string> check_file(const std::string& path, unsigned threads,
                                                            const Progress& progress) {
  require_no_collection(path);  // a damaged one; of others it is the members
  // A container is not opened first: one too damaged for that can still be walked.
  if (looks_like_container(path)) return {verify_kvz(path, threads, progress), "container"};
  const auto reader = open_reader(path);
  DumpReader* blocks = stored_blocks(*reader);
  DumpReader& stored = blocks != nullptr ? *blocks : *reader;
  for_each_part(stored, {}, {}, threads, progress);
  return {{}, fmt::format("{} tensors", stored.dump().tensors.size())};
}

Outcome verify_file(const VerifyArguments& o, const std::string& name) {
  ProgressLine progress(input_name(name), !o.common.quiet);
  // A pipe with a name shows its bytes once, so they are copied first.
  std::optional<InputFile> copy;
  std::error_code ignored;
  if (name != "-" && std::filesystem::exists(name, ignored) && !std::filesystem::is_regular_file(name, ignored)) {
    copy.emplace(open_input(name));
  }
  const std::string path = copy ? copy->reopen_path() : name;
  const auto [damage, what] =
      of_pipe(path, name, [&] { return check_file(path, o.common.threads, progress.callback()); });
  for (const std::string& line : damage) complain(fmt::format("{}: {}", input_name(name), line));
  Outcome outcome;
  if (!damage.empty()) {
    outcome.status = kCorrupt;
    return outcome;
  }
  if (o.batch.json) add_sizes(path, outcome);
  if (!o.common.quiet) note(fmt::format("{}: sound ({})", input_name(name), what));
  return outcome;
}

int verify(const VerifyArguments& o) {
  const auto files = batch_files(o.batch, [](std::string_view path) { return !format_of_path(path).empty(); });
  return run_batch(o.batch, o.common, files,
                   [&](const BatchFile& file) { return with_file(file.in, [&] { return verify_file(o, file.in); }); });
}

}  // namespace

void add_verify(CLI::App& app, Action& action) {
  CLI::App* command =
      add_command(app, {"verify", "check every checksum and decode everything", "kvzip verify FILE... [OPTIONS]",
                        "  kvzip verify cache.kvz\n"
                        "  kvzip verify -q *.kvz && echo all sound\n\n"
                        "Of a container every damaged frame is named. A dump has no checksums: it is read\n"
                        "from end to end. Of several files the exit status is the highest."});
  auto o = std::make_shared<VerifyArguments>();
  command->add_option("FILE", o->batch.in, "files to check");
  o->batch.keep_going = o->batch.members = true;
  add_batch(*command, o->batch, false);
  add_threads(*command, o->common);
  add_trust(*command);
  add_verbosity(*command, o->common);
  command->callback([o, &action] {
    divide_threads(o->batch, o->common);
    if (o->batch.in.empty() && o->batch.names.empty()) o->batch.in.push_back(piped_input("FILE"));
    action = [o] { return verify(*o); };
  });
}

}  // namespace kvzip::tool
