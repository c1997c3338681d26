// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "formats/parts.hpp"
#include "kvzip/dump.hpp"
#include "kvzip/error.hpp"

namespace kvzip {
namespace {

using Shape = std::vector<std::uint64_t>;

template <typename F>
std::optional<ErrorCode> code_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.code();
  }
  return std::nullopt;
}

std::uint64_t volume(const Shape& shape) {
  std::uint64_t n = 1;
  for (const std::uint64_t d : shape) n *= d;
  return n;
}

Attribute number(DType dtype, const auto& value) {
  Attribute attribute{"", "a", {}, dtype, {}, Bytes(sizeof value)};
  std::memcpy(attribute.data.data(), &value, sizeof value);
  return attribute;
}

std::string text_of(const Attribute& attribute) {
  Dump dump;
  dump.attributes.push_back(attribute);
  return dump.text("a");
}

/// Element offsets of a box in the order of its elements, one index at a time.
std::vector<std::uint64_t> brute_offsets(const Shape& shape, const Slice& slice) {
  std::vector<std::uint64_t> offsets;
  const std::uint64_t n = volume(slice.count);
  for (std::uint64_t i = 0; i < n; ++i) {
    std::uint64_t rest = i, offset = 0, stride = 1;
    for (std::size_t a = shape.size(); a-- > 0;) {
      offset += (slice.start[a] + rest % slice.count[a]) * stride;
      rest /= slice.count[a];
      stride *= shape[a];
    }
    offsets.push_back(offset);
  }
  return offsets;
}

TEST_CASE("tensor sizes") {
  CHECK(TensorInfo{"t", DType::f32, {}}.elements() == 1);
  CHECK(TensorInfo{"t", DType::f32, {}}.bytes() == 4);
  CHECK(TensorInfo{"t", DType::f16, {2, 3, 4}}.bytes() == 48);
  CHECK(TensorInfo{"t", DType::c64, {5}}.bytes() == 40);
  CHECK(TensorInfo{"t", DType::f4, {3, 2}}.bytes() == 3);
  CHECK(TensorInfo{"t", DType::f6_e2m3, {4}}.bytes() == 3);
  CHECK(TensorInfo{"t", DType::f6_e3m2, {12}}.bytes() == 9);
  CHECK(TensorInfo{"t", DType::f4, {0}}.bytes() == 0);
  CHECK(code_of([] { TensorInfo{"t", DType::f4, {3}}.bytes(); }) == ErrorCode::corrupt);
  CHECK(code_of([] { TensorInfo{"t", DType::f6_e2m3, {2}}.bytes(); }) == ErrorCode::corrupt);
}

TEST_CASE("tensor sizes at the edge of 64 bits") {
  constexpr std::uint64_t k2To32 = std::uint64_t{1} << 32;
  CHECK(TensorInfo{"t", DType::u8, {k2To32, k2To32 - 1}}.elements() == k2To32 * (k2To32 - 1));
  CHECK(code_of([] { TensorInfo{"t", DType::u8, {k2To32, k2To32}}.elements(); }) == ErrorCode::limit);
  CHECK(TensorInfo{"t", DType::u8, {k2To32, k2To32, k2To32, 0}}.bytes() == 0);
  CHECK(TensorInfo{"t", DType::u16, {~std::uint64_t{0} / 2}}.bytes() == ~std::uint64_t{0} - 1);
  CHECK(code_of([] { TensorInfo{"t", DType::u16, {~std::uint64_t{0} / 2 + 1}}.bytes(); }) == ErrorCode::limit);
  CHECK(TensorInfo{"t", DType::f4, {~std::uint64_t{0} - 1}}.bytes() == ~std::uint64_t{0} / 2);
  CHECK(code_of([] { Slice{0, {}, {k2To32, k2To32}}.elements(); }) == ErrorCode::limit);
  CHECK(Slice{0, {}, {}}.elements() == 1);
}

TEST_CASE("attributes as text") {
  CHECK(text_of({"", "a", {"HTD"}, {}, {}, {}}) == "HTD");
  CHECK(text_of({"", "a", {"x", "y"}, {}, {2}, {}}).empty());
  CHECK(text_of({"group", "a", {"x"}, {}, {}, {}}).empty());
  CHECK(text_of({"", "b", {"x"}, {}, {}, {}}).empty());
  CHECK(text_of(number(DType::boolean, std::uint8_t{1})) == "true");
  CHECK(text_of(number(DType::u8, std::uint8_t{200})) == "200");
  CHECK(text_of(number(DType::i8, std::int8_t{-3})) == "-3");
  CHECK(text_of(number(DType::u16, std::uint16_t{65535})) == "65535");
  CHECK(text_of(number(DType::i16, std::int16_t{-300})) == "-300");
  CHECK(text_of(number(DType::u32, std::uint32_t{4000000000})) == "4000000000");
  CHECK(text_of(number(DType::i32, std::int32_t{-1})) == "-1");
  CHECK(text_of(number(DType::u64, ~std::uint64_t{0})) == "18446744073709551615");
  CHECK(text_of(number(DType::i64, std::int64_t{-5})) == "-5");
  CHECK(text_of(number(DType::f64, 500000.5)) == "500000.5");
  CHECK(text_of(number(DType::f32, 0.1f)) == "0.1");
  CHECK(text_of(number(DType::f16, std::uint16_t{0x3c00})) == "1");
  CHECK(text_of(number(DType::c64, 1.0)).empty());
  Attribute many = number(DType::u16, std::uint32_t{7});
  many.shape = {2};
  CHECK(text_of(many).empty());
}

TEST_CASE("for_each_run agrees with one index at a time") {
  std::mt19937 random(1);
  const auto below = [&](std::uint64_t n) { return random() % n; };
  for (int trial = 0; trial < 3000; ++trial) {
    Shape shape(below(5));
    for (auto& d : shape) d = below(5);
    Slice slice{0, shape, shape};
    for (std::size_t a = 0; a < shape.size(); ++a) {
      slice.start[a] = below(shape[a] + 1);
      slice.count[a] = below(3) == 0 ? shape[a] - slice.start[a] : below(shape[a] - slice.start[a] + 1);
    }
    std::vector<std::uint64_t> offsets;
    for_each_run(shape, slice, [&](std::uint64_t tensor, std::uint64_t box, std::uint64_t n) {
      REQUIRE(box == offsets.size());
      REQUIRE(n > 0);
      for (std::uint64_t i = 0; i < n; ++i) offsets.push_back(tensor + i);
    });
    REQUIRE(offsets == brute_offsets(shape, slice));
  }
}

TEST_CASE("split_contiguous cuts into consecutive pieces") {
  const std::vector<Shape> shapes{{}, {1}, {7}, {3, 5}, {2, 3, 4}, {1, 1, 9}, {4, 1, 2}, {100, 3}, {2, 50, 2, 3}};
  for (const Shape& shape : shapes) {
    for (const DType dtype : {DType::u8, DType::f16, DType::f64}) {
      const TensorInfo info{"t", dtype, shape};
      for (const std::uint64_t max_bytes : {0u, 1u, 7u, 8u, 16u, 50u, 100000u}) {
        std::uint64_t at = 0;
        for (const Slice& slice : split_contiguous(info, 3, max_bytes)) {
          REQUIRE(slice.tensor == 3);
          REQUIRE((slice.elements() == 1 || slice.elements() * dtype_unit(dtype) <= max_bytes));
          int runs = 0;
          for_each_run(shape, slice, [&](std::uint64_t offset, std::uint64_t, std::uint64_t n) {
            REQUIRE(offset == at);
            at += n;
            ++runs;
          });
          REQUIRE(runs == 1);
        }
        REQUIRE(at == info.elements());
      }
    }
  }
  CHECK(split_contiguous({"t", DType::f16, {3, 0}}, 0, 100).empty());
  CHECK(split_contiguous({"t", DType::f16, {}}, 0, 100).size() == 1);
  CHECK(split_contiguous({"t", DType::f16, {4, 8}}, 0, 32).size() == 2);
}

TEST_CASE("slices of sub-byte tensors are byte ranges") {
  const TensorInfo info{"t", DType::f4, {4, 6}};
  CHECK(slice_shape(info) == Shape{12});
  CHECK(slice_unit(info) == 1);
  const auto slices = split_contiguous(info, 0, 5);
  REQUIRE(slices.size() == 3);
  CHECK(slices[2].start == Shape{10});
  CHECK(slices[2].count == Shape{2});
  CHECK(slice_shape({"t", DType::f6_e2m3, {2, 4}}) == Shape{6});
}

TEST_CASE("parts of a dump are found without listing them") {
  Dump dump;
  dump.tensors = {{"a", DType::u8, {10}},
                  {"empty", DType::f32, {0, 4}},
                  {"b", DType::f16, {}},
                  {"huge", DType::u8, {std::uint64_t{1} << 62}}};
  const DumpParts parts(dump, 4);
  REQUIRE(parts.count() == 3 + 0 + 1 + (std::uint64_t{1} << 60));
  CHECK(parts.part(dump, 2).slices[0].count == Shape{2});
  CHECK(parts.part(dump, 3).slices[0].tensor == 2);
  const Part last = parts.part(dump, parts.count() - 1);
  CHECK(last.slices[0].tensor == 3);
  CHECK(last.slices[0].start == Shape{(std::uint64_t{1} << 62) - 4});
  CHECK(code_of([&] { parts.part(dump, parts.count()); }) == ErrorCode::invalid_argument);
  CHECK(DumpParts(Dump{}).count() == 0);
}

TEST_CASE("slices are checked against their tensor") {
  Dump dump;
  dump.tensors = {{"a", DType::f16, {3, 4}}};
  const auto refused = [&](const Slice& slice, std::uint64_t bytes) {
    return code_of([&] { check_slice(dump, slice, bytes); }) == ErrorCode::invalid_argument;
  };
  CHECK_FALSE(refused({0, {1, 0}, {2, 4}}, 16));
  CHECK_FALSE(refused({0, {3, 4}, {0, 0}}, 0));
  CHECK(refused({0, {1, 0}, {2, 4}}, 15));
  CHECK(refused({0, {1, 0}, {3, 4}}, 24));
  CHECK(refused({0, {4, 0}, {0, 0}}, 0));
  CHECK(refused({0, {~std::uint64_t{0}, 0}, {2, 4}}, 16));
  CHECK(refused({0, {1, 0}, {~std::uint64_t{0}, 4}}, 16));
  CHECK(refused({0, {0}, {3}}, 6));
  CHECK(refused({1, {0, 0}, {3, 4}}, 24));
}

}  // namespace
}  // namespace kvzip
