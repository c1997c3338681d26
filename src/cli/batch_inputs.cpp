// SPDX-License-Identifier: Apache-2.0
// Which files a batch is of: words of the command line, lists of names, folders.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/collection.hpp"
#include "formats/file.hpp"
#include "src/cli/batch.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

namespace fs = std::filesystem;

/// What is below folders.
class Search {
 public:
  Search(const Batch& batch, const std::function<bool(const std::string&)>& wanted, std::vector<BatchFile>& out)
      : keep_going_(batch.keep_going && !batch.joins), wanted_(wanted), out_(out) {}

  /// By name. What is hidden, as unfinished outputs are, is left out.
  void look(const fs::path& folder, const fs::path& below) {
    std::error_code error;
    std::vector<fs::directory_entry> entries;
    for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
      entries.push_back(*at);
    }
    if (error) return skip(folder, error.message());
    std::sort(entries.begin(), entries.end());
    for (const fs::directory_entry& entry : entries) {
      const fs::path name = entry.path().filename();
      if (name.string().starts_with('.')) continue;
      if (entry.is_symlink(error)) {
        links_ += entry.is_directory(error) || wanted_(entry.path().string()) ? 1 : 0;
      } else if (entry.is_directory(error)) {
        look(entry.path(), below / name);
      } else if (entry.is_regular_file(error) && wanted_(entry.path().string())) {
        out_.push_back({entry.path().string(), (below / name).string()});
      } else {
        others_ += wanted_(entry.path().string()) ? 1 : 0;
      }
    }
  }
  /// Symbolic links that were not followed.
  std::size_t links() const { return links_; }
  /// Pipes, sockets and devices of a fitting name.
  std::size_t others() const { return others_; }

 private:
  void skip(const fs::path& folder, const std::string& why) {
    Error error(ErrorCode::io, fmt::format("cannot read this folder: {}", why));
    error.add_file(folder.string());
    if (!keep_going_) throw error;
    out_.push_back({folder.string(), {}, {}, Failure{kIo, error_text(error)}});
  }

  bool keep_going_;
  const std::function<bool(const std::string&)>& wanted_;
  std::vector<BatchFile>& out_;
  std::size_t links_ = 0, others_ = 0;
};

/// A damaged one stays one input, which says what it is.
std::vector<BatchFile> members_of(const BatchFile& file) {
  std::vector<BatchFile> out;
  try {
    for (const std::string& path : member_paths(file.in)) {
      out.push_back({path, (fs::path(file.below).parent_path() / fs::path(path).filename()).string()});
    }
  } catch (const Error&) {
    return {file};
  }
  return out;
}

std::string counted(std::size_t n, std::string_view one, std::string_view many, std::string_view what) {
  return n == 0 ? "" : fmt::format("{} {} {}", n, n == 1 ? one : many, what);
}

/// With links and pipes that were passed over there is something to say, and where there was nothing else it is an
/// error.
void say_passed_over(const Batch& batch, const Search& search, std::vector<BatchFile>& found) {
  std::vector<std::string> texts{
      counted(search.links(), "symbolic link in folders is", "symbolic links in folders are", "not followed"),
      counted(search.others(), "pipe, socket or device in folders is", "pipes, sockets or devices in folders are",
              "no file")};
  std::erase(texts, "");
  if (texts.empty()) return;
  const std::string text = fmt::format("{}", fmt::join(texts, ", "));
  if (found.empty()) fail(ErrorCode::invalid_argument, "{}, and there is nothing else", text);
  if (!batch.quiet) note(text);
}

}  // namespace

std::vector<std::string> read_names(const std::string& path) {
  std::vector<std::string> names;
  std::string name;
  std::size_t bytes = 0;
  const auto end_name = [&] {
    bytes += name.size() + sizeof name;
    if (bytes > limits::kInputNames) fail_in(input_name(path), ErrorCode::limit, "too long for a list of names");
    if (name.empty()) throw UsageError(fmt::format("--files0-from {}: an empty name", path));
    names.push_back(std::exchange(name, {}));
  };
  read_pieces(path, [&](std::string_view piece) {
    while (!piece.empty()) {
      const std::size_t end = piece.find('\0');
      name += piece.substr(0, end);
      if (name.size() > limits::kInputName) {
        fail_in(input_name(path), ErrorCode::limit, "a name of more than {} bytes; a zero byte ends each",
                limits::kInputName);
      }
      if (end != piece.npos) end_name();
      piece.remove_prefix(end == piece.npos ? piece.size() : end + 1);
    }
  });
  if (!name.empty()) end_name();  // a list that ends without a zero byte
  return names;
}

bool is_collection_name(const std::string& path) {
  return path.ends_with(".kvz.tar") || (path.ends_with(".tar") && is_collection(path));
}

std::vector<BatchFile> batch_files(const Batch& batch, const std::function<bool(std::string_view path)>& wanted) {
  std::vector<std::string> paths = batch.in;
  if (!batch.names.empty()) {
    const std::vector<std::string> more = read_names(batch.names);
    paths.insert(paths.end(), more.begin(), more.end());
  }
  const std::function<bool(const std::string&)> fits = [&](const std::string& path) {
    return wanted(path) || (batch.members && is_collection_name(path));
  };
  std::vector<BatchFile> found, out;
  Search search(batch, fits, found);
  for (const std::string& path : paths) {
    std::error_code ignored;
    if (path.empty()) throw UsageError("an input without a name: ''");
    if (path == "-" && paths.size() > 1) throw UsageError("standard input can only be the one input");
    if (path == "-" || !fs::is_directory(path, ignored) || (batch.joins && !batch.recursive)) {
      found.push_back({path, fs::path(path).filename().string()});
    } else if (batch.recursive) {
      search.look(path, {});
    } else {
      const std::string text = fmt::format("{} is a folder: -r takes the files in it", path);
      if (!batch.keep_going || batch.joins) throw UsageError(text);
      found.push_back({path, {}, {}, Failure{kUsage, text}});
    }
  }
  say_passed_over(batch, search, found);
  std::set<std::string> seen;
  for (BatchFile& file : found) {
    if (!seen.insert(fs::path(file.in).lexically_normal().string()).second) continue;
    if (batch.members && !file.failed && is_collection(file.in)) {
      for (BatchFile& member : members_of(file)) out.push_back(std::move(member));
    } else {
      out.push_back(std::move(file));
    }
  }
  return out;
}

}  // namespace kvzip::tool
