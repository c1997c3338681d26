// SPDX-License-Identifier: Apache-2.0
#include "src/cli/prefix_plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <filesystem>
#include <map>
#include <string>
#include <system_error>
#include <utility>

#include "codec/limits.hpp"
#include "formats/format_table.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/kvz/kvz_growth.hpp"

namespace kvzip::tool {
namespace {

constexpr std::uint64_t kFirstLook = 256;  // tokens

struct KnownDump {
  std::size_t file = 0;
  ModelInfo model;
  TokenHashes hashes;
};

class PrefixPlanner {
 public:
  PrefixPlanner(const std::vector<BatchFile>& files, const OpenDump& open, std::uint64_t least)
      : files_(files), open_(open), least_(least), plans_(files.size()) {}

  void add(std::size_t file) {
    const std::filesystem::path out(files_[file].out);
    if (!is_base_name(out.filename().string())) return;
    const auto [reader, roles] = open_(files_[file].in);
    if (reader->traits().once || stored_blocks(*reader) != nullptr) return;
    const std::string kind = sharing_kind(reader->dump(), roles);
    if (kind.empty()) return;
    KnownDump own{file, roles.model, TokenHashes(tokens_of(reader->dump(), roles))};
    std::vector<KnownDump>& before = known_[{out.parent_path().string(), kind}];
    for (KnownDump& one : before) {
      if (plans_[one.file].depth >= limits::kBases || one.model != own.model) continue;
      const std::uint64_t common = common_with(one, own, *reader, roles);
      PrefixPlan& plan = plans_[file];
      if (common < std::max(least_, plan.tokens + 1)) continue;
      plan = {one.file, common, plans_[one.file].depth + 1};
    }
    before.push_back(std::move(own));
  }

  std::vector<PrefixPlan> done() { return std::move(plans_); }

 private:
  /// Looks at twice as many tokens each time, until some differ.
  std::uint64_t common_with(KnownDump& one, KnownDump& own, DumpReader& reader, const Recognition& roles) {
    const std::uint64_t tokens = own.hashes.tokens();
    const std::uint64_t most = std::min(one.hashes.tokens(), tokens > 0 ? tokens - 1 : 0);
    std::uint64_t common = 0;
    for (std::uint64_t look = std::min(kFirstLook, most); common < look; look = std::min(2 * look, most)) {
      own.hashes.extend(reader, roles, look);
      if (one.hashes.known().size() < look) {
        const auto [other, theirs] = open_(files_[one.file].in);
        if (tokens_of(other->dump(), theirs) != one.hashes.tokens()) return 0;  // another file by now
        one.hashes.extend(*other, theirs, look);
      }
      const auto& a = one.hashes.known();
      const auto& b = own.hashes.known();
      while (common < look && a[common] == b[common]) ++common;
      if (common < look) break;
    }
    return common;
  }

  const std::vector<BatchFile>& files_;
  const OpenDump& open_;
  std::uint64_t least_;
  std::vector<PrefixPlan> plans_;
  std::map<std::pair<std::string, std::string>, std::vector<KnownDump>> known_;  // by folder and sharing_kind()
};

}  // namespace

bool names_collection(const std::string& out) {
  return out.ends_with(".tar") && !std::filesystem::is_directory(out);
}

std::string sharing_folder(const std::string& out, const std::string& folder) {
  if (out.empty() || !folder.empty()) return folder;
  const bool is_folder = std::filesystem::is_directory(out) || out.ends_with('/');
  if (!is_folder && (std::filesystem::exists(out) || out == "-" || !format_of_path(out).empty())) {
    throw UsageError(
        fmt::format("--share-prefix makes a container of each dump, of which one names another: -o {0} is one file; "
                    "give a folder, as -o {1}/, or a collection of them, as -o {1}.kvz.tar",
                    out, out == "-" ? "packed" : std::filesystem::path(out).stem().string()));
  }
  return out;
}

std::vector<PrefixPlan> plan_prefixes(const Batch& batch, const std::vector<BatchFile>& files, const OpenDump& open,
                                      std::uint64_t least, const Progress& progress) {
  PrefixPlanner planner(files, open, least);
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (progress) progress(i, files.size());
    std::error_code ignored;
    if (!std::filesystem::is_regular_file(files[i].in, ignored)) continue;  // a pipe gives its bytes once
    if (is_done_before(batch, files[i])) continue;
    try {
      planner.add(i);
    } catch (const std::exception&) {
      // What is wrong with a file is told when it is compressed.
    }
  }
  if (progress) progress(files.size(), files.size());
  return planner.done();
}

}  // namespace kvzip::tool
