// SPDX-License-Identifier: Apache-2.0
// Files in which each tensor lies in one piece, row-major, at a place known beforehand.
#pragma once

#include <cstdint>
#include <vector>

#include "formats/file.hpp"
#include "formats/parts.hpp"
#include "formats/run_reader.hpp"
#include "kvzip/io.hpp"

namespace kvzip {

/// What a reader needs that finds its tensors' bytes by offsets.
class PlacedReader : public DumpReader {
 public:
  const Dump& dump() const override { return dump_; }
  std::uint64_t part_count() const override { return parts_.count(); }
  Part part(std::uint64_t index) const override { return parts_.part(dump_, index); }
  void fetch(Part& part) override;
  void read(const Slice& slice, std::span<std::byte> out) override;

 protected:
  explicit PlacedReader(InputFile file) : file_(std::move(file)) { file_.drop_name(); }
  /// Called by the constructor once the dump and the begins are known.
  void place(Dump dump, std::vector<std::uint64_t> begins);

  InputFile file_;
  Dump dump_;
  std::vector<std::uint64_t> begins_;  // per tensor, in the file
  DumpParts parts_;
};

/// Parts may come in any order, cut in any way; each byte once.
class PlacedWriter : public DumpWriter {
 public:
  void append(Part& part) override;
  void made_from(const InputList& inputs) override { file_.made_from(inputs); }
  void finish() override;

 protected:
  PlacedWriter(Destination to, const Dump& dump) : dump_(dump), file_(std::move(to), OutputFile::Access::positioned) {}
  /// The next tensor of the dump begins here.
  void place(std::uint64_t begin);
  /// These bytes of a tensor have been written, `at` from its begin.
  virtual void wrote(std::size_t, std::uint64_t, ByteView) {}
  /// All tensors are there; the file has no name yet.
  virtual void complete() {}

  Dump dump_;
  OutputFile file_;

 private:
  void write(const Slice& slice, ByteView data);

  std::vector<std::uint64_t> begins_, missing_;  // per tensor: where it lies, and bytes not written yet
};

}  // namespace kvzip
