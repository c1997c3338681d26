// SPDX-License-Identifier: Apache-2.0
// Values of quantised caches of MLX by the formula of mlx.core.quantize, worked out here; codes of 3 and 6 bits are
// words that mlx.core 0.32.4 made, with the values that they were made of.
#include "formats/mlx_quantised.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <vector>

#include "kvzip/layout.hpp"
#include "tests/unit/mlx_quantised_cache.hpp"

namespace kvzip::test {
namespace {

std::string texts_of(const DumpReader& reader) {
  std::string out;
  for (const Attribute& a : reader.dump().attributes) out += a.name + "=" + a.strings.at(0) + " ";
  return out;
}

std::vector<float> values(DumpReader& reader, const Slice& slice) {
  const DType dtype = reader.dump().tensors[slice.tensor].dtype;
  Bytes bytes(slice.elements() * dtype_unit(dtype));
  reader.read(slice, bytes);
  std::vector<float> out(slice.elements());
  to_float(dtype, bytes, out);
  return out;
}

float half_at(const Bytes& bytes, std::size_t i) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, bytes.data() + 2 * i, 2);
  return f16_to_float(bits);
}

/// Element i of a row, by the formula: codes lie in words from the low bits on.
float by_formula(const MemoryReader& stored, std::size_t packed, unsigned bits, std::size_t row, std::size_t i) {
  const std::size_t per_word = 32 / bits;
  std::uint32_t word = 0;
  std::memcpy(&word, stored.data(packed).data() + 4 * (row * (64 / per_word) + i / per_word), 4);
  const std::uint32_t code = (word >> (bits * (i % per_word))) & ((1u << bits) - 1);
  const float value = half_at(stored.data(packed + 1), row * 2 + i / 32) * static_cast<float>(code) +
                      half_at(stored.data(packed + 2), row * 2 + i / 32);
  return f16_to_float(f16_from_float(value));
}

TEST_CASE("quantised caches of MLX are the values of their codes") {
  for (const bool now : {false, true}) {
    for (const unsigned bits : {2u, 4u, 8u}) {
      CAPTURE(now);
      CAPTURE(bits);
      const QuantisedCache cache(now, static_cast<int>(bits));
      const auto stored = cache.reader();
      const auto reader = mlx_values(cache.reader());
      const std::vector<TensorInfo>& tensors = reader->dump().tensors;
      REQUIRE(tensors.size() == (now ? 6 : 4));
      CHECK(tensors[0] == TensorInfo{"0.0", DType::f16, {1, 2, 3, 64}});
      CHECK(tensors[1] == TensorInfo{"0.1", DType::f16, {1, 2, 3, 64}});
      for (const std::size_t half : {0u, 1u}) {
        const std::vector<float> all = values(*reader, {half, {0, 0, 0, 0}, {1, 2, 3, 64}});
        for (std::size_t k = 0; k < all.size(); ++k) {
          REQUIRE(all[k] == by_formula(*stored, half * 3, bits, k / 64, k % 64));
        }
        // A box that begins and ends within words and groups.
        const std::vector<float> box = values(*reader, {half, {0, 1, 1, 13}, {1, 1, 2, 38}});
        for (std::size_t k = 0; k < box.size(); ++k) CHECK(box[k] == all[(4 + k / 38) * 64 + 13 + k % 38]);
      }
      CHECK(values(*reader, {2, {0, 0, 0, 0}, {1, 2, 3, 64}}) == values(*stored, {6, {0, 0, 0, 0}, {1, 2, 3, 64}}));
    }
  }
}

TEST_CASE("codes of MLX that lie across bytes") {
  struct Made {
    int bits;
    std::vector<std::uint32_t> words;
    float scale, bias;
    std::vector<float> values;
  };
  const std::vector<Made> made{
      {3, {0x809b1046, 0xb03d29c6, 0xfa995b9d}, 0.5f, -4, {-1,   -4, -3.5, -4,   -3.5, -1,   -1,   -2,   -4, -4,   -3,
                                                           -2.5, -2, -2.5, -3,   -3.5, -1.5, -0.5, -4,   -4, -2.5, -2.5,
                                                           -0.5, -2, -2.5, -2.5, -1.5, -2,   -3.5, -1.5, -1, -0.5}},
      {5,
       {0xdf0ffcca, 0xd9dfc0b2, 0x6c1ff6e4, 0x56c1d790, 0x2187a05e},
       -0.5f,
       11.5f,
       {6.5, 8.5,  -4, -4,   3.5, 4, 6, 0.5,  11.5, -3.5, 0, 2,    5,    2.5, -2,  -3.5,
        -4,  11.5, -2, 11.5, -1,  6, 8, -0.5, 0.5,  2.5,  0, 11.5, -1.5, 10,  8.5, 9.5}},
      {6,
       {0x3fde763, 0x4023a15a, 0xa8f5245f, 0x18e23014, 0x1fc9247f, 0x34e2da04},
       -0.5f,
       27.5f,
       {10,   13,   12.5, -4,   26,   7.5,  17, 7.5, 10, 27.5, 1.5, 16, 9.5,  17.5, 20,   6.5,
        17.5, 27.5, 10,   -0.5, 15.5, -2.5, 24, 23,  23, -4,   27,  27, 14.5, 22,   20.5, 21}}};
  for (const Made& m : made) {
    CAPTURE(m.bits);
    const QuantisedCache cache(true, m.bits);
    auto stored = cache.reader();
    // The second group of the first row of values.
    std::memcpy(stored->data(3).data() + m.words.size() * 4, m.words.data(), m.words.size() * 4);
    const std::uint16_t scale = f16_from_float(m.scale), bias = f16_from_float(m.bias);
    std::memcpy(stored->data(4).data() + 2, &scale, 2);
    std::memcpy(stored->data(5).data() + 2, &bias, 2);
    const auto reader = mlx_values(std::move(stored));
    CHECK(values(*reader, {1, {0, 0, 0, 32}, {1, 1, 1, 32}}) == m.values);
    CHECK(values(*reader, {1, {0, 0, 0, 45}, {1, 1, 1, 1}}) == std::vector{m.values[13]});
  }
}

TEST_CASE("decoded caches of MLX say what ordinary ones do") {
  const auto now = mlx_values(QuantisedCache(true).reader()), before = mlx_values(QuantisedCache(false).reader());
  CHECK(texts_of(*now) == "0.model=tiny 1.0=KVCache 1.1=KVCache 2.0= 2.1.0=0.2 2.1.1=scalar 2.2.0=1.2 2.2.1=scalar ");
  CHECK(texts_of(*before) == "0.0= 0.1= 1.model=tiny 2.0=KVCache 2.1=KVCache ");
  for (const auto* reader : {&now, &before}) {
    const Recognition recognition = recognise((*reader)->dump());
    CHECK(recognition.recognised == 4);
    CHECK(recognition.tensors[0].role == Role::key);
    CHECK(recognition.tensors[1].role == Role::value);
    CHECK(recognition.tensors[0].axes.text() == "BHTD");
    CHECK(&reader_for("safetensors", **reader) == stored_blocks(**reader));
    CHECK(mlx_quantised_lines(**reader).size() == 1);
  }
}

TEST_CASE("parts of decoded caches of MLX cover every element once") {
  const QuantisedCache cache(true);
  const auto reader = mlx_values(cache.reader());
  std::uint64_t elements = 0;
  for (std::uint64_t i = 0; i < reader->part_count(); ++i) {
    Part part = reader->part(i);
    reader->fetch(part);
    reader->expand(part);
    REQUIRE(part.slices.size() == 1);
    elements += part.slices[0].elements();
    Bytes again(part.data[0].size());
    reader->read(part.slices[0], again);
    CHECK(part.data[0] == again);
  }
  CHECK(elements == 4 * 384 + 2);
}

TEST_CASE("quantised caches in a CacheList of MLX are values, and say that they are ordinary ones") {
  for (const bool now : {false, true}) {
    CAPTURE(now);
    const auto plain = mlx_values(QuantisedCache(now).reader());
    const auto reader = mlx_values(in_list(now).reader());
    const std::vector<TensorInfo>& tensors = reader->dump().tensors;
    REQUIRE(tensors.size() == (now ? 8 : 4));
    CHECK(tensors[0] == TensorInfo{now ? "0.1.0.0" : "0.1.0", DType::f16, {1, 2, 3, 64}});
    CHECK(tensors[1] == TensorInfo{now ? "0.1.0.1" : "0.1.1", DType::f16, {1, 2, 3, 64}});
    for (const std::size_t half : {0u, 1u}) {
      const Slice all{half, {0, 0, 0, 0}, {1, 2, 3, 64}};
      CHECK(values(*reader, all) == values(*plain, all));
    }
    CHECK(mlx_quantised_lines(*reader).size() == 1);
    const Recognition recognition = recognise(reader->dump());
    CHECK(recognition.recognised == 4);
    CHECK(!recognition.tensors[0].layer);
    CHECK(recognition.tensors[2].layer == 0u);
  }
  QuantisedCache units = in_list(true);  // of arrays that are no more nothing is said
  for (const char* name : {"0.1.0.0.0", "0.1.0.0.1", "0.1.0.3", "0.1.0.2"}) {
    units.dump.attributes.push_back(text_attribute("unit", name, name));
  }
  CHECK(mlx_values(units.reader())->dump().attributes.back() == text_attribute("unit", "0.1.0.2", "0.1.0.2"));
  CHECK(mlx_values(units.reader())->dump().attributes.size() == units.dump.attributes.size() - 3 - 4);
  const auto before = mlx_values(in_list(false).reader()), now = mlx_values(in_list(true).reader());
  CHECK(texts_of(*before) == "0.0.0.0=KVCache 0.0.0.1=KVCache 0.0.1.0= 0.0.1.1= 1.model=tiny 2.0=CacheList ");
  CHECK(texts_of(*now) ==
        "0.model=tiny 1.0=CacheList 2.0= 2.1.0=0.1.0.2 2.1.1=scalar 2.2.0=0.0.0.2 2.2.1=scalar "
        "2.3.0=0.0.1 2.3.1=string 2.4.0=0.1.1 2.4.1=string ");
  REQUIRE(now->dump().tensors[7] == TensorInfo{"0.1.1", DType::i32, {7}});
  std::int32_t points[7] = {};
  now->read({7, {0}, {7}}, std::as_writable_bytes(std::span(points)));
  CHECK(std::string(points, points + 7) == "KVCache");
  now->read({7, {1}, {3}}, std::as_writable_bytes(std::span(points).first(3)));
  CHECK(std::string(points, points + 3) == "VCa");
}

TEST_CASE("containers of quantised caches of MLX show values, and what they state of the rest") {
  QuantisedCache container(true);
  auto stored = container.reader();
  stored->stated = recognise(container.dump);
  stored->stated->tensors[6].why = "as stated";
  stored->stated->model.model = "stated";
  const auto reader = mlx_values(std::move(stored));
  REQUIRE(stored_blocks(*reader) != nullptr);
  const Recognition* found = reader->recognition();
  REQUIRE(found != nullptr);
  REQUIRE(found->tensors.size() == 6);
  CHECK(found->recognised == 4);
  CHECK(found->tensors[0].role == Role::key);
  CHECK(found->tensors[1].axes.text() == "BHTD");
  CHECK(found->tensors[2].why == "as stated");
  CHECK(found->model.model == "stated");
  CHECK(found->model.layers == 2);
  // What values stand for counts as theirs.
  const std::vector<TensorInfo>& tensors = stored_blocks(*reader)->dump().tensors;
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    const std::string& shown = reader->dump().tensors[shown_as(*reader, t)].name;
    const bool keys = tensors[t].name == "0.3" || tensors[t].name == "0.4";
    CHECK(shown == (keys ? "0.0" : tensors[t].name.substr(0, 3)));
  }
  MemoryReader ordinary(container.dump);
  CHECK(shown_as(ordinary, 5) == 5);
}

}  // namespace
}  // namespace kvzip::test
