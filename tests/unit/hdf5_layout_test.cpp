// SPDX-License-Identifier: Apache-2.0
// Indexes of chunks: all kinds are read, and where one is not what the library takes it for, it is not asked.
#include "tests/unit/hdf5_patch.hpp"

using namespace hdf5_test;

namespace {

std::vector<std::uint8_t> numbers(std::size_t count) {
  std::vector<std::uint8_t> out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<std::uint8_t>(i);
  return out;
}

constexpr Structure kFixed{"FAHD", 0}, kFixedPacked{"FAHD", 1}, kFixedPages{"FAHD", 0, 1, 1};
constexpr Structure kGrowing{"EAHD", 0}, kGrowingPacked{"EAHD", 1}, kTree{"BTHD", 10}, kTreePacked{"BTHD", 11};
constexpr std::uint64_t kFar = std::uint64_t{1} << 60;

}  // namespace

TEST_CASE("hdf5: every index of chunks is read") {
  const auto reader = open_hdf5(golden("indexes.h5"));
  CHECK(reader->dump().tensors.size() == 9);
  for (const char* name : {"fixed", "fixed_packed", "tree_packed", "one", "implicit"}) {
    CAPTURE(name);
    CHECK(values<std::uint8_t>(*reader, name) == numbers(24));
  }
  CHECK(values<std::uint8_t>(*reader, "fixed_pages") == numbers(10));
  CHECK(values<std::uint8_t>(*reader, "growing_packed") == numbers(240));
  CHECK(values<std::uint8_t>(*reader, "tree") == numbers(250));
  std::vector<std::uint8_t> growing(100);
  growing[1] = 1, growing[2] = 2, growing[3] = 3, growing[98] = 4, growing[99] = 5;
  CHECK(values<std::uint8_t>(*reader, "growing") == growing);
}

TEST_CASE("hdf5: indexes of chunks that the library takes as they are") {
  const std::string bytes = file_text(golden("indexes.h5"));
  const auto says = [&](std::initializer_list<Patch> patches, std::string_view text,
                        ErrorCode code = ErrorCode::corrupt) {
    const std::string refused = refusal(patched(bytes, patches), code);
    CAPTURE(refused);
    CHECK(contains(refused, text));
  };
  // Elements as of chunks that are packed, where they are not, and the other way round.
  says({{kFixed, 5, 1, 1}}, "no index of their kind");
  says({{kFixedPacked, 5, 1, 0}}, "no index of their kind");
  says({{kFixed, 6, 1, 14}}, "no index of their kind");
  says({{kFixedPacked, 6, 1, 13}}, "no index of their kind");
  says({{kFixed, 7, 1, 64}}, "pages of 2^64");
  says({{kFixed, 8, 8, 3}}, "an index of 4 chunks has 3 elements");
  says({{kFixedPages, 8, 8, kFar}}, "an index of 1200 chunks");
  says({{kFixed, 16, 8, number_at(bytes, find(bytes, kFixedPages) + 16, 8)}}, "none of it");
  says({{{"FADB", 0}, 6, 8, 0}}, "none of it");

  says({{kGrowing, 5, 1, 1}}, "no index of their kind");
  says({{kGrowingPacked, 6, 1, 8}}, "no index of their kind");
  says({{kGrowing, 7, 1, 63}}, "2^63 elements");
  says({{kGrowing, 7, 1, 3}}, "2^3 elements");
  says({{kGrowing, 9, 1, 12}}, "blocks of 12");
  says({{kGrowing, 10, 1, 0}}, "blocks of 0");
  says({{kGrowing, 10, 1, 128}}, "leads to 128 blocks");
  says({{kGrowing, 11, 1, 32}}, "pages of 2^32");
  says({{kGrowing, 11, 1, 4}}, "leads to 4 blocks");  // the blocks that it leads to would have pages
  says({{kGrowing, 44, 8, kFar}}, "an index of 1152921504606846976 chunks", ErrorCode::limit);
  says({{kGrowing, 7, 1, 16}}, "more chunks than it can");
  says({{{"EAIB", 0}, 6, 8, 0}}, "none of it");
  says({{{"EASB", 0}, 6, 8, 0}}, "none of it");
  says({{{"EADB", 0}, 6, 8, 0}}, "none of it");
  const std::uint64_t block = number_at(bytes, find(bytes, {"EAIB", 1}) + 14 + 4 * 14, 8);
  says({{{"EAIB", 1}, 14 + 4 * 14 + 8, 8, block}}, "share bytes");

  // Bytes of packed chunks, for which the library makes room.
  const auto far = [&](const Structure& structure, std::size_t offset) {
    says({{structure, offset, 2, 65535}}, "leads out of the file", ErrorCode::truncated);
  };
  far({"FADB", 1}, 14 + 8);
  far({"EAIB", 1}, 14 + 8);
  far({"EADB", 1}, 14 + 4 + 8);
  far({"BTLF", 11}, 6 + 8);
  const std::size_t single = bytes.find(std::string_view("\4\2\2\3\1\4\6\1\1", 9));
  REQUIRE(single != std::string::npos);
  std::string changed = bytes;
  changed[single + 9 + 2] = 1;
  CHECK(contains(refusal(changed, ErrorCode::truncated), "leads out of the file"));

  says({{kTree, 5, 1, 11}}, "no tree");
  says({{kTree, 10, 2, 23}}, "records of another size");
  says({{kTreePacked, 10, 2, 28}}, "records of another size");
  says({{kTree, 26, 8, 251}}, "another number of records");
}

TEST_CASE("hdf5: old trees of chunks that lead round in circles") {
  const Scratch scratch;
  const Dump dump = [] {
    Dump d;
    d.tensors.push_back({"k", DType::u8, {300}});
    d.attributes.push_back(text("k", std::string(kHdf5Storage), "chunks=1"));
    return d;
  }();
  const std::string path = scratch / "tree.h5";
  auto writer = create_hdf5({path, true}, dump);
  Part part;
  part.slices.push_back({0, {0}, {300}});
  part.data.emplace_back(300, std::byte{7});
  writer->append(part);
  writer->finish();
  const std::string bytes = file_text(path);
  REQUIRE(refusal(bytes).empty());
  // The root, of the tree's two levels.
  Structure root{"TREE", 1};
  while (root.skip < 9 && bytes[find(bytes, root) + 4] != 1) ++root.skip;
  const std::size_t at = find(bytes, root);
  REQUIRE(bytes[at + 4] == 1);
  const std::size_t first_child = 24 + 8 + 8 * 2;
  const auto says = [&](std::initializer_list<Patch> patches, std::string_view text,
                        ErrorCode code = ErrorCode::corrupt) {
    const std::string refused = refusal(patched(bytes, patches), code);
    CAPTURE(refused);
    CHECK(contains(refused, text));
  };
  Structure leaf{"TREE", 0};
  while (leaf.skip < 9 && bytes[find(bytes, leaf) + 4] != 1) ++leaf.skip;
  says({{leaf, 24, 4, 0xffffffff}}, "leads out of the file", ErrorCode::truncated);
  says({{root, first_child, 8, at}}, "a node of level 1");
  says({{root, first_child, 8, number_at(bytes, at + first_child + 32, 8)}}, "share bytes");
  says({{root, 5, 1, 2}}, "a node of level 0");
  says({{root, 5, 1, 40}}, "a node of level 40");
  says({{root, 4, 1, 0}}, "chunks have no tree");
}

TEST_CASE("hdf5: old groups whose names lead astray") {
  const std::string bytes = file_text(golden("by_name.h5"));
  constexpr Structure kHeap{"HEAP", 0, 0};
  const std::size_t heap = find(bytes, kHeap);
  const std::uint64_t size = number_at(bytes, heap + 8, 8), gap = number_at(bytes, heap + 16, 8);
  const std::uint64_t names = number_at(bytes, heap + 24, 8);
  REQUIRE(gap < size);
  const auto says = [](const std::string& changed, std::string_view text) {
    const std::string refused = refusal(changed);
    CAPTURE(refused);
    CHECK(contains(refused, text));
  };
  std::string changed = bytes;
  std::memcpy(changed.data() + names + gap, &gap, 8);  // the next gap is the same
  says(changed, "more free space than bytes");
  says(patched(bytes, {{kHeap, 16, 8, size - 8}}), "leads out of it");
  std::string endless = patched(bytes, {{kHeap, 16, 8, 1}});
  std::fill(endless.begin() + static_cast<std::ptrdiff_t>(names + 8),
            endless.begin() + static_cast<std::ptrdiff_t>(names + size), 'x');
  says(endless, "a name without end");
  // A child that is no node of symbols, and two that are the same.
  constexpr Structure kNode{"TREE", 0};
  says(patched(bytes, {{kNode, 32, 8, find(bytes, kNode)}}), "a group has no symbols");
  const std::uint64_t child = number_at(bytes, find(bytes, kNode) + 32, 8);
  says(patched(bytes, {{kNode, 6, 2, 2}, {kNode, 48, 8, child}}), "share bytes");
}

TEST_CASE("hdf5: a fill value has its dataset's size in each message that states it") {
  const std::string bytes = file_text(golden("beside.h5"));
  // Of layers.0.key, 3 in F16, in the newer message; the older one stays as it is.
  const std::string stated("\1\2\0\0\0\0\x42", 7);
  const std::size_t at = bytes.find(stated);
  REQUIRE(at != std::string::npos);
  for (const char size : {'\1', '\4'}) {
    std::string changed = bytes;
    changed[at + 1] = size;
    CHECK(contains(refusal(changed), "a fill value of another type"));
  }
}
