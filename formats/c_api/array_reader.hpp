// SPDX-License-Identifier: Apache-2.0
// Arrays of a caller as a dump.
#pragma once

#include <string>
#include <vector>

#include "formats/parts.hpp"
#include "kvzip/io.hpp"

namespace kvzip {

/// The arrays must outlive it.
class ArrayReader final : public DumpReader {
 public:
  /// fail(invalid_argument) for a name that is there or is not UTF-8, and where shape and bytes do not go together.
  void add(TensorInfo info, ByteView bytes);
  /// Metadata of the dump as a whole; replaces what has the name.
  void set_metadata(const std::string& name, std::string value);
  /// Arrays are those of another reader.
  void made_from(const DumpReader& source) { reads_through(source); }

  const Dump& dump() const override { return dump_; }
  std::uint64_t part_count() const override { return parts_.count(); }
  Part part(std::uint64_t index) const override { return parts_.part(dump_, index); }
  void fetch(Part& part) override;
  void read(const Slice& slice, std::span<std::byte> out) override;
  /// Called once all arrays are there, before parts are asked for.
  void cut_parts() { parts_ = DumpParts(dump_); }

 private:
  Dump dump_;
  std::vector<ByteView> arrays_;
  DumpParts parts_;
};

/// The bytes of one slice, between a whole tensor's and its own; all sizes have been checked.
void gather_slice(const TensorInfo& info, const Slice& slice, ByteView tensor, std::span<std::byte> out);
void scatter_slice(const TensorInfo& info, const Slice& slice, ByteView data, std::byte* tensor);

}  // namespace kvzip
