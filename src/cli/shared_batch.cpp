// SPDX-License-Identifier: Apache-2.0
#include "src/cli/shared_batch.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/collection.hpp"
#include "formats/kvz/kvz.hpp"
#include "src/cli/input_removal.hpp"
#include "src/cli/prefix_plan.hpp"
#include "src/report/progress.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

/// Names FILE/NAME: members of a collection stand in no folders.
void name_members(const std::string& out, const Batch& batch, std::vector<BatchFile>& files,
                  const std::function<std::string(const std::string&)>& name) {
  if (batch.jobs > 1) throw UsageError(fmt::format("--jobs: {} is one file; files at a time need a folder", out));
  if (batch.skip_existing) throw UsageError(fmt::format("--skip-existing: {} is one file, and made anew", out));
  if (is_stream_output(out)) throw UsageError(fmt::format("{}: a collection is a file, no pipe", out));
  if (files.size() > limits::kCollectionMembers) {
    fail_in(out, ErrorCode::limit, "{} dumps, and a collection has at most {} members; a folder has no limit",
            files.size(), limits::kCollectionMembers);
  }
  Batch flat = batch;
  flat.folder = out;
  for (BatchFile& file : files) {
    refuse_same_file({file.in}, out);
    file.below = std::filesystem::path(file.below).filename().string();
  }
  name_outputs(flat, files, name);
  for (const BatchFile& file : files) {
    if (file.failed || is_base_name(std::filesystem::path(file.out).filename().string())) continue;
    throw UsageError(
        fmt::format("{}: a collection has no member of this name: 1 to 255 bytes of UTF-8 without \\ and "
                    "control characters",
                    printable(file.in)));
  }
}

int remove_done(const SharedBatch& o, const std::vector<BatchFile>& files, const std::vector<std::optional<Seen>>& read,
                const std::vector<bool>& done, const Common& common) {
  int status = kDone;
  for (std::size_t i = 0; i < files.size() && o.remove; ++i) {
    if (!done[i] || !read[i]) continue;
    const auto failure = failure_of([&] { remove_inputs({files[i].in}, {*read[i]}, files[i].out, common); });
    if (!failure) continue;
    complain(failure->text);
    status = std::max(status, failure->status);
  }
  return status;
}

}  // namespace

int compress_shared(const SharedBatch& o, Batch batch, const Common& common, std::vector<BatchFile> files,
                    const std::function<std::string(const std::string&)>& name) {
  std::optional<CollectionWriter> all;
  if (batch.folder.empty() && names_collection(o.out)) {
    name_members(o.out, batch, files, name);
    if (!files.empty()) all.emplace(o.out, common.force);
  } else {
    batch.folder = sharing_folder(o.out, batch.folder);
    name_outputs(batch, files, name);
  }
  std::vector<PrefixPlan> plans;
  {
    ProgressLine progress("prefixes", !common.quiet, "files");
    plans = plan_prefixes(batch, files, o.open, o.least, progress.callback());
  }
  std::vector<std::optional<Seen>> read(files.size());
  for (std::size_t i = 0; i < files.size() && o.remove; ++i) read[i] = seen(files[i].in);
  std::vector<bool> done(files.size());
  Turns turns;
  for (const PrefixPlan& plan : plans) turns.rank.push_back(plan.depth);
  turns.done = [&](std::size_t i, const Outcome& outcome) { done[i] = outcome.status == kDone && !outcome.skipped; };
  const auto one = [&](const BatchFile& file) {
    const PrefixPlan& plan = plans[static_cast<std::size_t>(&file - files.data())];
    const bool shares = plan.base && done[*plan.base];
    const SharedDump base =
        shares ? SharedDump{files[*plan.base].in, files[*plan.base].out, all ? &*all : nullptr} : SharedDump{};
    return with_file(file.in, [&] { return o.one(file, shares ? &base : nullptr, all ? &*all : nullptr); });
  };
  const int status = run_batch(batch, common, files, one, turns);
  if (all) {
    const std::size_t made = all->size();
    if (made == 0 || (made < files.size() && !batch.keep_going)) {
      complain(fmt::format("{}: not written, as {} of {} dumps have no container{}", o.out, files.size() - made,
                           files.size(), made == 0 ? "" : " (--keep-going leaves them out)"));
      return status;
    }
    all->finish();
  }
  return std::max(status, remove_done(o, files, read, done, common));
}

}  // namespace kvzip::tool
