// SPDX-License-Identifier: Apache-2.0
#include "formats/collection.hpp"

#include <fcntl.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <set>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/kvz/kvz_records.hpp"
#include "formats/tar_header.hpp"
#include "formats/text.hpp"

namespace kvzip {
namespace {

constexpr std::string_view kHere = "./";  // before each name, and the folder's own, in what 'tar cf FILE .' writes
/// The first container behind its own header and a pax header, and behind the same of its folder.
constexpr std::uint64_t kBeforeContainer = 2 * (2 * kTarBlock + limits::kPaxBytes);

bool is_own_folder(const TarHeader& header) {
  return header.type == kTarFolder && header.name == kHere && header.bytes == 0;
}

class CollectionScan {
 public:
  /// `salvages`: goes on past members that are not as they have to be, as far as headers can be followed.
  explicit CollectionScan(const InputFile& file, bool salvages = false) : file_(file), salvages_(salvages) {}

  std::vector<CollectionMember> members() {
    while (const auto header = next_header()) {
      if (header->type == kTarPax) {
        take_pax(*header);
      } else {
        take_member(*header);
      }
    }
    return std::move(members_);
  }
  /// The first of what was gone past.
  const std::optional<Error>& problem() const { return problem_; }
  /// Where members() failed: those up to there.
  std::vector<CollectionMember> found() {
    if (!members_.empty()) {
      CollectionMember& last = members_.back();
      last.bytes = std::min(last.bytes, file_.size() - last.begin);
      if (last.bytes == 0) members_.pop_back();
    }
    return std::move(members_);
  }

 private:
  /// Nothing at the end of the archive, which is two blocks of zeros.
  std::optional<TarHeader> next_header() {
    const TarBlock block = next_block();
    if (block != TarBlock{}) return parse_tar_header(block);
    if (next_block() != TarBlock{}) fail(ErrorCode::corrupt, "tar: a member follows the end of the archive");
    if (pax_) fail(ErrorCode::corrupt, "tar: a pax header of no member");
    return std::nullopt;
  }

  TarBlock next_block() {
    if (file_.size() - at_ < kTarBlock) {
      fail(ErrorCode::truncated, "the collection ends at byte {} behind {} members, and its end is missing",
           file_.size(), members_.size());
    }
    TarBlock block;
    file_.read_at(at_, block);
    at_ += kTarBlock;
    return block;
  }

  /// The bytes behind a header.
  void skip(std::uint64_t bytes, std::string_view name) {
    const std::uint64_t left = file_.size() - at_;
    if (bytes > left || tar_padding(bytes) > left - bytes) {
      fail(ErrorCode::truncated, "member {} has {} bytes, and the collection ends after {} of them", quoted(name),
           bytes, std::min(bytes, left));
    }
    at_ += bytes + tar_padding(bytes);
  }

  void take_pax(const TarHeader& header) {
    if (pax_) fail(ErrorCode::corrupt, "tar: two pax headers of a member");
    if (header.bytes > limits::kPaxBytes) {
      fail(ErrorCode::limit, "tar: a pax header of {} bytes is too long", header.bytes);
    }
    const std::uint64_t begin = at_;
    skip(header.bytes, header.name);
    std::string text(header.bytes, '\0');
    file_.read_at(begin, std::as_writable_bytes(std::span(text)));
    pax_ = parse_pax(text);
  }

  void take_member(TarHeader header) {
    if (pax_ && pax_->name) header.name = *pax_->name;
    if (pax_ && pax_->bytes) header.bytes = *pax_->bytes;
    pax_.reset();
    if (is_own_folder(header)) return;
    if (header.name.starts_with(kHere)) header.name.erase(0, kHere.size());
    if (const auto problem = problem_of(header)) {
      go_past(*problem);
      return skip(header.bytes, header.name);
    }
    if (members_.size() >= limits::kCollectionMembers) {
      fail(ErrorCode::limit, "more than {} members in a collection", limits::kCollectionMembers);
    }
    members_.push_back({header.name, at_, header.bytes});
    skip(header.bytes, header.name);
    Bytes first(std::min<std::uint64_t>(kPreludeBytes, header.bytes));
    file_.read_at(members_.back().begin, first);
    if (begins_container(first)) return;
    go_past(Error(ErrorCode::unsupported, fmt::format("member {} is no container", quoted(header.name))));
  }

  std::optional<Error> problem_of(const TarHeader& header) {
    const std::string name = quoted(header.name);
    constexpr std::string_view kMade = "a collection has containers alone, as 'tar -H posix -cf FILE *.kvz' makes one";
    if (header.type != kTarFile) {
      return Error(ErrorCode::unsupported, fmt::format("member {} is no plain file: {}", name, kMade));
    }
    if (!is_base_name(header.name)) {
      return Error(ErrorCode::unsupported,
                   fmt::format("member {}: not the name of a file in one folder, in UTF-8", name));
    }
    if (!names_.insert(header.name).second) return Error(ErrorCode::corrupt, fmt::format("two members {}", name));
    return {};
  }

  void go_past(const Error& problem) {
    if (!salvages_) throw problem;
    if (!problem_) problem_ = problem;
  }

  const InputFile& file_;
  bool salvages_;
  std::optional<Error> problem_;
  std::uint64_t at_ = 0;
  std::optional<PaxFields> pax_;
  std::set<std::string> names_;
  std::vector<CollectionMember> members_;
};

}  // namespace

bool begins_collection(ByteView first) {
  for (std::size_t at = 0; is_tar(first.subspan(at));) {
    TarBlock block;
    std::copy_n(first.begin() + static_cast<std::ptrdiff_t>(at), kTarBlock, block.begin());
    at += kTarBlock;
    try {
      const TarHeader header = parse_tar_header(block);
      if (is_own_folder(header)) continue;
      if (header.type != kTarPax) return begins_container(first.subspan(at));
      if (header.bytes > limits::kPaxBytes || header.bytes > first.size() - at ||
          tar_padding(header.bytes) > first.size() - at - header.bytes)
        return false;
      at += header.bytes + tar_padding(header.bytes);
    } catch (const Error&) {
      return false;
    }
  }
  return false;
}

bool begins_collection(const InputFile& file) {
  Bytes first(std::min<std::uint64_t>(file.size(), kTarBlock));
  file.read_at(0, first);
  if (!is_tar(first)) return false;
  first.resize(std::min(file.size(), kBeforeContainer + kPreludeBytes));
  file.read_at(0, first);
  return begins_collection(first);
}

namespace {

/// Of a regular file; a look does not make it an input, whose permissions outputs have.
bool begins(const std::string& path, const std::function<bool(InputStream&)>& as_wanted) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return false;
  const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return false;
  InputStream stream(fd.get(), path);
  return as_wanted(stream);
}

}  // namespace

bool is_archive(const std::string& path) {
  return begins(path, [](InputStream& stream) { return is_tar(stream.peek(kTarBlock)); });
}

bool is_collection(const std::string& path) {
  return begins(path, [](InputStream& stream) {
    return is_tar(stream.peek(kTarBlock)) && begins_collection(stream.peek(kBeforeContainer + kPreludeBytes));
  });
}

std::vector<CollectionMember> read_collection(const InputFile& file) {
  return in_file(file.path(), [&] { return CollectionScan(file).members(); });
}

CutCollection salvage_collection(const InputFile& file) {
  CollectionScan scan(file, true);
  CutCollection out;
  try {
    out.members = scan.members();
    out.why = scan.problem();
  } catch (const Error& error) {
    if (error.code() == ErrorCode::io) throw;
    out.why = error;
    out.members = scan.found();
  }
  return out;
}

std::vector<std::string> member_paths(const std::string& path) {
  std::vector<std::string> out;
  for (const CollectionMember& member : read_collection(InputFile(path))) out.push_back(path + "/" + member.name);
  return out;
}

std::optional<std::string> collection_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos || slash + 1 == path.size()) return std::nullopt;
  std::string file = path.substr(0, slash);
  return is_collection(file) ? std::optional(std::move(file)) : std::nullopt;
}

std::optional<CollectionMember> find_member(const InputFile& file, std::string_view name) {
  for (CollectionMember& member : read_collection(file)) {
    if (member.name == name) return std::move(member);
  }
  return std::nullopt;
}

void refuse_collection(const InputFile& file) {
  const std::vector<CollectionMember> members = read_collection(file);
  fail_in(file.path(), ErrorCode::unsupported,
          "a collection of containers ({}): {} is the first of them, and 'tar xf' makes each a file", members.size(),
          quoted(file.path() + "/" + members.at(0).name));
}

void require_no_collection(const std::string& path) {
  if (is_collection(path)) refuse_collection(InputFile(path));
}

}  // namespace kvzip
