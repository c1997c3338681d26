// SPDX-License-Identifier: Apache-2.0
// Chunks whose filters are undone here. The library takes a chunk that unpacks to fewer bytes than it should have for
// a whole one and reads past its end.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <span>
#include <vector>

#include "formats/hdf5/hdf5_library.hpp"
#include "kvzip/io.hpp"

namespace kvzip::hdf5 {

struct ChunkFilter {
  int id = 0;
  unsigned parameter = 0;  // the first: the size of the elements that shuffle works on
};

struct ChunkForm {
  std::vector<std::uint64_t> extent;  // elements along each axis; empty = not chunked
  std::uint64_t bytes = 0;            // of one unpacked chunk
  std::vector<ChunkFilter> filters;   // in the order in which the writer applied them
};

/// True when all filters are deflate, shuffle or Fletcher-32, and there are some: what Chunks reads.
bool has_plain_filters(const ChunkForm& form);
/// Undoes the filters of a stored chunk; fail(corrupt) unless that gives exactly form.bytes. The bits of `skipped`
/// stand for filters that were not applied to this chunk.
Bytes unpack_chunk(const ChunkForm& form, Bytes stored, unsigned skipped);

/// Reads slices of one open dataset, keeping unpacked chunks for the next slice.
class Chunks {
 public:
  /// Keeps up to `cache_bytes`, and at least one chunk, beside one of `fill`, an element, for those that the file does
  /// not have.
  Chunks(const ChunkForm& form, std::uint64_t cache_bytes, Bytes fill);
  void read(Id dataset, const Slice& slice, std::span<std::byte> out);

 private:
  struct Kept {
    std::vector<std::uint64_t> origin;
    Bytes bytes;
  };
  using KeptList = std::list<Kept>;
  const Bytes& chunk(Id dataset, const std::vector<std::uint64_t>& origin);
  std::uint64_t stored_bytes(Id dataset, const std::vector<std::uint64_t>& origin) const;
  Bytes load(Id dataset, const std::vector<std::uint64_t>& origin, std::uint64_t size) const;
  const Bytes& blank();  // a chunk that the file does not have

  const ChunkForm& form_;
  std::size_t capacity_;
  Bytes fill_, blank_;
  KeptList kept_;  // the latest first
  std::map<std::vector<std::uint64_t>, KeptList::iterator> by_origin_;
};

}  // namespace kvzip::hdf5
