// SPDX-License-Identifier: Apache-2.0
// A dump without the tokens that do not stay.
#pragma once

#include <optional>
#include <vector>

#include "formats/head_rows.hpp"
#include "formats/parts.hpp"
#include "src/prune/keep.hpp"

namespace kvzip::tool {

/// Keys and values with the tokens that stay, or with the weighted means of runs, of values times a run's length, and a
/// tensor of their numbers in the original, I64: batch entries, where there are several, x layers and heads, where
/// these have lists of their own, x tokens. Other tensors are as they were, but for queries, which ask at places that
/// no longer are.
class PrunedReader : public DumpReader {
 public:
  /// `inner` must outlive it. fail(invalid_argument) when the layout has no place for the lists.
  PrunedReader(DumpReader& inner, const Recognition& recognition, Kept kept);

  const Dump& dump() const override { return dump_; }
  std::uint64_t part_count() const override { return parts_.count(); }
  Part part(std::uint64_t index) const override { return parts_.part(dump_, index); }
  void fetch(Part& part) override;
  void read(const Slice& slice, std::span<std::byte> out) override;

 private:
  struct Source {
    std::size_t tensor = 0;  // of the inner dump
    TensorRole role;         // other: as it was
  };
  void take_attributes(const Recognition& recognition);
  void read_positions(std::size_t tensor);
  /// Of a row of the original, as far as that says.
  std::uint64_t position_of(std::uint64_t row) const;
  void add_positions();
  void read_kept(const Source& source, const Slice& slice, std::span<std::byte> out);
  void read_box(const Source& source, const Slice& slice, const Slice& box, const std::vector<std::uint64_t>& list,
                std::span<std::byte> out);
  void read_runs(const Source& source, const Slice& slice, const Slice& box, const Kept::Runs& runs,
                 std::span<std::byte> out);

  DumpReader& inner_;
  Kept kept_;
  Dump dump_;
  std::vector<Source> sources_;                             // of all tensors but the last
  std::optional<std::vector<std::int32_t>> row_positions_;  // of the original, where it states them
  Bytes positions_;
  DumpParts parts_;
};

}  // namespace kvzip::tool
