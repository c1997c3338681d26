// SPDX-License-Identifier: Apache-2.0
// Zip archives, as far as NumPy's .npz needs them: members that are stored or deflated, with or without the 64-bit
// extension (PKWARE's APPNOTE.TXT 6.3.3, sections 4.3 to 4.5).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/file.hpp"

namespace kvzip {

struct ZipMember {
  std::string name;
  std::uint64_t header = 0;  // of its local header
  std::uint64_t begin = 0;   // of its bytes in the file
  std::uint64_t stored = 0;  // bytes there
  std::uint64_t size = 0;    // bytes once unpacked
  std::uint32_t crc = 0;     // of these
  bool deflated = false;
};

/// The members in the order of the archive's directory. Names differ, and no two members share a byte.
std::vector<ZipMember> read_zip_directory(const InputFile& file);

/// One temporary file for all that is unpacked.
class ZipSpool {
 public:
  void append(ByteView bytes);
  std::uint64_t end() const { return end_; }
  void read_at(std::uint64_t offset, std::span<std::byte> out);

 private:
  std::unique_ptr<TemporaryFile> file_;
  std::unique_ptr<Sink> sink_;
  std::unique_ptr<InputFile> input_;  // of what was there when it was last needed
  std::uint64_t end_ = 0;
};

/// A member's bytes at any position. The first use checks all of them against the checksum, deflated ones on their way
/// to a temporary file.
class ZipBytes {
 public:
  ZipBytes(const InputFile& file, const ZipMember& member, ZipSpool& spool)
      : file_(file), member_(member), spool_(spool) {}
  /// Unchecked bytes from the front, as many as there are.
  Bytes front(std::size_t most) const;
  void read_at(std::uint64_t offset, std::span<std::byte> out);

 private:
  void check();

  const InputFile& file_;
  const ZipMember& member_;
  ZipSpool& spool_;
  std::uint64_t unpacked_ = 0;  // where in the spool
  bool checked_ = false;
};

/// The checksum of bytes that are written in any order, each once.
class ZipChecksum {
 public:
  void add(std::uint64_t at, ByteView bytes);
  /// Once all bytes are there.
  std::uint32_t value() const { return pieces_.empty() ? 0 : pieces_.begin()->second.crc; }

 private:
  struct Piece {
    std::uint64_t end;
    std::uint32_t crc;
  };
  std::map<std::uint64_t, Piece> pieces_;  // by their begins
};

/// What stands before a stored member's bytes; its checksum is at kZipChecksumAt.
std::string zip_local_header(const ZipMember& member);
inline constexpr std::uint64_t kZipChecksumAt = 14;
/// The directory and the end of an archive whose members come before `begin`.
std::string zip_directory(std::span<const ZipMember> members, std::uint64_t begin);

}  // namespace kvzip
