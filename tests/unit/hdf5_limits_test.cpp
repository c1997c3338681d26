// SPDX-License-Identifier: Apache-2.0
// How deep, how long and how many the structures of an HDF5 file may be, each limit at its edge: what reaches it is
// read, what is one beyond is refused before the library sees it.
#include <fmt/format.h>

#include "codec/limits.hpp"
#include "formats/hdf5/hdf5_btree2.hpp"
#include "formats/hdf5/hdf5_fractal_heap.hpp"
#include "formats/hdf5/hdf5_layout.hpp"
#include "tests/unit/hdf5_handmade.hpp"

using namespace hdf5_test;

namespace {

/// A root group with a tensor, and these messages beside.
InputFile group_file(Handmade& made, std::vector<std::string> messages) {
  messages.insert(messages.begin(), {link_info(), link("t", made.add(unwritten({1})))});
  return made.file(made.add(header(messages)));
}

/// A file of so many bytes, read as HDF5 addresses have it.
struct Sparse {
  explicit Sparse(std::uint64_t size) : source(std::make_unique<SparseSource>(size)) {}
  void put(std::uint64_t at, std::string bytes) { source->put(at, std::move(bytes)); }
  void open(auto&& action) {
    const InputFile input(std::move(source), "sparse");
    action(hdf5::RawFile(input));
  }
  std::unique_ptr<SparseSource> source;
};

}  // namespace

TEST_CASE("hdf5 limits: types within types") {
  const auto nested = [](int depth) {
    std::string type = kByteType;
    for (int d = 0; d < depth; ++d) type = le(0x19, 4) + le(16, 4) + type;  // lists
    Handmade made;
    return group_file(made, {attribute("deep", type, {}, le(0, 16))});
  };
  const auto left_out = hdf5_left_out(*open(nested(limits::kHdf5TypeDepth)));
  REQUIRE(left_out.size() == 1);
  CHECK(left_out[0].find("variable-length list") != std::string::npos);
  check_refused(ErrorCode::limit, fmt::format("deeper than {}", limits::kHdf5TypeDepth),
                nested(limits::kHdf5TypeDepth + 1));
}

TEST_CASE("hdf5 limits: types whose attributes have other types") {
  // One committed type after another, each of which has an attribute of the one before.
  const auto chain = [](int types) {
    Handmade made;
    const auto of_type = [](std::uint64_t at) { return attribute("a", le(2, 2) + le64(at), {}, "\7", true); };
    std::uint64_t last = made.add(header({message(3, kByteType)}));
    for (int t = 1; t < types; ++t) last = made.add(header({message(3, kByteType), of_type(last)}));
    return group_file(made, {of_type(last)});
  };
  const auto reader = open(chain(limits::kHdf5SharedTypes));
  CHECK(has(reader->dump(), {"", "a", {}, DType::u8, {}, {std::byte{7}}}));
  check_refused(ErrorCode::limit, fmt::format("more than {} times", limits::kHdf5SharedTypes),
                chain(limits::kHdf5SharedTypes + 1));
}

TEST_CASE("hdf5 limits: dimensions") {
  const auto file = [](std::size_t rank) {
    const std::vector<std::uint64_t> ones(rank, 1);
    return file_of(chunked(ones, ones));
  };
  CHECK(open(file(limits::kHdf5Rank))->dump().tensors.at(0).shape.size() == limits::kHdf5Rank);
  check_refused(ErrorCode::corrupt, fmt::format("chunks of {} dimensions", limits::kHdf5Rank + 2),
                file(limits::kHdf5Rank + 1));  // that of an element is one
  // And of what is written.
  const Scratch scratch;
  const auto written = [&](std::size_t rank) {
    const Dump dump{.tensors = {{"t", DType::u8, std::vector<std::uint64_t>(rank, 0)}}, .attributes = {}};
    create_hdf5({scratch / "a.h5", true}, dump)->finish();
  };
  check_taken([&] { written(limits::kHdf5Rank); });
  check_refused(ErrorCode::limit, "dimensions", [&] { written(limits::kHdf5Rank + 1); });
}

TEST_CASE("hdf5 limits: pieces of a header") {
  const auto pieces = [](std::size_t count) {
    Handmade made;
    const std::string last = link_info() + link("t", made.add(unwritten({1})));
    std::uint64_t at = made.add(last), bytes = last.size();
    for (std::size_t p = 2; p < count; ++p) {
      at = made.add(continuation(at, bytes));
      bytes = 24;
    }
    return made.file(made.add(header_prefix(count + 1, 24) + continuation(at, bytes)));
  };
  CHECK(open(pieces(limits::kHdf5HeaderPieces))->dump().tensors.size() == 1);
  check_refused(ErrorCode::limit, "header is too long", pieces(limits::kHdf5HeaderPieces + 1));
}

TEST_CASE("hdf5 limits: bytes of a header, in one piece or two") {
  const auto check = [](std::uint64_t first, std::uint64_t second) {
    constexpr std::uint64_t kGap = 65536, kSecond = std::uint64_t{1} << 28;
    Sparse file(kSecond + second);
    file.put(0, header_prefix(2, first));
    const auto gaps = [&](std::uint64_t begin, std::uint64_t end) {
      for (std::uint64_t at = begin; at < end; at += kGap) {
        const std::uint64_t body = std::min(kGap, end - at) - 8;
        file.put(at, le(0, 2) + le(body, 2));
      }
    };
    file.put(16, continuation(kSecond, second));
    gaps(16 + 24, 16 + first);
    gaps(kSecond, kSecond + second);
    file.open([](const hdf5::RawFile& raw) { hdf5::check_header(raw, 0); });
  };
  constexpr std::uint64_t kMost = limits::kHdf5HeaderBytes;
  check_taken([&] { check(kMost / 2, kMost / 2); });
  check_refused(ErrorCode::limit, "header is too long", [&] { check(kMost / 2, kMost / 2 + 8); });
  // As a file says it that ends there.
  const auto stated = [](std::uint64_t bytes) {
    Handmade made;
    return made.file(made.add(header_prefix(1, bytes)));
  };
  check_refused(ErrorCode::truncated, "out of the file", stated(kMost));
  check_refused(ErrorCode::limit, "header is too long", stated(kMost + 1));
  check_refused(ErrorCode::limit, "header is too long", stated(0xffffffff));
}

TEST_CASE("hdf5 limits: structures of a file") {
  Sparse(limits::kHdf5Structures + 1).open([](const hdf5::RawFile& raw) {
    check_taken([&] {
      for (std::uint64_t at = 0; at < limits::kHdf5Structures; ++at) raw.claim(at, 1);
    });
    check_refused(ErrorCode::limit, fmt::format("more than {} structures", limits::kHdf5Structures),
                  [&] { raw.claim(limits::kHdf5Structures, 1); });
  });
}

TEST_CASE("hdf5 limits: levels of a group's tree") {
  const auto group = [](std::uint64_t levels) {
    Handmade made;
    constexpr std::uint64_t kChildren = 32, kSymbols = 8;
    const std::uint64_t tensor = made.add(unwritten({1}));
    const std::uint64_t names = made.add(le(0, 8) + rounded("t"));
    const std::uint64_t heap = made.add("HEAP" + le(0, 4) + le64(16, 1, names));
    std::uint64_t at = made.add("SNOD" + le(1, 2) + le(1, 2) + le64(8, tensor) + le(0, 24), 8 + 40 * kSymbols);
    for (std::uint64_t level = 0; level <= levels; ++level) {
      at = made.add("TREE" + le(0, 1) + le(level, 1) + le(1, 2) + le64(kNowhere, kNowhere, 0, at, 8),
                    24 + 16 * kChildren + 8);
    }
    return made.file(made.add(header({symbol_table(at, heap)})), 0, kChildren, kSymbols);
  };
  CHECK(open(group(limits::kHdf5TreeLevels))->dump().tensors.at(0).name == "t");
  check_refused(ErrorCode::corrupt, "a group's tree is too high", group(limits::kHdf5TreeLevels + 1));
}

TEST_CASE("hdf5 limits: levels of a tree of chunks") {
  const auto chunks = [](std::uint64_t levels) {
    Handmade made;
    constexpr std::uint64_t kKey = 24, kChildren = 64;
    std::uint64_t at = made.add("\7");
    for (std::uint64_t level = 0; level <= levels; ++level) {
      at = made.add("TREE" + le(1, 1) + le(level, 1) + le(1, 2) + le64(kNowhere, kNowhere) + le(1, 4) + le(0, 4) +
                        le64(0, 0, at) + le(0, 8) + le64(1, 0),
                    24 + kChildren * (kKey + 8) + kKey);
    }
    const std::uint64_t tensor = made.add(chunked({1}, {1}, at));
    return made.file(made.add(header({link_info(), link("t", tensor)})));
  };
  CHECK(read_all(*open(chunks(limits::kHdf5TreeLevels)), 0) == Bytes{std::byte{7}});
  check_refused(ErrorCode::corrupt, fmt::format("a node of level {}", limits::kHdf5TreeLevels + 1),
                chunks(limits::kHdf5TreeLevels + 1));
}

TEST_CASE("hdf5 limits: levels and nodes of newer trees") {
  constexpr std::uint64_t kRecord = 11, kLinkNames = 5, kHead = 38;
  const hdf5::Tree2Form form{kLinkNames, kRecord};
  const auto tree = [&](std::uint64_t node_bytes, std::uint64_t levels, std::uint64_t records) {
    return "BTHD" + le(0, 1) + le(kLinkNames, 1) + le(node_bytes, 4) + le(kRecord, 2) + le(levels, 2) + le(0, 2) +
           le(kHead, 8) + le(records, 2) + le(records, 8) + le(0, 4);
  };
  const auto count = [&](Sparse& file) {
    std::size_t visited = 0;
    file.open([&](const hdf5::RawFile& raw) { hdf5::walk_tree2(raw, 0, form, [&](hdf5::Cursor) { ++visited; }); });
    return visited;
  };
  // The root has a record and two children; all below have none, and one child.
  const auto high = [&](std::uint64_t levels) {
    constexpr std::uint64_t kNode = 64;
    std::uint64_t below = (kNode - 10) / kRecord, pointer = 8 + 1;
    for (std::uint64_t level = 1; level < levels; ++level) {
      const std::uint64_t most = (kNode - 10 - pointer) / (kRecord + pointer);
      below = below * (most + 1) + most;
      pointer = 8 + 1 + hdf5::bytes_for(below);
    }
    Sparse file(kHead + (2 * levels + 1) * kNode);
    file.put(0, tree(kNode, levels, 1));
    std::uint64_t next = kHead + kNode;
    const std::string inner = "BTIN" + le(kLinkNames << 8, 2);
    file.put(kHead, inner + le(0, kRecord) + le(next, 8) + le(0, pointer - 8) + le(next + levels * kNode, 8));
    for (int child = 0; child < 2; ++child) {
      for (std::uint64_t level = levels - 1; level > 0; --level, next += kNode)
        file.put(next, inner + le64(next + kNode));
      file.put(next, "BTLF" + le(kLinkNames << 8, 2));
      next += kNode;
    }
    return count(file);
  };
  CHECK(high(limits::kHdf5BtreeDepth) == 1);
  check_refused(ErrorCode::limit, fmt::format("on {} levels", limits::kHdf5BtreeDepth + 1),
                [&] { high(limits::kHdf5BtreeDepth + 1); });
  const auto wide = [&](std::uint64_t node_bytes) {
    Sparse file(kHead + node_bytes);
    file.put(0, tree(node_bytes, 0, 1));
    file.put(kHead, "BTLF" + le(kLinkNames << 8, 2));
    return count(file);
  };
  CHECK(wide(limits::kHdf5BtreeNode) == 1);
  check_refused(ErrorCode::limit, fmt::format("nodes of {} bytes", limits::kHdf5BtreeNode + 1),
                [&] { wide(limits::kHdf5BtreeNode + 1); });
}

TEST_CASE("hdf5 limits: chunks of an index") {
  const auto check = [](hdf5::ChunkIndex kind, const std::string& index, std::uint64_t most) {
    Sparse file(index.size());
    file.put(0, index);
    file.open([&](const hdf5::RawFile& raw) {
      hdf5::check_chunk_index(raw, {kind, 0, {1, 1}}, {{1}, {most}, 1}, false);
    });
  };
  constexpr std::uint64_t kMost = limits::kHdf5IndexChunks;
  const auto fixed = [&](std::uint64_t chunks) {
    check(hdf5::ChunkIndex::fixed, "FAHD" + le(0, 2) + le(8, 1) + le(10, 1) + le64(chunks, kNowhere) + le(0, 4),
          chunks);
  };
  check_taken([&] { fixed(kMost); });
  check_refused(ErrorCode::limit, fmt::format("an index of {} chunks", kMost + 1), [&] { fixed(kMost + 1); });
  const auto growing = [&](std::uint64_t chunks) {
    const std::string form = le(32, 1) + le(4, 1) + le(16, 1) + le(4, 1) + le(10, 1);
    check(hdf5::ChunkIndex::extensible,
          "EAHD" + le(0, 2) + le(8, 1) + form + le64(0, 0, 0, 0, chunks, 0, kNowhere) + le(0, 4), kNowhere);
  };
  check_taken([&] { growing(kMost); });
  check_refused(ErrorCode::limit, fmt::format("an index of {} chunks", kMost + 1), [&] { growing(kMost + 1); });
}

TEST_CASE("hdf5 limits: text of variable length") {
  const auto read = [](std::uint64_t first, std::uint64_t second) {
    constexpr std::uint64_t kFirst = 64, kSecond = 65536;
    const auto heap = [](std::uint64_t bytes, const char* word) {
      return "GCOL" + le(1, 4) + le64(bytes) + le(1, 8) + le64(3) + word;
    };
    std::string out;
    Sparse file(kSecond + second);
    file.put(kFirst, heap(first, "one"));
    file.put(kSecond, heap(second, "two"));
    file.open([&](const hdf5::RawFile& raw) {
      hdf5::Heap texts(raw);
      out = texts.text(3, kFirst, 1) + texts.text(3, kSecond, 1);
    });
    return out;
  };
  CHECK(read(4096, limits::kHdf5HeapBytes - 4096) == "onetwo");
  check_refused(ErrorCode::limit, "MiB of text", [&] { read(4096, limits::kHdf5HeapBytes - 4096 + 1); });
}

TEST_CASE("hdf5 limits: a link or an attribute that lies by itself") {
  const auto read = [](std::uint64_t bytes) {
    constexpr std::uint64_t kTree = 256, kLeaf = 512, kObject = 4096;
    Sparse file(kObject + bytes);
    file.put(0, "FRHP" + le(0, 1) + le(8, 2) + le(0, 2) + le(0, 1) + le(4096, 4) + le64(0, kTree) + le(0, 56) +
                    le64(1, 0, 0) + le(4, 2) + le64(512, 65536) + le(32, 2) + le(0, 2) + le64(kNowhere) + le(0, 6));
    file.put(kTree, "BTHD" + le(0, 1) + le(1, 1) + le(512, 4) + le(24, 2) + le(0, 4) + le64(kLeaf) + le(1, 2) +
                        le64(1) + le(0, 4));
    file.put(kLeaf, "BTLF" + le(0, 1) + le(1, 1) + le64(kObject, bytes, 1));
    std::size_t found = 0;
    file.open([&](const hdf5::RawFile& raw) {
      hdf5::FractalHeap(raw, 0, 8).each({1 << 8 | 0x10}, [&](hdf5::Cursor object) { found = object.left(); });
    });
    return found;
  };
  CHECK(read(limits::kHdf5HeapObject) == limits::kHdf5HeapObject);
  check_refused(ErrorCode::limit, fmt::format("has {} bytes", limits::kHdf5HeapObject + 1),
                [&] { read(limits::kHdf5HeapObject + 1); });
}
