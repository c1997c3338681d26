// SPDX-License-Identifier: Apache-2.0
// Another's reader: where an owner of its own is needed, or one step is to be done otherwise.
#pragma once

#include "kvzip/io.hpp"

namespace kvzip {

/// Passes everything on to a reader that outlives it.
class BorrowedReader : public DumpReader {
 public:
  explicit BorrowedReader(DumpReader& inner) : inner_(inner) { reads_through(inner); }
  const Dump& dump() const override { return inner_.dump(); }
  std::uint64_t part_count() const override { return inner_.part_count(); }
  Part part(std::uint64_t index) const override { return inner_.part(index); }
  void fetch(Part& part) override { inner_.fetch(part); }
  void expand(Part& part) const override { inner_.expand(part); }
  void read(const Slice& slice, std::span<std::byte> out) override { inner_.read(slice, out); }
  const Recognition* recognition() const override { return inner_.recognition(); }
  ReaderTraits traits() override { return inner_.traits(); }

 private:
  DumpReader& inner_;
};

}  // namespace kvzip
