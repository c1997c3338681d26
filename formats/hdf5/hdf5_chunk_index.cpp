// SPDX-License-Identifier: Apache-2.0
// Indexes of chunks: version 1 B-trees (III.A.1), and those of layout messages of version 4 (VII).
#include <algorithm>
#include <bit>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/hdf5/hdf5_btree2.hpp"
#include "formats/hdf5/hdf5_layout.hpp"

namespace kvzip::hdf5 {
namespace {

constexpr std::uint64_t kBlockPrefix = 14, kBlockChecksum = 4;  // of blocks: signature, version, class, owner

std::uint64_t log2_of(std::uint64_t value) {
  if (!std::has_single_bit(value)) fail(kBad, "an index of chunks has blocks of {}", value);
  return static_cast<std::uint64_t>(std::countr_zero(value));
}

/// A place in an index: where a chunk is and, where it is packed, its bytes and the filters left out.
std::uint64_t element_bytes(const ChunkLayout& layout, bool packed) {
  if (!packed) return 8;
  std::uint32_t bytes = 1;  // as the library multiplies
  for (const std::uint64_t n : layout.extent) bytes *= static_cast<std::uint32_t>(n);
  const auto log2 = bytes == 0 ? 0 : static_cast<std::uint64_t>(std::bit_width(bytes)) - 1;
  return 8 + 1 + (log2 + 8) / 8 + 4;
}

/// The library makes room for as many bytes as a packed chunk is said to have.
void check_place(const RawFile& file, std::uint64_t at, std::uint64_t bytes) {
  if (at != kUndefined) file.check(at, bytes);
}

bool has_page(ByteView map, std::uint64_t page) {
  return (std::to_integer<unsigned>(map[static_cast<std::size_t>(page / 8)]) >> (7 - page % 8) & 1) != 0;
}

/// Nodes of the older tree. Levels fall, so that none is its own; the root's is kUndefined to who comes there.
void check_tree(const RawFile& file, std::uint64_t at, std::size_t rank, std::uint64_t level) {
  constexpr std::uint64_t kSignature = 0x45455254, kHead = 24;  // "TREE"
  const Bytes head = file.read(at, kHead);
  Cursor in(head);
  if (in.number(4) != kSignature || in.number(1) != 1) fail(kBad, "chunks have no tree");
  const std::uint64_t found = in.number(1), children = in.number(2), key = 8 + 8 * rank;
  if (found > limits::kHdf5TreeLevels || (level != kUndefined && found != level))
    fail(kBad, "a tree of chunks has a node of level {}", found);
  const std::uint64_t bytes = children * (key + 8) + key;
  file.claim(at, kHead + bytes);
  const Bytes body = file.read(at + kHead, bytes);
  Cursor child(body);
  for (std::uint64_t c = 0; c < children; ++c) {
    const std::uint64_t chunk_bytes = child.number(4);
    child.skip(key - 4);
    if (found == 0) {
      check_place(file, child.number(8), chunk_bytes);
    } else {
      check_tree(file, child.number(8), rank, found - 1);
    }
  }
}

class Array {
 public:
  Array(const RawFile& file, const ChunkLayout& layout, bool packed)
      : file_(file), at_(layout.at.value()), packed_(packed), element_bytes_(element_bytes(layout, packed)) {}
  void check_fixed(const ChunkLayout& layout, const Space& space) const;
  void check_extensible();

 private:
  /// Claims the block, and returns what follows its prefix.
  Bytes block(std::uint64_t at, std::uint64_t signature, std::uint64_t bytes) const;
  Bytes header(std::uint64_t signature, std::uint64_t bytes) const;
  void index_block(std::uint64_t at, std::uint64_t elements, std::uint64_t pointers) const;
  void super_block(std::uint64_t at, std::uint64_t number) const;
  void data_block(std::uint64_t at, std::uint64_t number) const;
  void check_places(std::uint64_t at, std::uint64_t count) const;
  // Of the super block of this number, existing or not.
  std::uint64_t blocks(std::uint64_t number) const { return std::uint64_t{1} << (number / 2); }
  std::uint64_t block_elements(std::uint64_t number) const { return least_ << ((number + 1) / 2); }
  std::uint64_t pages(std::uint64_t number) const {
    return block_elements(number) > page_elements_ ? block_elements(number) / page_elements_ : 0;
  }

  const RawFile& file_;
  const std::uint64_t at_;
  const bool packed_;
  const std::uint64_t element_bytes_;
  // Of an extensible array.
  std::uint64_t least_ = 0, page_elements_ = 0, offset_bytes_ = 0, super_blocks_ = 0;
};

Bytes Array::header(std::uint64_t signature, std::uint64_t bytes) const {
  file_.claim(at_, bytes);
  const Bytes head = file_.read(at_, bytes);
  Cursor in(head);
  if (in.number(4) != signature || in.number(1) != 0 || in.number(1) != (packed_ ? 1 : 0) ||
      in.number(1) != element_bytes_) {
    fail(kBad, "chunks have no index of their kind");
  }
  const ByteView rest = in.rest();
  return {rest.begin(), rest.end()};
}

Bytes Array::block(std::uint64_t at, std::uint64_t signature, std::uint64_t bytes) const {
  file_.claim(at, bytes);
  Bytes out = file_.read(at, kBlockPrefix);
  Cursor in(out);
  if (in.number(4) != signature || in.number(1) != 0 || in.number(1) != (packed_ ? 1 : 0) || in.number(8) != at_) {
    fail(kBad, "an index of chunks has a block that is none of it");
  }
  return out;
}

/// VII.C: an element for each chunk that there can be.
void Array::check_fixed(const ChunkLayout& layout, const Space& space) const {
  constexpr std::uint64_t kSignature = 0x44484146, kBlock = 0x42444146, kHeader = 28;  // "FAHD", "FADB"
  const Bytes head = header(kSignature, kHeader);
  Cursor in(head);
  const std::uint64_t page_bits = in.number(1), elements = in.number(8), data = in.number(8);
  std::uint64_t chunks = 1;
  for (std::size_t a = 0; a < space.most.size(); ++a) {
    const std::uint64_t most = space.most[a], n = layout.extent[a];
    if (most == kUndefined) fail(kBad, "an index of a fixed size has chunks without end");
    chunks = multiply(chunks, most / n + (most % n != 0 ? 1 : 0));
  }
  if (elements != chunks) fail(kBad, "an index of {} chunks has {} elements", chunks, elements);
  if (elements > limits::kHdf5IndexChunks) fail(ErrorCode::limit, "it has an index of {} chunks", elements);
  if (page_bits == 0 || page_bits > 31) fail(kBad, "an index of chunks has pages of 2^{}", page_bits);
  if (data == kUndefined) return;
  const std::uint64_t page = std::uint64_t{1} << page_bits;
  const std::uint64_t pages = elements > page ? (elements - 1) / page + 1 : 0;
  const std::uint64_t map_bytes = (pages + 7) / 8, begin = kBlockPrefix + map_bytes + kBlockChecksum;
  block(data, kBlock, begin + elements * element_bytes_ + pages * kBlockChecksum);
  if (pages == 0) return check_places(data + kBlockPrefix, elements);
  const Bytes map = file_.read(data + kBlockPrefix, map_bytes);
  for (std::uint64_t p = 0; p < pages; ++p) {
    const std::uint64_t before = p * (page * element_bytes_ + kBlockChecksum);
    if (has_page(map, p)) check_places(data + begin + before, std::min(page, elements - p * page));
  }
}

/// Those of chunks that are not packed the library reads with the size that they have to have.
void Array::check_places(std::uint64_t at, std::uint64_t count) const {
  if (!packed_) return;
  const Bytes stored = file_.read(at, count * element_bytes_);
  Cursor in(stored);
  for (std::uint64_t e = 0; e < count; ++e) {
    const std::uint64_t chunk = in.number(8), bytes = in.number(static_cast<std::size_t>(element_bytes_ - 12));
    in.skip(4);
    check_place(file_, chunk, bytes);
  }
}

/// VII.D: blocks whose number and size grow, so that an index can grow without end.
void Array::check_extensible() {
  constexpr std::uint64_t kSignature = 0x44484145, kHeader = 72;  // "EAHD"
  const Bytes head = header(kSignature, kHeader);
  Cursor in(head);
  const std::uint64_t most_bits = in.number(1), in_index = in.number(1);
  least_ = in.number(1);
  const std::uint64_t pointers = in.number(1), page_bits = in.number(1);
  in.skip(4 * 8);
  const std::uint64_t used = in.number(8);
  in.skip(8);
  const std::uint64_t index = in.number(8);
  const std::uint64_t least_bits = log2_of(least_), direct = 2 * log2_of(pointers);
  if (most_bits > 62 || least_bits > most_bits || page_bits > 31) {
    fail(kBad, "an index of chunks has 2^{} elements in pages of 2^{}", most_bits, page_bits);
  }
  super_blocks_ = 1 + most_bits - least_bits;
  page_elements_ = std::uint64_t{1} << page_bits;
  offset_bytes_ = (most_bits + 7) / 8;
  // Blocks that the index block leads to have no pages: the library does not look for them there.
  if (direct > super_blocks_ || (direct > 0 && pages(direct - 1) > 0)) {
    fail(kBad, "an index of chunks leads to {} blocks", pointers);
  }
  if (used > limits::kHdf5IndexChunks) fail(ErrorCode::limit, "it has an index of {} chunks", used);
  if (used > in_index + (std::uint64_t{2} << most_bits) - least_) fail(kBad, "an index has more chunks than it can");
  if (index != kUndefined) index_block(index, in_index, pointers);
}

void Array::index_block(std::uint64_t at, std::uint64_t elements, std::uint64_t pointers) const {
  constexpr std::uint64_t kSignature = 0x42494145;  // "EAIB"
  const std::uint64_t direct = 2 * log2_of(pointers), to_blocks = 2 * (pointers - 1);
  const std::uint64_t before = kBlockPrefix + elements * element_bytes_;
  const std::uint64_t bytes = 8 * (to_blocks + super_blocks_ - direct);
  block(at, kSignature, before + bytes + kBlockChecksum);
  check_places(at + kBlockPrefix, elements);
  const Bytes places = file_.read(at + before, bytes);
  Cursor in(places);
  for (std::uint64_t s = 0; s < direct; ++s) {
    for (std::uint64_t b = 0; b < blocks(s); ++b) data_block(in.number(8), s);
  }
  for (std::uint64_t s = direct; s < super_blocks_; ++s) super_block(in.number(8), s);
}

void Array::super_block(std::uint64_t at, std::uint64_t number) const {
  constexpr std::uint64_t kSignature = 0x42534145;  // "EASB"
  if (at == kUndefined) return;
  const std::uint64_t count = blocks(number), paged = pages(number), begin = kBlockPrefix + offset_bytes_;
  const std::uint64_t map_bytes = multiply(count, (paged + 7) / 8), bytes = 8 * count;
  block(at, kSignature, begin + map_bytes + bytes + kBlockChecksum);
  const Bytes map = file_.read(at + begin, map_bytes), places = file_.read(at + begin + map_bytes, bytes);
  Cursor in(places);
  for (std::uint64_t b = 0; b < count; ++b) {
    const std::uint64_t data = in.number(8);
    data_block(data, number);
    for (std::uint64_t p = 0; data != kUndefined && p < paged; ++p) {
      const std::uint64_t before = p * (page_elements_ * element_bytes_ + kBlockChecksum);
      if (has_page(map, b * paged + p)) check_places(data + begin + kBlockChecksum + before, page_elements_);
    }
  }
}

void Array::data_block(std::uint64_t at, std::uint64_t number) const {
  constexpr std::uint64_t kSignature = 0x42444145;  // "EADB"
  if (at == kUndefined) return;
  const std::uint64_t bytes = multiply(block_elements(number), element_bytes_), begin = kBlockPrefix + offset_bytes_;
  block(at, kSignature, begin + kBlockChecksum + bytes + pages(number) * kBlockChecksum);
  if (pages(number) == 0) check_places(at + begin, block_elements(number));
}

}  // namespace

void check_chunk_index(const RawFile& file, const ChunkLayout& layout, const Space& space, bool packed) {
  if (!layout.at) return;
  if (layout.extent.size() != space.extent.size() + 1) fail(kBad, "its chunks do not have its dimensions");
  switch (layout.index) {
    case ChunkIndex::tree:
      return check_tree(file, *layout.at, layout.extent.size(), kUndefined);
    case ChunkIndex::fixed:
      return Array(file, layout, packed).check_fixed(layout, space);
    case ChunkIndex::extensible:
      return Array(file, layout, packed).check_extensible();
    case ChunkIndex::tree2: {
      const std::uint64_t place = element_bytes(layout, packed), bytes = place + 8 * space.extent.size();
      return walk_tree2(file, *layout.at, {packed ? 11U : 10U, bytes}, [&](Cursor record) {
        const std::uint64_t at = record.number(8);
        if (packed) check_place(file, at, record.number(static_cast<std::size_t>(place - 12)));
      });
    }
    default:
      return;
  }
}

}  // namespace kvzip::hdf5
