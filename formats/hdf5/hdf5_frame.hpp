// SPDX-License-Identifier: Apache-2.0
// What an HDF5 file holds beside the data of its tensors, as the bytes of a tensor of its own: links, texts, compounds,
// references, fill values, user block. From it and the tensors the file is made again.
//
// The bytes: u64 length of the file, u64 number of holes, u64 begin and u64 length of each, in order; then the file
// without its holes, in which the data of tensors lie.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "formats/file.hpp"
#include "formats/hdf5/hdf5_driver.hpp"
#include "formats/hdf5/hdf5_walk.hpp"

namespace kvzip::hdf5 {

struct Hole {
  std::uint64_t begin = 0, bytes = 0;
};

class Frame {
 public:
  /// `holes` are in order, apart, and within the file.
  Frame(std::uint64_t file_bytes, const std::vector<Hole>& holes);
  std::uint64_t size() const { return size_; }
  /// Its bytes from `at` on.
  void read(const InputFile& file, std::uint64_t at, std::span<std::byte> out) const;

 private:
  struct Piece {
    std::uint64_t at = 0, begin = 0, bytes = 0;  // in the tensor; in the file
  };
  Bytes front_;
  std::vector<Piece> pieces_;
  std::uint64_t size_ = 0;
};

/// Where the data of the tensors lie; nothing where that takes too long to find out, or where they overlap.
std::optional<std::vector<Hole>> find_holes(Id file, const InputFile& input, const Contents& contents);

/// The tensor that is the frame; none where there is none.
std::optional<std::size_t> frame_of(const Dump& dump);
/// The dump without its frame.
Dump without_frame(const Dump& dump);
/// Stands for names, types, shapes and attributes of all that is not the frame. A frame belongs to one such.
std::string frame_key(const Dump& dump);
/// Whether the frame is of these tensors, as it says.
bool fits_frame(const Dump& dump);

/// Writes the file with its holes. fail(corrupt) when the holes have more than `most` bytes, or the frame is none.
void expand_frame(const InputFile& frame, std::uint64_t most, const Output& to);

}  // namespace kvzip::hdf5
