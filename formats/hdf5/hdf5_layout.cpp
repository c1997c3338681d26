// SPDX-License-Identifier: Apache-2.0
#include "formats/hdf5/hdf5_layout.hpp"

#include "codec/fail.hpp"
#include "codec/limits.hpp"

namespace kvzip::hdf5 {
namespace {

enum LayoutClass : std::uint64_t { kCompact = 0, kContiguous = 1, kChunked = 2 };

std::optional<ChunkLayout> read_old(Cursor in, const RawFile& file) {
  const std::uint64_t rank = in.number(1), kind = in.number(1);
  in.skip(5);
  ChunkLayout out;
  if (kind != kCompact) out.at = read_address(in, file);
  for (std::uint64_t a = 0; a < rank; ++a) out.extent.push_back(in.number(4));
  if (kind == kCompact) in.skip(in.number(4));
  return kind == kChunked ? std::optional(std::move(out)) : std::nullopt;
}

ChunkLayout read_chunks(Cursor in, std::uint64_t version, const RawFile& file) {
  ChunkLayout out;
  const std::uint64_t flags = version == 4 ? in.number(1) : 0;
  const std::uint64_t rank = in.number(1);
  if (version == 3) out.at = read_address(in, file);
  const std::uint64_t width = version == 4 ? in.number(1) : 4;
  if (width == 0 || width > 8) fail(kBad, "extents of chunks have {} bytes", width);
  for (std::uint64_t a = 0; a < rank; ++a) out.extent.push_back(in.number(width));
  if (version == 3) return out;
  out.index = static_cast<ChunkIndex>(in.number(1));
  std::uint64_t packed_bytes = 0;
  switch (out.index) {
    case ChunkIndex::single:
      if ((flags & 2) == 0) break;
      packed_bytes = in.number(8);
      in.skip(4);
      break;
    case ChunkIndex::implicit:
      break;
    case ChunkIndex::fixed:
      in.skip(1);
      break;
    case ChunkIndex::extensible:
      in.skip(5);
      break;
    case ChunkIndex::tree2:
      in.skip(6);
      break;
    default:
      fail(kBad, "chunks have no index of kind {}", static_cast<std::uint64_t>(out.index));
  }
  out.at = read_address(in, file);
  if (out.at) file.check(*out.at, packed_bytes);
  return out;
}

}  // namespace

std::optional<ChunkLayout> read_layout_message(Cursor in, const RawFile& file) {
  const std::uint64_t version = in.number(1);
  if (version > 4) {
    fail(ErrorCode::unsupported,
         "it has a layout message of version {}, as HDF5 2.0 and later write: write it with h5py's "
         "libver=('earliest', 'v114'), or repack it with the h5repack of that release",
         version);
  }
  std::optional<ChunkLayout> out;
  if (version < 3) {
    out = read_old(in, file);
  } else {
    const std::uint64_t kind = in.number(1);
    if (kind == kCompact) in.skip(in.number(2));
    if (kind == kContiguous) {
      read_address(in, file);
      in.skip(8);
    }
    if (kind == kChunked) out = read_chunks(in, version, file);
  }
  if (!out) return out;
  if (out->extent.size() < 2 || out->extent.size() > limits::kHdf5Rank + 1) {
    fail(kBad, "chunks of {} dimensions", out->extent.size());
  }
  for (const std::uint64_t n : out->extent) {
    // The library keeps 4 bytes of each.
    if (n == 0 || n >> 32 != 0) fail(kBad, "chunks of {} elements along an axis", n);
  }
  return out;
}

}  // namespace kvzip::hdf5
