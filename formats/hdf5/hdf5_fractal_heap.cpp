// SPDX-License-Identifier: Apache-2.0
#include "formats/hdf5/hdf5_fractal_heap.hpp"

#include <algorithm>
#include <bit>
#include <utility>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/hdf5/hdf5_btree2.hpp"

namespace kvzip::hdf5 {
namespace {

enum HeapId : std::uint64_t { kManaged = 0, kHuge = 1, kTiny = 2 };

std::uint64_t low_bytes(std::uint64_t value, std::uint64_t bytes) {
  return value & ((std::uint64_t{1} << (8 * bytes)) - 1);
}

/// The exponent of a power of 2 that has at most `most`.
std::uint64_t exponent(std::uint64_t value, std::uint64_t most) {
  if (!std::has_single_bit(value) || value > std::uint64_t{1} << most) fail(kBad, "a heap has blocks of {}", value);
  return static_cast<std::uint64_t>(std::countr_zero(value));
}

}  // namespace

FractalHeap::FractalHeap(const RawFile& file, std::uint64_t address, std::uint64_t id_bytes)
    : file_(file), address_(address), id_bytes_(id_bytes) {
  constexpr std::uint64_t kSignature = 0x50485246, kHeader = 146;  // "FRHP"
  file_.claim(address, kHeader);
  const Bytes head = file_.read(address, kHeader);
  Cursor in(head);
  if (in.number(4) != kSignature || in.number(1) != 0) fail(kBad, "there is no heap where one should be");
  if (in.number(2) != id_bytes_) fail(kBad, "a heap has IDs of another size than its index");
  // The library has no filters for what is checked here.
  if (in.number(2) != 0) fail(ErrorCode::unsupported, "a heap of links or attributes is filtered");
  const bool checksums = (in.number(1) & 2) != 0;
  const std::uint64_t most_bytes = in.number(4);
  in.skip(8);
  huge_tree_ = in.number(8);
  in.skip(8 * 7);  // free space and counters
  const std::uint64_t huge_objects = in.number(8);
  // The library would delete the tree, in a file that it only reads.
  if (huge_tree_ != kUndefined && huge_objects == 0) fail(kBad, "a heap has a tree of objects, but none");
  in.skip(8 * 2);
  read_table(in);
  length_bytes_ = std::min<std::uint64_t>((direct_bits_ + 7) / 8, bytes_for(most_bytes));
  if (1 + offset_bytes_ + length_bytes_ > id_bytes_) fail(kBad, "a heap has IDs that are too short");
  block_head_ = 4 + 1 + 8 + offset_bytes_ + (checksums ? 4 : 0);
  if (block_head_ >= std::uint64_t{1} << start_bits_) fail(kBad, "a heap has blocks without room");
}

/// The doubling table: rows of blocks, of one size in the first two rows and of twice the last one's from there on.
void FractalHeap::read_table(Cursor& in) {
  const std::uint64_t row_bits = exponent(in.number(2), 15);
  start_bits_ = exponent(in.number(8), 31);
  direct_bits_ = exponent(in.number(8), 31);
  row_bits_ = start_bits_ + row_bits;
  const std::uint64_t most_bits = in.number(2);
  in.skip(2);
  root_ = in.number(8);
  root_rows_ = in.number(2);
  offset_bytes_ = (most_bits + 7) / 8;
  if (start_bits_ > direct_bits_ || row_bits_ > direct_bits_ + 1 || row_bits_ > most_bits ||
      offset_bytes_ >= id_bytes_ || root_rows_ > most_bits - row_bits_ + 1) {
    fail(kBad, "a heap has no table of its blocks");
  }
}

void FractalHeap::each(const std::vector<std::uint64_t>& ids, const Visit& visit) const {
  std::vector<Object> objects;
  std::vector<std::uint64_t> far;
  for (const std::uint64_t id : ids) {
    const std::uint64_t rest = id >> 8, kind = id >> 4 & 15;
    if (kind == kManaged) {
      objects.push_back({low_bytes(rest, offset_bytes_), low_bytes(rest >> (8 * offset_bytes_), length_bytes_)});
    } else if (kind == kHuge) {
      far.push_back(rest);
    } else if (kind == kTiny && (id & 15) + 2 <= id_bytes_) {
      Bytes bytes;
      for (std::uint64_t i = 0; i <= (id & 15); ++i) bytes.push_back(static_cast<std::byte>(rest >> (8 * i)));
      visit(Cursor(bytes));
    } else {
      fail(kBad, "there is no object of ID {:#x}", id);
    }
  }
  if (!objects.empty()) managed(std::move(objects), visit);
  if (!far.empty()) huge(std::move(far), visit);
}

void FractalHeap::managed(std::vector<Object> objects, const Visit& visit) const {
  std::ranges::sort(objects, {}, &Object::offset);
  for (std::size_t i = 1; i < objects.size(); ++i) {
    if (objects[i].offset - objects[i - 1].offset < objects[i - 1].bytes) fail(kBad, "objects of a heap share bytes");
  }
  if (root_rows_ == 0) return block(root_, 0, std::uint64_t{1} << start_bits_, objects, visit);
  rows(root_, 0, root_rows_, objects, visit);
}

/// A block of blocks (III.G, indirect block). Those in it are smaller, so that none is its own.
void FractalHeap::rows(std::uint64_t at, std::uint64_t first, std::uint64_t count, Objects objects,
                       const Visit& visit) const {
  constexpr std::uint64_t kSignature = 0x42494846;  // "FHIB"
  const std::uint64_t bytes = 4 + 1 + 8 + offset_bytes_ + (count << (row_bits_ - start_bits_)) * 8 + 4;
  file_.claim(at, bytes);
  const Bytes stored = file_.read(at, bytes);
  Cursor in(stored);
  check_block(in, kSignature, first);
  while (!objects.empty()) {
    const std::uint64_t offset = objects[0].offset - first;
    const std::uint64_t row =
        offset >> row_bits_ == 0 ? 0 : static_cast<std::uint64_t>(std::bit_width(offset)) - row_bits_;
    if (row >= count) fail(kBad, "an object lies behind its heap");
    const std::uint64_t bits = start_bits_ + (row == 0 ? 0 : row - 1);
    const std::uint64_t before = row == 0 ? 0 : std::uint64_t{1} << (row_bits_ + row - 1);
    const std::uint64_t column = (offset - before) >> bits;
    const std::uint64_t begin = first + before + (column << bits);
    const auto inside = [&](const Object& o) { return o.offset - begin < std::uint64_t{1} << bits; };
    const auto end = static_cast<std::size_t>(std::ranges::partition_point(objects, inside) - objects.begin());
    Cursor child = in;
    child.skip(((row << (row_bits_ - start_bits_)) + column) * 8);
    const std::uint64_t there = child.number(8);
    // The library would make one, in a file that it only reads.
    if (there == kUndefined) fail(kBad, "an object lies in no block of its heap");
    if (bits <= direct_bits_) {
      block(there, begin, std::uint64_t{1} << bits, objects.first(end), visit);
    } else {
      rows(there, begin, bits - row_bits_ + 1, objects.first(end), visit);
    }
    objects = objects.subspan(end);
  }
}

/// A block with objects (III.G, direct block).
void FractalHeap::block(std::uint64_t at, std::uint64_t first, std::uint64_t bytes, Objects objects,
                        const Visit& visit) const {
  constexpr std::uint64_t kSignature = 0x42444846;  // "FHDB"
  file_.claim(at, bytes);
  const Bytes stored = file_.read(at, bytes);
  Cursor in(stored);
  check_block(in, kSignature, first);
  for (const Object& object : objects) {
    const std::uint64_t offset = object.offset - first;
    if (offset < block_head_ || offset >= bytes || object.bytes > bytes - offset) {
      fail(kBad, "an object leads out of its heap's block");
    }
    Cursor body(stored);
    body.skip(offset);
    visit(body.take(object.bytes));
  }
}

void FractalHeap::check_block(Cursor& in, std::uint64_t signature, std::uint64_t first) const {
  if (in.number(4) != signature || in.number(1) != 0 || in.number(8) != address_ || in.number(offset_bytes_) != first) {
    fail(kBad, "a heap has a block that is none of it");
  }
}

/// Objects that lie by themselves. A tree says where.
void FractalHeap::huge(std::vector<std::uint64_t> ids, const Visit& visit) const {
  struct Place {
    std::uint64_t id = 0, at = 0, bytes = 0;
  };
  std::vector<Place> places;
  walk_tree2(file_, huge_tree_, {1, 24}, [&](Cursor record) {
    const std::uint64_t at = record.number(8), bytes = record.number(8);
    places.push_back({record.number(8), at, bytes});
  });
  std::ranges::sort(places, {}, &Place::id);
  if (std::ranges::adjacent_find(places, {}, &Place::id) != places.end()) fail(kBad, "objects of a heap share an ID");
  for (const std::uint64_t id : ids) {
    const auto place = std::ranges::lower_bound(places, id, {}, &Place::id);
    if (place == places.end() || place->id != id) fail(kBad, "there is no object of ID {:#x}", id);
    if (place->bytes > limits::kHdf5HeapObject)
      fail(ErrorCode::limit, "a link or an attribute has {} bytes", place->bytes);
    file_.claim(place->at, place->bytes);
    const Bytes stored = file_.read(place->at, place->bytes);
    visit(Cursor(stored));
  }
}

}  // namespace kvzip::hdf5
