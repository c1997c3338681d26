// SPDX-License-Identifier: Apache-2.0
// How much an HDF5 file may hold, state and take for its size, each limit at its edge: what reaches it is read, what is
// one beyond is refused, or written in one piece.
#include <fmt/format.h>

#include "codec/limits.hpp"
#include "formats/hdf5/hdf5_storage.hpp"
#include "tests/unit/hdf5_handmade.hpp"

using namespace hdf5_test;

namespace {

/// A group as HDF5 before 1.8 has it: nodes of symbols, all as large as the largest, under a tree of one level.
class OldGroup {
 public:
  static constexpr std::uint64_t kChildren = 64;

  OldGroup(Handmade& made, std::uint64_t most_symbols) : made_(made), most_(most_symbols) {}
  /// Names that symbols state by where they begin. There is none at 0.
  void names(const std::string& text) {
    const std::string bytes = rounded(le(0, 8) + text + '\0');
    heap_ = made_.add("HEAP" + le(0, 4) + le64(bytes.size(), 1, made_.add(bytes)));
  }
  /// A node: those given, and zeros up to `count`: names of no letters at address 0. `last` is the name of the last.
  void node(std::uint64_t count, const std::string& symbols, std::uint64_t last) {
    tree_ += le64(made_.add("SNOD" + le(1, 2) + le(count, 2) + symbols, 8 + 40 * most_), last);
    children_ += 1;
  }
  static std::string symbol(std::uint64_t name, std::uint64_t at) { return le64(name, at) + le(0, 24); }
  /// The message that leads to it all.
  std::string finish() {
    const std::string head = "TREE" + le(0, 2) + le(children_, 2) + le64(kNowhere, kNowhere, 0);
    return symbol_table(made_.add(head + tree_, 24 + 16 * kChildren + 8), heap_);
  }

 private:
  Handmade& made_;
  std::uint64_t most_, heap_ = 0, children_ = 0;
  std::string tree_;
};

constexpr std::uint64_t kNamed = 2048;  // symbols that group_of_names() has room for

/// A group with a tensor `t` and links to a type: one whose name has so many letters, and `count` of so many. `last` is
/// the last of each.
std::string group_of_names(Handmade& made, std::uint64_t first, std::uint64_t count, std::uint64_t letters, char last) {
  constexpr std::uint64_t kTensor = 8, kName = 16;
  const std::uint64_t tensor = made.add(unwritten({1})), type = made.add(header({message(3, kByteType)}));
  OldGroup group(made, kNamed);
  group.names(le('t', 8) + std::string(letters - 1, 'x') + last);
  std::string symbols = OldGroup::symbol(kTensor, tensor) + OldGroup::symbol(kName + letters - first, type);
  for (std::uint64_t i = 0; i < count; ++i) symbols += OldGroup::symbol(kName, type);
  group.node(count + 2, symbols, kName);
  return group.finish();
}

hdf5::StoragePlan planned(std::initializer_list<std::pair<std::uint64_t, std::string>> tensors) {
  Dump dump;
  for (const auto& [bytes, storage] : tensors) {
    const std::string name = fmt::format("{}", dump.tensors.size());
    dump.tensors.push_back({name, DType::u8, {bytes}});
    if (!storage.empty()) dump.attributes.push_back(text(name, std::string(kHdf5Storage), storage));
  }
  return hdf5::plan_storage(dump);
}

}  // namespace

TEST_CASE("hdf5 limits: links") {
  // They are listed before the first is looked at, which has no name: more than a test has time for.
  const auto file = [](std::uint64_t links) {
    constexpr std::uint64_t kSymbols = 32768;
    Handmade made;
    OldGroup group(made, kSymbols);
    group.names("");
    for (std::uint64_t left = links; left > 0; left -= std::min(left, kSymbols)) {
      group.node(std::min(left, kSymbols), "", 0);
    }
    return made.file(made.add(header({group.finish()})), 0, OldGroup::kChildren, kSymbols);
  };
  check_refused(ErrorCode::corrupt, "an object named ''", file(limits::kHdf5Links));
  check_refused(ErrorCode::limit, fmt::format("more than {} objects", limits::kHdf5Links),
                file(limits::kHdf5Links + 1));
}

TEST_CASE("hdf5 limits: letters of names, and of paths") {
  constexpr std::uint64_t kMost = limits::kHdf5NameBytes, kLetters = 65536, kCount = kMost / kLetters - 1;
  // Names that are not UTF-8 are in no path.
  const auto names = [](std::uint64_t first) {
    Handmade made;
    const std::uint64_t root = made.add(header({group_of_names(made, first, kCount, kLetters, '\xff')}));
    return made.file(root, 0, OldGroup::kChildren, kNamed);
  };
  constexpr std::uint64_t kTensor = 1;
  CHECK(hdf5_left_out(*open(names(kMost - kTensor - kCount * kLetters))).size() == kCount + 1);
  check_refused(ErrorCode::limit, "MiB of names", names(kMost - kTensor - kCount * kLetters + 1));
  // The group's name is in each path, so that the paths reach it first.
  const auto paths = [](std::uint64_t first) {
    Handmade made;
    const std::uint64_t group = made.add(header({group_of_names(made, first, kCount, kLetters - 2, 'x')}));
    return made.file(made.add(header({link_info(), link("g", group)})), 0, OldGroup::kChildren, kNamed);
  };
  constexpr std::uint64_t kBeside = 1 + 3 + 2;  // "g", "g/t", "g/"
  CHECK(hdf5_left_out(*open(paths(kMost - kBeside - kCount * kLetters))).size() == kCount + 1);
  check_refused(ErrorCode::limit, "MiB of names", paths(kMost - kBeside - kCount * kLetters + 1));
}

TEST_CASE("hdf5 limits: memory that attributes take") {
  constexpr std::uint64_t kTexts = 1023, kReference = 16, kMost = limits::kHdf5AttributeBytes;
  constexpr std::uint64_t kLetters = kMost - 1 - sizeof(Attribute) - kTexts * (kReference + sizeof(std::string));
  // All texts are the same, but that the first is longer.
  const auto file = [](std::uint64_t first, std::uint64_t others) {
    Handmade made;
    const std::uint64_t heap =
        made.add("GCOL" + le(1, 4) + le64(32 + first) + le(1, 8) + le64(first) + std::string(first, 'x'));
    const std::string texts = le(0x119, 4) + le(kReference, 4) + le(0x13, 4) + le(1, 4);
    std::string references;
    for (std::uint64_t t = 0; t < kTexts; ++t) references += le(t == 0 ? first : others, 4) + le64(heap) + le(1, 4);
    const std::uint64_t tensor = made.add(unwritten({1}));
    return made.file(made.add(header({link_info(), link("t", tensor), attribute("a", texts, {kTexts}, references)})));
  };
  constexpr std::uint64_t kEach = kLetters / kTexts, kFirst = kEach + kLetters % kTexts;
  CHECK(open(file(kFirst, kEach))->dump().attributes.at(0).strings.size() == kTexts);
  check_refused(ErrorCode::limit, "MiB of attributes", file(kFirst + 1, kEach));
}

TEST_CASE("hdf5 limits: data that is stated") {
  const auto bytes = [](std::uint64_t stated, std::uint64_t file_bytes) {
    return open(file_of(unwritten({stated}), file_bytes))->dump().tensors.at(0).bytes();
  };
  constexpr std::uint64_t kFree = limits::kHdf5FreeBytes, kEach = limits::kHdf5Expansion;
  CHECK(bytes(kFree, 0) == kFree);
  check_refused(ErrorCode::limit, "more than dumps do", file_of(unwritten({kFree + 1})));
  const auto two = [](std::uint64_t first, std::uint64_t second) {
    Handmade made;
    const std::uint64_t a = made.add(unwritten({first})), b = made.add(unwritten({second}));
    return made.file(made.add(header({link_info(), link("a", a), link("b", b)})));
  };
  CHECK(open(two(kFree - 1, 1))->dump().tensors.size() == 2);
  check_refused(ErrorCode::limit, "with those before it", two(kFree - 1, 2));
  constexpr std::uint64_t kFile = 2 * kFree / kEach, kEarned = (kFile + 1) * kEach - 1;
  CHECK(bytes(kEarned, kFile) == kEarned);
  check_refused(ErrorCode::limit, "more than dumps do", file_of(unwritten({kEarned + 1}), kFile));
}

TEST_CASE("hdf5 limits: chunks of a dataset") {
  constexpr std::uint64_t kFile = 4096, kMost = limits::kHdf5FreeChunks + kFile / limits::kHdf5BytesPerChunk;
  const auto chunks = [](std::uint64_t count, std::uint64_t file_bytes) {
    return file_of(chunked({count}, {1}), file_bytes);
  };
  CHECK(read_all(*open(chunks(kMost, kFile)), 0) == Bytes(kMost));
  check_refused(ErrorCode::limit, "too many for a file", chunks(kMost + 1, kFile));
  CHECK(open(chunks(kMost + 1, kFile + limits::kHdf5BytesPerChunk))->part_count() > 0);
}

TEST_CASE("hdf5 limits: bytes of a chunk") {
  const auto file = [](std::uint64_t chunk, std::uint64_t file_bytes) {
    return file_of(chunked({1}, {chunk}), file_bytes);
  };
  const auto value = [&](std::uint64_t chunk, std::uint64_t file_bytes) {
    return read_all(*open(file(chunk, file_bytes)), 0);
  };
  const Bytes zero(1);
  CHECK(value(limits::kHdf5FreeChunkBytes, 4096) == zero);
  check_refused(ErrorCode::limit, "too large for a file", file(limits::kHdf5FreeChunkBytes + 1, 4096));
  constexpr std::uint64_t kFile = 2 * limits::kHdf5FreeChunkBytes / limits::kHdf5Expansion,
                          kEarned = (kFile + 1) * limits::kHdf5Expansion - 1;
  CHECK(value(kEarned, kFile) == zero);
  check_refused(ErrorCode::limit, "too large for a file", file(kEarned + 1, kFile));
  constexpr std::uint64_t kMost = limits::kHdf5ChunkBytes, kEnough = kMost / limits::kHdf5Expansion + 1;
  CHECK(value(kMost, kEnough) == zero);
  check_refused(ErrorCode::limit, "chunks are larger than", file(kMost + 1, kEnough));
  const auto square = [](std::uint64_t a, std::uint64_t b) { return file_of(chunked({1, 1}, {a, b}), kEnough); };
  CHECK(read_all(*open(square(kMost / 32768, 32768)), 0) == zero);
  check_refused(ErrorCode::limit, "chunks are larger than", square(kMost / 32768, 32769));
}

TEST_CASE("hdf5 limits: filters are those that HDF5 allows, none twice") {
  const auto file = [](const std::vector<std::uint64_t>& ids) {
    std::string filters = le(1, 1) + le(ids.size(), 1) + le(0, 6);
    for (const std::uint64_t id : ids) filters += le(id, 2) + le(0, 2) + le(0, 2) + le(1, 2) + le(1, 8);
    return file_of(chunked({1}, {1}, kNowhere, {message(11, filters)}));
  };
  constexpr std::size_t kMost = 32;  // H5Z_MAX_NFILTERS
  CHECK(read_all(*open(file({1, 2, 3})), 0) == Bytes(1));
  check_refused(ErrorCode::unsupported, "filter 2 twice", file(std::vector<std::uint64_t>(kMost, 2)));
  check_refused(ErrorCode::corrupt, "HDF5 says", file(std::vector<std::uint64_t>(kMost + 1, 2)));
}

TEST_CASE("hdf5 limits: chunks that are written beyond the data") {
  const auto merged = [](std::initializer_list<std::pair<std::uint64_t, std::string>> tensors) {
    return !planned(tensors).merged.empty();
  };
  // Chunks of a byte each, beside data that earns some more of them.
  constexpr std::uint64_t kEarned = 100, kChunks = limits::kHdf5FreeChunks + kEarned,
                          kBeside = kEarned * limits::kHdf5DataPerChunk - kChunks;
  CHECK_FALSE(merged({{kChunks, "chunks=1"}, {kBeside, ""}}));
  CHECK(merged({{kChunks, "chunks=1"}, {kBeside - 1, ""}}));
  CHECK(merged({{kChunks + 1, "chunks=1"}, {kBeside - 1, ""}}));
  // A chunk that reaches far behind a tensor that may grow.
  constexpr std::uint64_t kData = 1000, kReach = kData + limits::kHdf5FreePadding + limits::kHdf5Padding * kData;
  const auto reach = [&](std::uint64_t chunk) { return merged({{kData, fmt::format("chunks={} maxshape=*", chunk)}}); };
  CHECK_FALSE(reach(kReach));
  CHECK(reach(kReach + 1));
  const auto whole = [&](std::uint64_t bytes) { return merged({{bytes, fmt::format("chunks={}", bytes)}}); };
  CHECK_FALSE(whole(limits::kHdf5ChunkBytes));
  CHECK(whole(limits::kHdf5ChunkBytes + 1));
}
