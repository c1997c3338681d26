// SPDX-License-Identifier: Apache-2.0
// The file behind the library: bytes at HDF5 addresses. The HDF5 library trusts lengths inside objects and follows
// them out of its buffers, so what it is about to decode is checked here first.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "formats/file.hpp"
#include "formats/hdf5/hdf5_library.hpp"

namespace kvzip::hdf5 {

/// The address of what is nowhere.
inline constexpr std::uint64_t kUndefined = ~std::uint64_t{0};

/// Reads little-endian fields; fail(corrupt) instead of passing the end.
class Cursor {
 public:
  explicit Cursor(ByteView bytes) : bytes_(bytes) {}
  std::uint64_t number(std::size_t bytes);
  Cursor take(std::uint64_t bytes);
  void skip(std::uint64_t bytes) { take(bytes); }
  /// Skips a NUL-terminated name, and what rounds it up to a multiple of `round` bytes.
  void skip_name(std::size_t round);
  std::size_t left() const { return bytes_.size(); }
  ByteView rest() const { return bytes_; }

 private:
  ByteView bytes_;
};

/// Where HDF5 addresses lie in a file.
class RawFile {
 public:
  explicit RawFile(const InputFile& input);
  std::uint64_t size() const { return input_.size(); }
  std::uint64_t user_block() const { return base_; }
  /// fail(truncated) unless these bytes are in the file.
  void check(std::uint64_t address, std::uint64_t bytes) const;
  Bytes read(std::uint64_t address, std::uint64_t bytes) const;
  /// fail(limit) where the datasets together state far more bytes than the file has, unless files are trusted: what was
  /// never stored are fill values, deflate expands up to 1032 times, and several can share one place.
  void count_stated(std::uint64_t bytes) const;
  /// Takes bytes that belong to one structure only. fail(corrupt) where some are taken already: the library keeps what
  /// it decoded under its address, and takes it for what the next to come there expects. fail(limit) where there are
  /// more structures than a file of so many objects has.
  void claim(std::uint64_t address, std::uint64_t bytes) const;
  /// What check_header found at an address, for those who come there again.
  std::map<std::uint64_t, std::optional<std::uint64_t>>& headers() const { return headers_; }

 private:
  const InputFile& input_;
  mutable std::uint64_t stated_ = 0;
  mutable std::size_t structures_ = 0;
  mutable std::map<std::uint64_t, std::uint64_t> claimed_;  // ends by beginnings; neighbours are one entry
  mutable std::map<std::uint64_t, std::optional<std::uint64_t>> headers_;
  std::uint64_t base_ = 0, end_ = 0;
};

/// What the library reads while it opens a file, and takes memory for, before it can be asked anything: fails where a
/// length in the superblock's driver information or in the headers that it names leads out of the file, and with
/// unsupported where addresses or lengths have not 8 bytes. Leaves a file without superblock to the library.
void check_superblock(const InputFile& input);

/// fail(corrupt) unless every message of the object header at `address` keeps within its bounds.
void check_header(const RawFile& file, std::uint64_t address);

/// The global heap, where variable-length strings are. The library's own reader of it can be led out of its buffers
/// and round in circles.
class Heap {
 public:
  explicit Heap(const RawFile& file) : file_(file) {}
  /// A string from its reference: length, address of the collection, index.
  std::string text(std::uint64_t length, std::uint64_t address, std::uint64_t index);

 private:
  struct Collection {
    Bytes bytes;
    std::map<std::uint64_t, ByteView> objects;
  };
  const Collection& load(std::uint64_t address);

  const RawFile& file_;
  std::map<std::uint64_t, Collection> collections_;
  std::uint64_t loaded_ = 0;
};

}  // namespace kvzip::hdf5
