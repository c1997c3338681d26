// SPDX-License-Identifier: Apache-2.0
#include "formats/hdf5/hdf5_old_group.hpp"

#include <algorithm>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/hdf5/hdf5_messages.hpp"

namespace kvzip::hdf5 {
namespace {

class OldGroup {
 public:
  explicit OldGroup(const RawFile& file) : file_(file) {}
  void read_names(std::uint64_t heap);
  void check_tree(std::uint64_t at, std::uint64_t level) const;

 private:
  void check_gaps(std::uint64_t first) const;
  void check_symbols(std::uint64_t at) const;
  void check_name(std::uint64_t at) const;

  const RawFile& file_;
  Bytes names_;
  std::uint64_t last_ends_ = 0;  // behind the last NUL
};

void OldGroup::read_names(std::uint64_t heap) {
  constexpr std::uint64_t kSignature = 0x50414548, kHead = 32;  // "HEAP"
  file_.claim(heap, kHead);
  const Bytes head = file_.read(heap, kHead);
  Cursor in(head);
  if (in.number(4) != kSignature) fail(kBad, "a group has no heap of names");
  in.skip(4);
  const std::uint64_t size = in.number(8), gap = in.number(8), at = in.number(8);
  file_.claim(at, size);
  names_ = file_.read(at, size);
  const auto last = std::find(names_.rbegin(), names_.rend(), std::byte{0});
  last_ends_ = static_cast<std::uint64_t>(names_.rend() - last);
  check_gaps(gap);
}

/// Free space is a list, which the library follows and keeps, round in circles, too.
void OldGroup::check_gaps(std::uint64_t first) const {
  constexpr std::uint64_t kNone = 1, kLeast = 16;
  std::uint64_t left = names_.size() / kLeast;
  for (std::uint64_t gap = first; gap != kNone;) {
    if (left-- == 0) fail(kBad, "a group's heap has more free space than bytes");
    Cursor in(names_);
    in.skip(gap);
    gap = in.number(8);
    in.skip(8);
  }
}

/// The library looks for the end of a name without a bound, but not for a name outside the heap.
void OldGroup::check_name(std::uint64_t at) const {
  if (at >= last_ends_ && at < names_.size()) fail(kBad, "a group's heap has a name without end");
}

/// A node of the tree, and all below it. Levels fall, so that no node is its own.
void OldGroup::check_tree(std::uint64_t at, std::uint64_t level) const {
  constexpr std::uint64_t kSignature = 0x45455254, kHead = 24;  // "TREE"
  const Bytes head = file_.read(at, kHead);
  Cursor in(head);
  if (in.number(4) != kSignature || in.number(1) != 0 || in.number(1) != level) fail(kBad, "a group has no tree");
  const std::uint64_t children = in.number(2), bytes = children * 16 + 8;
  read_address(in, file_);
  read_address(in, file_);
  file_.claim(at, kHead + bytes);
  const Bytes body = file_.read(at + kHead, bytes);
  Cursor child(body);
  check_name(child.number(8));
  for (std::uint64_t c = 0; c < children; ++c) {
    if (level == 0) {
      check_symbols(child.number(8));
    } else {
      check_tree(child.number(8), level - 1);
    }
    check_name(child.number(8));
  }
}

/// The names and addresses of some of the group's objects.
void OldGroup::check_symbols(std::uint64_t at) const {
  constexpr std::uint64_t kSignature = 0x444f4e53, kHead = 8, kSymbol = 40, kSoftLink = 2;  // "SNOD"
  const Bytes head = file_.read(at, kHead);
  Cursor in(head);
  if (in.number(4) != kSignature) fail(kBad, "a group has no symbols");
  in.skip(2);
  const std::uint64_t count = in.number(2);
  file_.claim(at, kHead + count * kSymbol);
  const Bytes body = file_.read(at + kHead, count * kSymbol);
  Cursor symbol(body);
  for (std::uint64_t s = 0; s < count; ++s) {
    check_name(symbol.number(8));
    read_address(symbol, file_);
    const bool soft = symbol.number(4) == kSoftLink;
    symbol.skip(4);
    const std::uint64_t target = symbol.number(4);
    if (soft) check_name(target);
    symbol.skip(12);
  }
}

}  // namespace

void check_old_group(const RawFile& file, std::uint64_t tree, std::uint64_t heap) {
  OldGroup group(file);
  group.read_names(heap);
  const auto level = std::to_integer<std::uint64_t>(file.read(tree, 6)[5]);
  if (level > limits::kHdf5TreeLevels) fail(kBad, "a group's tree is too high");
  group.check_tree(tree, level);
}

}  // namespace kvzip::hdf5
