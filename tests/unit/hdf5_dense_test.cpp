// SPDX-License-Identifier: Apache-2.0
// Links and attributes that are too many for their object's header: they come back, and where a heap or a tree is not
// what the library takes it for, it is not asked.
#include <fmt/format.h>

#include "tests/unit/hdf5_patch.hpp"

using namespace hdf5_test;

namespace {

/// Empty tensors, and attributes of the first: some small, and some too large for a heap's blocks.
Dump many(std::size_t tensors, std::size_t small, std::size_t large, std::size_t name_bytes) {
  Dump dump;
  for (std::size_t t = 0; t < tensors; ++t) {
    std::string name = fmt::format("{:04}", t * 7 % tensors);
    name.resize(name_bytes, 'x');
    dump.tensors.push_back({name, DType::u8, {0}});
  }
  const auto add = [&](std::string name, std::size_t bytes) {
    Bytes data(bytes, static_cast<std::byte>(dump.attributes.size()));
    dump.attributes.push_back({dump.tensors[0].name, std::move(name), {}, DType::u8, {bytes}, std::move(data)});
  };
  for (std::size_t a = 0; a < small; ++a) add(fmt::format("small {}", a), 300);
  for (std::size_t a = 0; a < large; ++a) add(fmt::format("large {}", a), 5000);
  return dump;
}

std::string written(const Dump& dump, const std::string& path) {
  create_hdf5({path, true}, dump)->finish();
  return file_text(path);
}

std::size_t count(const std::string& bytes, std::string_view signature) {
  std::size_t n = 0;
  for (std::size_t at = bytes.find(signature); at != std::string::npos; at = bytes.find(signature, at + 4)) ++n;
  return n;
}

constexpr Structure kLinks{"FRHP", 7, 2}, kAttributes{"FRHP", 8, 2};
constexpr Structure kLinkNames{"BTHD", 5}, kLinkOrder{"BTHD", 6}, kAttributeNames{"BTHD", 8};
constexpr Structure kLinkLeaf{"BTLF", 5}, kLinkOrderLeaf{"BTLF", 6}, kAttributeLeaf{"BTLF", 8}, kLargeLeaf{"BTLF", 1};
constexpr std::uint64_t kFar = std::uint64_t{1} << 60;

}  // namespace

TEST_CASE("hdf5: many links and attributes come back") {
  const Scratch scratch;
  const Dump dump = many(3000, 700, 300, 220);
  const std::string bytes = written(dump, scratch / "many.h5");
  CHECK(count(bytes, "FHIB") > 2);  // in the heap of the links, blocks of blocks of blocks
  CHECK(count(bytes, "BTIN") > 4);
  CHECK(number_at(bytes, find(bytes, {"BTHD", 1}) + 12, 2) > 0);  // the tree of the large ones is high
  const auto reader = open_hdf5(scratch / "many.h5");
  REQUIRE(reader->dump().tensors.size() == dump.tensors.size());
  for (std::size_t t = 0; t < dump.tensors.size(); ++t) CHECK(reader->dump().tensors[t].name == dump.tensors[t].name);
  CHECK(reader->dump().attributes == dump.attributes);
}

TEST_CASE("hdf5: heaps of links and attributes that the library takes as they are") {
  const Scratch scratch;
  const std::string bytes = written(many(20, 12, 1, 30), scratch / "dense.h5");
  REQUIRE(refusal(bytes).empty());
  const auto says = [&](std::initializer_list<Patch> patches, std::string_view text) {
    const std::string refused = refusal(patched(bytes, patches));
    CAPTURE(refused);
    CHECK(contains(refused, text));
  };
  says({{kLinks, 0, 1, 'f'}}, "no heap where one should be");
  says({{kLinks, 5, 2, 8}}, "IDs of another size");
  says({{kLinks, 110, 2, 3}}, "blocks of 3");
  says({{kLinks, 110, 2, 0}}, "blocks of 0");
  says({{kLinks, 112, 8, 513}}, "blocks of 513");
  says({{kLinks, 112, 8, 16}}, "blocks without room");
  says({{kLinks, 120, 8, kFar}}, "blocks of");
  says({{kLinks, 120, 8, 256}}, "no table of its blocks");
  says({{kLinks, 128, 2, 10}}, "no table of its blocks");  // the first row has 2^11 bytes
  says({{kLinks, 128, 2, 33}}, "IDs that are too short");
  says({{kLinks, 128, 2, 65535}}, "no table of its blocks");
  says({{kLinks, 140, 2, 23}}, "no table of its blocks");  // 2^32 bytes are 22 rows
  says({{kAttributes, 86, 8, 0}}, "a tree of objects, but none");
  CHECK(contains(refusal(patched(bytes, {{kLinks, 7, 2, 2}}), ErrorCode::unsupported), "is filtered"));

  constexpr Structure kRoot{"FHIB", 0, 0}, kBlock{"FHDB", 0, 0};
  says({{kRoot, 5, 8, 0}}, "a block that is none of it");
  says({{kBlock, 5, 8, 0}}, "a block that is none of it");
  says({{kBlock, 4, 1, 1}}, "a block that is none of it");
  says({{kRoot, 17, 8, ~std::uint64_t{0}}}, "in no block of its heap");
}

TEST_CASE("hdf5: trees of links and attributes that the library takes as they are") {
  const Scratch scratch;
  const std::string bytes = written(many(20, 12, 1, 30), scratch / "dense.h5");
  const auto says = [&](std::initializer_list<Patch> patches, std::string_view text,
                        ErrorCode code = ErrorCode::corrupt) {
    const std::string refused = refusal(patched(bytes, patches), code);
    CAPTURE(refused);
    CHECK(contains(refused, text));
  };
  says({{kLinkNames, 5, 1, 6}}, "an index has no tree");
  says({{kAttributeNames, 5, 1, 9}}, "an index has no tree");
  says({{kLinkNames, 6, 4, 20}}, "too small for a record");
  says({{kLinkNames, 6, 4, 65537}}, "nodes of 65537 bytes", ErrorCode::limit);
  says({{kLinkNames, 10, 2, 12}}, "records of another size");
  says({{kLinkNames, 12, 2, 17}}, "on 17 levels", ErrorCode::limit);
  says({{kLinkNames, 12, 2, 1}}, "a node that is none");
  says({{kLinkNames, 24, 2, 46}}, "a node of 46 records");  // 512 bytes hold 45
  says({{kLinkNames, 24, 2, 45}}, "another number of records");
  says({{kLinkNames, 26, 8, 21}}, "another number of records");
  says({{kLinkNames, 24, 2, 0}}, "a tree without nodes");
  says({{kLinkNames, 24, 2, 45}, {kLinkNames, 26, 8, 45}}, "of its heap");  // IDs are zeros there
  says({{kLinkLeaf, 5, 1, 6}}, "a node that is none");
  const std::uint64_t names = number_at(bytes, find(bytes, kLinkNames) + 16, 8);
  says({{kLinkOrder, 16, 8, names}}, "share bytes");
  says({{kLinkNames, 16, 8, kFar}}, "leads out of the file", ErrorCode::truncated);

  // Heap IDs, in both indexes: of records of links behind a hash of 4 bytes, of those of attributes in front.
  const std::size_t first = find(bytes, kLinkLeaf) + 10;
  const auto id_says = [&](std::size_t offset, std::size_t width, std::uint64_t value, std::string_view text) {
    constexpr std::size_t kBytes = 7;
    const std::string id = bytes.substr(first, kBytes);
    std::string other = id, changed = bytes;
    std::memcpy(other.data() + offset, &value, width);
    for (std::size_t at = changed.find(id); at != std::string::npos; at = changed.find(id)) {
      changed.replace(at, kBytes, other);
    }
    const std::string refused = refusal(changed);
    CAPTURE(refused);
    CHECK(contains(refused, text));
  };
  id_says(0, 1, 0x40, "no object of ID");
  id_says(0, 1, 0x30, "no object of ID");
  id_says(0, 1, 0x26, "no object of ID");  // 7 bytes in an ID with room for 6
  id_says(0, 1, 0x25, "a link that is none");
  id_says(1, 4, 1 << 30, "behind its heap");
  id_says(1, 6, 5 | std::uint64_t{4} << 32, "out of its heap's block");
  id_says(5, 2, 65535, "share bytes");
  id_says(5, 2, 12, "leads out of it");
  id_says(1, 4, number_at(bytes, first + 11 + 1, 4), "share bytes");
  says({{kLinkOrderLeaf, 15, 4, 5}}, "lead to different links");
  says({{kAttributeLeaf, 14, 1, 2}}, "in a shared message", ErrorCode::unsupported);

  says({{kLargeLeaf, 22, 8, 5}}, "no object of ID");
  says({{kLargeLeaf, 14, 8, kFar}}, "bytes", ErrorCode::limit);
  says({{kLargeLeaf, 14, 8, 5000}}, "leads out of it");
  says({{kLargeLeaf, 6, 8, kFar}}, "leads out of the file", ErrorCode::truncated);
  says({{kLargeLeaf, 6, 8, names}}, "share bytes");
}

TEST_CASE("hdf5: messages of object headers that cannot be looked past") {
  const std::string bytes = file_text(golden("indexes.h5"));
  // Of the root: where links are, and how groups are made, each behind its type, size and flags.
  const std::size_t links = bytes.find(std::string_view("\2\22\0\0", 4)),
                    group = bytes.find(std::string_view("\12\2\0\1", 4));
  REQUIRE(links != std::string::npos);
  REQUIRE(group == links + 4 + 18);
  const auto says = [&](std::size_t at, char value, std::string_view text, ErrorCode code = ErrorCode::corrupt) {
    std::string changed = bytes;
    changed[at] = value;
    const std::string refused = refusal(changed, code);
    CAPTURE(refused);
    CHECK(contains(refused, text));
  };
  says(group, 2, "two messages of type 2");
  says(group, 22, "leads out of it");  // a count of references
  says(group, 20, "leads out of it");  // a driver's information
  says(group, 15, "share messages", ErrorCode::unsupported);
  says(group, 24, "an image of the library's cache", ErrorCode::unsupported);
  // Said to be stored elsewhere, which the library believes of some types only.
  std::string shared = patched(bytes, {{kLinks, 5, 2, 8}});
  shared[links + 3] = 2;
  CHECK(contains(refusal(shared), "IDs of another size"));
  shared[links] = 1;
  CHECK(contains(refusal(shared, ErrorCode::unsupported), "a message of type 1 is stored in another place"));
}
