// SPDX-License-Identifier: Apache-2.0
// Dumps of any size that take no memory.
#pragma once

#include <algorithm>
#include <functional>
#include <utility>

#include "kvzip/io.hpp"

namespace kvzip::test {

/// Elements are made as they are read: zeros, or what `make` puts in their place.
class MadeReader final : public DumpReader {
 public:
  using Make = std::function<void(const Slice&, std::span<std::byte>)>;
  explicit MadeReader(Dump dump, Make make = {}) : dump_(std::move(dump)), make_(std::move(make)) {}

  const Dump& dump() const override { return dump_; }
  std::uint64_t part_count() const override { return 0; }
  Part part(std::uint64_t) const override { return {}; }
  void fetch(Part&) override {}
  void read(const Slice& slice, std::span<std::byte> out) override {
    ++reads;
    std::ranges::fill(out, std::byte{0});
    if (make_) make_(slice, out);
  }

  std::uint64_t reads = 0;

 private:
  Dump dump_;
  Make make_;
};

}  // namespace kvzip::test
