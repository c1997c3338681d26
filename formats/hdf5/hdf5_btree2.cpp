// SPDX-License-Identifier: Apache-2.0
#include "formats/hdf5/hdf5_btree2.hpp"

#include <vector>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/hdf5/hdf5_messages.hpp"

namespace kvzip::hdf5 {
namespace {

constexpr std::uint64_t kNodePrefix = 6, kNodeChecksum = 4;

class Tree2 {
 public:
  Tree2(const RawFile& file, const Tree2Form& form, const std::function<void(Cursor)>& visit)
      : file_(file), form_(form), visit_(visit) {}

  void walk(std::uint64_t address);

 private:
  /// Of the nodes so many levels above the leaves.
  struct Level {
    std::uint64_t pointer_bytes = 0, most = 0, most_below = 0;
  };
  struct Node {
    std::uint64_t address = 0, records = 0, records_below = 0;
  };

  void add_levels(std::uint64_t depth);
  void node(const Node& stated, std::size_t level);

  const RawFile& file_;
  const Tree2Form form_;
  const std::function<void(Cursor)>& visit_;
  std::uint64_t node_bytes_ = 0;
  std::size_t count_bytes_ = 0;  // of the number of records in a node, at all levels
  std::vector<Level> levels_;
};

void Tree2::walk(std::uint64_t address) {
  constexpr std::uint64_t kSignature = 0x44485442, kHeader = 38;  // "BTHD"
  file_.claim(address, kHeader);
  const Bytes head = file_.read(address, kHeader);
  Cursor in(head);
  if (in.number(4) != kSignature || in.number(1) != 0 || in.number(1) != form_.type) fail(kBad, "an index has no tree");
  node_bytes_ = in.number(4);
  if (in.number(2) != form_.record_bytes) fail(kBad, "a tree has records of another size than its index");
  const std::uint64_t depth = in.number(2);
  in.skip(2);  // percentages, for writers
  if (node_bytes_ > limits::kHdf5BtreeNode || depth > limits::kHdf5BtreeDepth) {
    fail(ErrorCode::limit, "a tree has nodes of {} bytes on {} levels", node_bytes_, depth);
  }
  add_levels(depth);
  Node root{in.number(8), in.number(2), in.number(8)};
  if (root.records > 0) return node(root, static_cast<std::size_t>(depth));
  if (root.records_below > 0) fail(kBad, "a tree without nodes has records");
}

void Tree2::add_levels(std::uint64_t depth) {
  std::uint64_t below = 0;
  for (std::uint64_t d = 0; d <= depth; ++d) {
    Level level;
    if (d > 0) level.pointer_bytes = 8 + count_bytes_ + (d > 1 ? bytes_for(below) : 0);
    const std::uint64_t head = kNodePrefix + kNodeChecksum + level.pointer_bytes;
    const std::uint64_t each = form_.record_bytes + level.pointer_bytes;
    if (node_bytes_ < head + each) fail(kBad, "a tree has nodes too small for a record");
    level.most = (node_bytes_ - head) / each;
    if (d == 0) count_bytes_ = bytes_for(level.most);
    level.most_below = d == 0 ? level.most : multiply(level.most + 1, below);
    if (d > 0 && __builtin_add_overflow(level.most_below, level.most, &level.most_below)) {
      fail(kBad, "a tree is too high");
    }
    below = level.most_below;
    levels_.push_back(level);
  }
}

/// Levels fall, so that no node is its own.
void Tree2::node(const Node& stated, std::size_t level) {
  constexpr std::uint64_t kLeaf = 0x464c5442, kInner = 0x4e495442;  // "BTLF", "BTIN"
  const auto fail_count = [] { fail(kBad, "a tree has another number of records than stated"); };
  if (stated.records > levels_[level].most) fail(kBad, "a tree has a node of {} records", stated.records);
  if (stated.records > stated.records_below) fail_count();
  file_.claim(stated.address, node_bytes_);
  const Bytes bytes = file_.read(stated.address, node_bytes_);
  Cursor in(bytes);
  if (in.number(4) != (level == 0 ? kLeaf : kInner) || in.number(1) != 0 || in.number(1) != form_.type) {
    fail(kBad, "a tree has a node that is none");
  }
  for (std::uint64_t r = 0; r < stated.records; ++r) visit_(in.take(form_.record_bytes));
  std::uint64_t left = stated.records_below - stated.records;
  for (std::uint64_t c = 0; level > 0 && c <= stated.records; ++c) {
    Node child{in.number(8), in.number(count_bytes_), 0};
    child.records_below = level > 1 ? in.number(bytes_for(levels_[level - 1].most_below)) : child.records;
    if (child.records_below > left) fail_count();
    left -= child.records_below;
    node(child, level - 1);
  }
  if (left != 0) fail_count();
}

}  // namespace

std::size_t bytes_for(std::uint64_t most) {
  std::size_t bytes = 1;
  while (bytes < 8 && most >> (8 * bytes) != 0) ++bytes;
  return bytes;
}

void walk_tree2(const RawFile& file, std::uint64_t address, const Tree2Form& form,
                const std::function<void(Cursor)>& visit) {
  Tree2(file, form, visit).walk(address);
}

}  // namespace kvzip::hdf5
