// SPDX-License-Identifier: Apache-2.0
// Writes a collection: each member's bytes as they come, then its header, whose place was left free.
#include <unistd.h>

#include <algorithm>
#include <limits>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/collection.hpp"
#include "formats/file_calls.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/tar_header.hpp"
#include "formats/text.hpp"

namespace kvzip {
namespace {

/// The length of a collection is a multiple of it, as POSIX has it and 'tar --delete' of GNU needs it.
constexpr std::uint64_t kRecord = 20 * kTarBlock;

std::uint64_t up_to_block(std::uint64_t bytes) {
  return bytes + tar_padding(bytes);
}

/// Zeros, where it becomes longer.
void set_length(int fd, std::uint64_t bytes, const std::string& name) {
  constexpr std::uint64_t kEnd = std::numeric_limits<off_t>::max();
  if (bytes > kEnd) fail_in(name, ErrorCode::limit, "larger than any file can be");
  if (::ftruncate(fd, static_cast<off_t>(bytes)) != 0) fail_errno(name, "write");
}

}  // namespace

class CollectionWriter::MemberSink final : public Sink {
 public:
  MemberSink(CollectionWriter& all, std::string name) : all_(all), name_(std::move(name)) {
    if (name_.size() > kTarName) pax_ = make_pax_name(name_);
    front_ = kTarBlock + (pax_.empty() ? 0 : kTarBlock + up_to_block(pax_.size()));
  }
  ~MemberSink() override {
    try {
      if (!finished_) end_behind(all_.end_);
    } catch (const Error&) {
      // The next member sets it right, or fails, too.
    }
  }

  void append(ByteView bytes) override {
    write_all_at(all_.file_.descriptor(), all_.end_ + front_ + bytes_, bytes, all_.path_);
    bytes_ += bytes.size();
  }

  void finish() override {
    const std::uint64_t begin = all_.end_ + front_, end = begin + up_to_block(bytes_);
    end_behind(begin + bytes_);
    std::uint64_t at = all_.end_;
    if (!pax_.empty()) {
      put(at, make_tar_header({"pax", pax_.size(), kTarPax}));
      put(at + kTarBlock, std::as_bytes(std::span(pax_)));
      at += kTarBlock + up_to_block(pax_.size());
    }
    put(at, make_tar_header({name_, bytes_}));
    all_.end_ = end;
    all_.members_.push_back({name_, begin, bytes_});
    all_.access_.add(input_access());
    finished_ = true;
  }

 private:
  /// Padding and the two blocks at the end, which the next member is written over, are zeros.
  void end_behind(std::uint64_t bytes) const {
    set_length(all_.file_.descriptor(), bytes, all_.path_);
    const std::uint64_t end = up_to_block(bytes) + 2 * kTarBlock;
    set_length(all_.file_.descriptor(), (end + kRecord - 1) / kRecord * kRecord, all_.path_);
  }
  void put(std::uint64_t at, ByteView bytes) const { write_all_at(all_.file_.descriptor(), at, bytes, all_.path_); }

  CollectionWriter& all_;
  std::string name_, pax_;
  std::uint64_t front_ = 0, bytes_ = 0;  // of its headers, and its own
  bool finished_ = false;
};

std::unique_ptr<Sink> CollectionWriter::add(const std::string& name) {
  const bool taken = std::ranges::find(members_, name, &CollectionMember::name) != members_.end();
  if (!is_base_name(name) || taken) {
    fail(ErrorCode::invalid_argument, "{} is no name for another member of a collection", quoted(name));
  }
  if (members_.size() >= limits::kCollectionMembers) {
    fail(ErrorCode::limit, "more than {} members in a collection", limits::kCollectionMembers);
  }
  return std::make_unique<MemberSink>(*this, name);
}

InputFile CollectionWriter::member(std::string_view name) const {
  const auto found = std::ranges::find(members_, name, &CollectionMember::name);
  if (found == members_.end()) fail(ErrorCode::invalid_argument, "no member {}", quoted(name));
  return {file_.input(), found->begin, found->bytes, path_of(found->name)};
}

void CollectionWriter::finish() {
  forget_inputs();
  file_.restrict_to(access_);
  file_.commit();
}

}  // namespace kvzip
