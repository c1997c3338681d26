// SPDX-License-Identifier: Apache-2.0
// The structures of an HDF5 file that have checksums, and these made right again, so that tests and fuzzers reach what
// lies behind them (HDF5 File Format Specification 3.0).
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace kvzip::test {

using FileBytes = std::span<std::uint8_t>;

/// The number of `width` bytes at `at`, little-endian; zeros stand for what lies behind the end.
inline std::uint64_t number_at(FileBytes file, std::size_t at, std::size_t width) {
  std::uint64_t value = 0;
  if (at < file.size()) std::memcpy(&value, file.data() + at, std::min(width, file.size() - at));
  return value;
}

inline void put_number(FileBytes file, std::size_t at, std::size_t width, std::uint64_t value) {
  std::memcpy(file.data() + at, &value, width);
}

/// Bob Jenkins' lookup3 of bytes taken in words (https://burtleburtle.net/bob/c/lookup3.c), for kLanes lengths that
/// follow each other and have the same words to mix: a search for the length tries all of them at once.
template <std::size_t kLanes>
class Lookup3 {
  using Lanes = std::array<std::uint32_t, kLanes>;

 public:
  explicit Lookup3(std::size_t shortest) {
    for (std::size_t i = 0; i < kLanes; ++i)
      a_[i] = b_[i] = c_[i] = 0xdeadbeef + static_cast<std::uint32_t>(shortest + i);
  }

  void mix(const std::uint8_t* words) {
    std::array<std::uint32_t, 3> w{};
    std::memcpy(w.data(), words, sizeof w);
    for (std::size_t i = 0; i < kLanes; ++i) {
      std::uint32_t a = a_[i] + w[0], b = b_[i] + w[1], c = c_[i] + w[2];
      turn(a, c, 4, b);
      turn(b, a, 6, c);
      turn(c, b, 8, a);
      turn(a, c, 16, b);
      turn(b, a, 19, c);
      turn(c, b, 4, a);
      a_[i] = a, b_[i] = b, c_[i] = c;
    }
  }

  /// Of 1 to 12 bytes that are left.
  std::uint32_t finish(std::size_t lane, const std::uint8_t* rest, std::size_t size) const {
    std::array<std::uint32_t, 3> w{};
    std::memcpy(w.data(), rest, size);
    std::uint32_t a = a_[lane] + w[0], b = b_[lane] + w[1], c = c_[lane] + w[2];
    const auto fold = [](std::uint32_t& x, std::uint32_t y, int bits) { x = (x ^ y) - std::rotl(y, bits); };
    fold(c, b, 14);
    fold(a, c, 11);
    fold(b, a, 25);
    fold(c, b, 16);
    fold(a, c, 4);
    fold(b, a, 14);
    fold(c, b, 24);
    return c;
  }

 private:
  static void turn(std::uint32_t& x, std::uint32_t& y, int bits, std::uint32_t z) {
    x = (x - y) ^ std::rotl(y, bits);
    y += z;
  }

  Lanes a_{}, b_{}, c_{};
};

constexpr std::size_t kMixed = 12, kChecksum = 4;

inline std::uint32_t lookup3(FileBytes bytes) {
  Lookup3<1> hash(bytes.size());
  std::size_t at = 0;
  for (; bytes.size() - at > kMixed; at += kMixed) hash.mix(bytes.data() + at);
  return hash.finish(0, bytes.data() + at, bytes.size() - at);
}

/// How a number in the file makes a structure longer: its checksum is `base` + number * `unit` behind its begin.
struct Length {
  std::size_t field = 0, width = 0;
  std::uint64_t base = 0, unit = 0;
};

/// A structure: its bytes up to `end`, and its checksum at `sum`: at the end, but in the head of direct blocks of a
/// heap.
struct Structure {
  std::size_t begin = 0, end = 0, sum = 0;
  bool checked = false;  // had the right checksum when it was found
  std::optional<Length> length;
};

enum Signature : std::uint64_t {
  kSuperblock = 0x46444889,
  kObjectHeader = 0x5244484f,
  kHeaderPart = 0x4b48434f,
  kHeapDirect = 0x42444846,
  kHeapIndirect = 0x42494846,
  kTreeInner = 0x4e495442,
  kTreeLeaf = 0x464c5442,
  kFixedArray = 0x42444146,
  kFreeSections = 0x45535346,
  kCacheImage = 0x4943444d,
  kOldTree = 0x45455254,
  kOldSymbols = 0x444f4e53,
  kOldNames = 0x50414548,
  kGlobalHeap = 0x4c4f4347,
};

/// Of every structure that has one.
inline bool is_signature(FileBytes file, std::size_t at) {
  static constexpr std::string_view kAll =
      "\x89HDFOHDROCHKFRHPFHDBFHIBBTHDBTINBTLFFAHDFADBEAHDEAIBEASBEADBFSHDFSSESMTBSMLIMDCI"
      "TREESNODHEAPGCOL";  // these have no checksum
  static const auto begins = [] {
    std::array<bool, 256> out{};
    for (std::size_t i = 0; i < kAll.size(); i += 4) out[static_cast<std::uint8_t>(kAll[i])] = true;
    return out;
  }();
  if (!begins[file[at]]) return false;
  for (std::size_t i = 0; i < kAll.size(); i += 4) {
    if (std::memcmp(kAll.data() + i, file.data() + at, 4) == 0) return true;
  }
  return false;
}

/// Takes `sum` for the place of the checksum if the right one is there.
inline bool has_sum(FileBytes file, Structure& s, std::size_t sum) {
  if (sum <= s.begin || sum > file.size() - kChecksum) return false;
  if (lookup3(file.subspan(s.begin, sum - s.begin)) != number_at(file, sum, kChecksum)) return false;
  s.sum = sum;
  s.end = sum + kChecksum;
  s.checked = true;
  return true;
}

/// Looks for the checksum of what begins at s.begin, before `last`.
inline void find_sum(FileBytes file, Structure& s, std::size_t last) {
  const std::uint8_t* const start = file.data() + s.begin;
  const std::size_t most = std::min(last, file.size()) - s.begin;
  for (std::size_t mixed = 0; mixed + kChecksum < most; mixed += kMixed) {
    Lookup3<kMixed> hashes(mixed + 1);
    for (std::size_t at = 0; at < mixed; at += kMixed) hashes.mix(start + at);
    const std::size_t lanes = std::min(kMixed, most - kChecksum - mixed);
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      const std::size_t sum = s.begin + mixed + lane + 1;
      if (hashes.finish(lane, start + mixed, lane + 1) != number_at(file, sum, kChecksum)) continue;
      s.sum = sum;
      s.end = sum + kChecksum;
      s.checked = true;
      return;
    }
  }
}

/// A direct block of a heap has 2^n bytes, and its checksum behind its offset in the heap, in as many bytes as it
/// needs.
inline void check_direct_block(FileBytes file, Structure& s) {
  constexpr std::size_t kLeast = 32, kMost = 1 << 16, kHead = 13;
  for (std::size_t size = kLeast; size <= kMost && size <= file.size() - s.begin; size *= 2) {
    const FileBytes block = file.subspan(s.begin, size);
    for (std::size_t sum = kHead + 1; sum <= kHead + 8; ++sum) {
      const std::uint64_t stored = number_at(block, sum, kChecksum);
      put_number(block, sum, kChecksum, 0);
      const bool right = lookup3(block) == stored;
      put_number(block, sum, kChecksum, stored);
      if (!right) continue;
      s.sum = s.begin + sum;
      s.end = s.begin + size;
      s.checked = true;
      return;
    }
  }
}

/// The first part of an object header, whose length is in it.
inline void check_object_header(FileBytes file, Structure& s) {
  const std::uint64_t flags = number_at(file, s.begin + 5, 1);
  Length length;
  length.width = std::size_t{1} << (flags & 3);
  length.field = s.begin + 6 + ((flags & 0x20) != 0 ? 16 : 0) + ((flags & 0x10) != 0 ? 4 : 0);
  length.base = length.field + length.width - s.begin;
  length.unit = 1;
  const std::uint64_t bytes = number_at(file, length.field, length.width);
  if (bytes <= file.size() && has_sum(file, s, s.begin + length.base + bytes)) s.length = length;
}

/// What may make s longer, beside its address, which is at `at`: the lengths of parts of headers and of free sections,
/// the counts of records in nodes of trees, of a heap's rows, and of an array's elements.
inline std::optional<Length> length_beside(FileBytes file, const Structure& s, std::size_t at) {
  const std::uint64_t bytes = s.sum - s.begin;
  Length out{at + 8, 2, 0, 0};
  switch (number_at(file, s.begin, 4)) {
    case kHeaderPart:
    case kFreeSections:
    case kCacheImage:
      out.width = 8;
      out.unit = 1;
      break;
    case kTreeLeaf: {
      const std::uint64_t records = number_at(file, out.field, 2);
      if (records > bytes) out.width = 1;
      if (const std::uint64_t n = number_at(file, out.field, out.width); n != 0) out.unit = (bytes - 6) / n;
      break;
    }
    case kTreeInner: {
      const std::uint64_t records = number_at(file, out.field, 2), record = at < 6 ? 0 : number_at(file, at - 6, 2);
      out.unit = record + (bytes - 6 - records * record) / (records + 1);
      break;
    }
    case kHeapIndirect:
      out.unit = at < 22 ? 0 : 8 * number_at(file, at - 22, 2);
      break;
    case kFixedArray:
      out.field = at - 8;
      out.width = 8;
      out.unit = at < 10 ? 0 : number_at(file, at - 10, 1);
      break;
    default:
      return std::nullopt;
  }
  constexpr std::uint64_t kMostBefore = 64;  // bytes of any head
  out.base = bytes - number_at(file, out.field, out.width) * out.unit;
  const bool fits = out.unit != 0 && out.unit <= bytes && out.base + kChecksum <= kMostBefore;
  return fits ? std::optional(out) : std::nullopt;
}

/// What addresses count from: the place of the superblock.
inline std::size_t base_of(FileBytes file, const std::vector<Structure>& found) {
  const auto is_superblock = [&](const Structure& s) { return number_at(file, s.begin, 4) == kSuperblock; };
  const auto first = std::find_if(found.begin(), found.end(), is_superblock);
  return first == found.end() ? 0 : first->begin;
}

/// Looks at what has the address of a structure: what stands beside it may be its length.
inline void find_lengths(FileBytes file, std::vector<Structure>& found) {
  const std::size_t base = base_of(file, found);
  for (std::size_t at = 0; at + 16 <= file.size(); ++at) {
    const std::uint64_t address = number_at(file, at, 8);
    if (address == 0 || address > file.size() - base) continue;
    const auto s = std::lower_bound(found.begin(), found.end(), address + base,
                                    [](const Structure& one, std::uint64_t begin) { return one.begin < begin; });
    if (s == found.end() || s->begin != address + base || s->length) continue;
    if (number_at(file, s->begin, 4) == kCacheImage) {
      has_sum(file, *s, s->begin + number_at(file, at + 8, 8) - kChecksum);
    }
    if (s->checked) s->length = length_beside(file, *s, at);
  }
}

/// All structures with a signature, in the order of the file; those without a right checksum end where the next begins.
inline std::vector<Structure> find_structures(FileBytes file) {
  constexpr std::size_t kMostBytes = 4096, kMostUnchecked = 512;
  std::vector<Structure> found;
  for (std::size_t at = 0; at + 8 < file.size(); ++at) {
    if (is_signature(file, at)) found.push_back({at, 0, 0, false, {}});
  }
  for (std::size_t i = 0; i < found.size(); ++i) {
    Structure& s = found[i];
    const std::size_t next = i + 1 < found.size() ? found[i + 1].begin : file.size();
    switch (number_at(file, s.begin, 4)) {
      case kObjectHeader:
        check_object_header(file, s);
        break;
      case kHeapDirect:
        check_direct_block(file, s);
        break;
      case kSuperblock:
        if (number_at(file, s.begin + 8, 1) >= 2) find_sum(file, s, next);
        break;
      case kCacheImage:  // holds others
      case kOldTree:
      case kOldSymbols:
      case kOldNames:
      case kGlobalHeap:
        break;
      default:
        find_sum(file, s, std::min(next, s.begin + kMostBytes));
    }
    if (!s.checked) s.end = std::min(next, s.begin + kMostUnchecked);
  }
  find_lengths(file, found);
  return found;
}

/// Writes the checksums anew of what had right ones and is still there, where its length now says that they are.
inline void seal(FileBytes file, std::vector<Structure> found) {
  std::erase_if(found, [](const Structure& s) { return !s.checked; });
  for (Structure& s : found) {
    if (!s.length) continue;
    const std::uint64_t number = number_at(file, s.length->field, s.length->width);
    if (number > file.size()) continue;
    s.sum = s.begin + s.length->base + number * s.length->unit;
    s.end = s.sum + kChecksum;
  }
  // What ends first may lie in others.
  std::sort(found.begin(), found.end(), [](const Structure& a, const Structure& b) { return a.sum < b.sum; });
  for (const Structure& s : found) {
    if (s.sum <= s.begin || s.end > file.size() || !is_signature(file, s.begin)) continue;
    put_number(file, s.sum, kChecksum, 0);
    const bool in_head = s.end != s.sum + kChecksum;
    put_number(file, s.sum, kChecksum, lookup3(file.subspan(s.begin, (in_head ? s.end : s.sum) - s.begin)));
  }
}

}  // namespace kvzip::test
