// SPDX-License-Identifier: Apache-2.0
// Chunks as LMCache's RemoteMetadata packs them: 32-bit integers for length, format, type and four extents, and then
// the elements.
#include <doctest/doctest.h>

#include <limits>

#include "codec/bytes.hpp"
#include "formats/format_table.hpp"
#include "formats/lmcache.hpp"
#include "kvzip/error.hpp"
#include "kvzip/layout.hpp"

namespace kvzip {
namespace {

using Numbers = std::vector<std::int32_t>;

constexpr std::int32_t kBf16 = 3, kF32 = 4, kU8 = 6;

Bytes chunk(const Numbers& header, std::size_t bytes) {
  ByteWriter out;
  for (const std::int32_t n : header) out.put(n);
  for (std::size_t i = 0; i < bytes; ++i) out.put(static_cast<std::uint8_t>(i * 7));
  return out.bytes();
}

std::optional<ErrorCode> refusal(const Bytes& file) {
  try {
    open_lmcache(InputFile(ByteView(file), "chunk"));
  } catch (const Error& e) {
    return e.code();
  }
  return std::nullopt;
}

}  // namespace

TEST_CASE("a chunk of LMCache says its type, shape and order of axes") {
  struct Case {
    Numbers header;
    std::vector<std::uint64_t> shape;
    Role role;
    std::string axes;
  };
  const std::vector<Case> cases{
      {{2 * 2 * 3 * 5 * 8, 1, kBf16, 2, 3, 5, 8}, {2, 3, 5, 8}, Role::pair, "2LTC"},
      {{2 * 5 * 2 * 8, 2, kBf16, 5, 2, 8, 0}, {5, 2, 8}, Role::pair, "T2C"},
      {{4 * 2 * 5 * 8, 3, kF32, 2, 5, 8, 0}, {2, 5, 8}, Role::pair, "2TC"},
      {{2 * 3 * 5 * 8, 6, kBf16, 1, 3, 5, 8}, {1, 3, 5, 8}, Role::key, "BLTD"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.axes);
    const auto size = static_cast<std::size_t>(c.header[0]);
    const Bytes file = chunk(c.header, size);
    CHECK(probe_format(file, "chunk").name == "lmcache");
    const auto reader = open_reader(ByteView(file));
    REQUIRE(reader->dump().tensors.size() == 1);
    CHECK(reader->dump().tensors[0].shape == c.shape);
    const Recognition roles = recognise(reader->dump());
    CHECK(roles.tensors[0].role == c.role);
    CHECK(roles.tensors[0].axes == Axes(c.axes));
    CHECK(roles.tensors[0].why.find("stated by LMCache's fmt") != std::string::npos);
    Bytes elements(size);
    reader->read({0, std::vector<std::uint64_t>(c.shape.size(), 0), c.shape}, elements);
    CHECK(elements == Bytes(file.begin() + 28, file.end()));
  }
}

TEST_CASE("a chunk of several groups has a tensor for each") {
  const Bytes file = chunk({4 * 6 + 2 * 10, 1, kF32, 2, 1, 3, 1, kBf16, 2, 1, 5, 1}, 44);
  const auto reader = open_reader(ByteView(file));
  REQUIRE(reader->dump().tensors.size() == 2);
  CHECK(reader->dump().tensors[1].name == "group_1");
  CHECK(reader->dump().tensors[1].dtype == DType::bf16);
  Bytes second(20);
  reader->read({1, {0, 0, 0, 0}, {2, 1, 5, 1}}, second);
  CHECK(second == Bytes(file.end() - 20, file.end()));
}

TEST_CASE("what is no header of a chunk is not taken for one, and what is cut is refused") {
  constexpr std::int32_t kMost = std::numeric_limits<std::int32_t>::max();
  const std::vector<Numbers> none{
      {},
      {240, 1, kU8, 2, 3, 5},                 // ends early
      {241, 1, kU8, 2, 3, 5, 8},              // not the product
      {240, 0, kU8, 2, 3, 5, 8},              // no format
      {240, 1, 9, 2, 3, 5, 8},                // no type
      {240, 1, kU8, -2, -3, 5, 8},            // extents below 0
      {0, 1, kU8, 0, 3, 5, 8},                // nothing
      {10, 1, kU8, 2, 0, 5, 0},               // an extent behind a 0
      {0, 1, kF32, kMost, kMost, kMost, 64},  // 64 bits are too few
      {-8, 1, kU8, 2, 2, 2, 0},
  };
  for (const Numbers& header : none) {
    const Bytes file = chunk(header, 240);
    CAPTURE(header.size());
    CHECK(!is_lmcache(ByteView(file).first(std::min<std::size_t>(file.size(), 4 * header.size()))));
  }
  const Numbers good{240, 1, kU8, 2, 3, 5, 8};
  CHECK(!refusal(chunk(good, 240)));
  CHECK(refusal(chunk(good, 239)) == ErrorCode::truncated);
  CHECK(refusal(chunk(good, 0)) == ErrorCode::truncated);
  CHECK(refusal(chunk(good, 241)) == ErrorCode::corrupt);
  CHECK(refusal(chunk({1, 2, 3}, 0)) == ErrorCode::corrupt);
}

TEST_CASE("a changed bit of a chunk's header is refused or gives a dump that can be read whole") {
  const Bytes whole = chunk({4 * 6 + 2 * 10, 1, kF32, 2, 1, 3, 1, kBf16, 2, 1, 5, 1}, 44);
  std::size_t refused = 0;
  for (std::size_t bit = 0; bit < (whole.size() - 44) * 8; ++bit) {
    Bytes bad = whole;
    bad[bit / 8] ^= std::byte{1} << (bit % 8);
    try {
      const auto reader = open_lmcache(InputFile(ByteView(bad), "chunk"));
      for (const TensorInfo& tensor : reader->dump().tensors) {
        const std::uint64_t bytes = tensor.bytes();
        REQUIRE(bytes <= bad.size());
        Bytes values(bytes);
        const auto index = static_cast<std::size_t>(&tensor - reader->dump().tensors.data());
        reader->read({index, std::vector<std::uint64_t>(tensor.shape.size(), 0), tensor.shape}, values);
      }
    } catch (const Error& error) {
      CHECK((error.code() == ErrorCode::corrupt || error.code() == ErrorCode::truncated));
      ++refused;
    }
  }
  CHECK(refused > 200);
}

}  // namespace kvzip
