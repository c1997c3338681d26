// SPDX-License-Identifier: Apache-2.0
// Values of quantised caches of MLX by the formula of mlx.core.quantize, worked out here; codes of 3 and 6 bits are
// words that mlx.core 0.32.4 made, with the values that they were made of.
#include "formats/mlx_quantised.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "formats/ggml_values.hpp"
#include "kvzip/layout.hpp"
#include "tests/support/memory_dump.hpp"

namespace kvzip::test {
namespace {

/// A cache of two layers, the second not quantised, as mlx-lm 0.32 and as 0.30 save it; [1, 2, 3, 64] in groups of 32.
struct QuantisedCache {
  explicit QuantisedCache(bool now, int bits = 4) {
    const std::vector<std::pair<std::string, std::string>> texts =
        now ? std::vector<std::pair<std::string, std::string>>{{"0.model", "tiny"}, {"1.0", "QuantizedKVCache"},
                                                               {"1.1", "KVCache"},  {"2.0", ""},
                                                               {"2.1.0", "0.2"},    {"2.1.1", "scalar"},
                                                               {"2.2.0", "0.3"},    {"2.2.1", "scalar"},
                                                               {"2.3.0", "0.4"},    {"2.3.1", "scalar"},
                                                               {"2.4.0", "1.2"},    {"2.4.1", "scalar"}}
            : std::vector<std::pair<std::string, std::string>>{
                  {"0.0.0", "3"},    {"0.0.1", "32"},     {"0.0.2", std::to_string(bits)},
                  {"0.1", ""},       {"1.model", "tiny"}, {"2.0", "QuantizedKVCache"},
                  {"2.1", "KVCache"}};
    for (const auto& [name, value] : texts) dump.attributes.push_back(text_attribute(name, value));
    const std::uint64_t width = 2 * static_cast<std::uint64_t>(bits);
    for (const char* half : {"0.0", "0.1"}) {
      dump.tensors.push_back({std::string(half) + ".0", DType::u32, {1, 2, 3, width}});
      for (const char* array : {".1", ".2"})
        dump.tensors.push_back({half + std::string(array), DType::f16, {1, 2, 3, 2}});
    }
    for (const char* name : {"1.0", "1.1"}) dump.tensors.push_back({name, DType::f16, {1, 2, 3, 64}});
    if (!now) return;
    for (const auto& [name, value] : std::map<std::string, int>{{"0.2", 3}, {"0.3", 32}, {"0.4", bits}, {"1.2", 3}}) {
      dump.tensors.push_back({name, DType::i32, {}});
      scalars[name] = value;
    }
  }

  TensorInfo& tensor(std::string_view name) { return *std::ranges::find(dump.tensors, name, &TensorInfo::name); }
  void text(std::string_view name, std::string value) {
    std::ranges::find(dump.attributes, name, &Attribute::name)->strings = {std::move(value)};
  }

  std::unique_ptr<MemoryReader> reader() const {
    auto out = std::make_unique<MemoryReader>(dump);
    for (std::size_t t = 0; t < dump.tensors.size(); ++t) {
      const auto found = scalars.find(dump.tensors[t].name);
      if (found != scalars.end() && out->data(t).size() >= 4) std::memcpy(out->data(t).data(), &found->second, 4);
      if (const auto type = classes.find(dump.tensors[t].name); type != classes.end()) {
        const std::vector<std::int32_t> points(type->second.begin(), type->second.end());
        std::memcpy(out->data(t).data(), points.data(), out->data(t).size());
      }
      if (dump.tensors[t].dtype != DType::f16) continue;
      for (std::size_t i = 0; i < out->data(t).size() / 2; ++i) {  // no NaN and no overflow in scales
        const std::uint16_t bits = f16_from_float(0.25f * static_cast<float>(i % 7) - 0.5f);
        std::memcpy(out->data(t).data() + 2 * i, &bits, 2);
      }
    }
    return out;
  }

  Dump dump;
  std::map<std::string, int> scalars;
  std::map<std::string, std::string> classes;  // by arrays of code points
};

/// The same caches, the plain one first, in a CacheList of one layer, as mlx-lm 0.32 and as 0.31 save it.
QuantisedCache in_list(bool now) {
  QuantisedCache cache(now);
  const auto renamed = [&](const std::string& name) {
    return fmt::format("0.{}{}{}", name[0] == '0' ? "1" : "0", now ? ".0" : "", name.substr(1));
  };
  for (TensorInfo& info : cache.dump.tensors) info.name = renamed(info.name);
  std::map<std::string, int> scalars;
  for (const auto& [name, value] : cache.scalars) scalars[renamed(name)] = value;
  cache.scalars = scalars;
  std::vector<Attribute>& texts = cache.dump.attributes;
  if (!now) {
    texts.clear();
    for (const auto& [name, value] : std::vector<std::pair<std::string, std::string>>{{"0.0.0.0", "KVCache"},
                                                                                      {"0.0.0.1", "QuantizedKVCache"},
                                                                                      {"0.0.1.0", ""},
                                                                                      {"0.0.1.1.0", "3"},
                                                                                      {"0.0.1.1.1", "32"},
                                                                                      {"0.0.1.1.2", "4"},
                                                                                      {"1.model", "tiny"},
                                                                                      {"2.0", "CacheList"}}) {
      texts.push_back(text_attribute(name, value));
    }
    return cache;
  }
  std::erase_if(texts, [](const Attribute& a) { return a.name == "1.1"; });
  for (Attribute& a : texts) {
    if (a.name == "1.0") a.strings = {"CacheList"};
    if (a.name.size() == 5 && a.name.ends_with(".0")) a.strings = {renamed(a.strings[0])};
  }
  cache.classes = {{"0.0.1", "KVCache"}, {"0.1.1", "QuantizedKVCache"}};
  int at = 5;
  for (const auto& [name, type] : cache.classes) {
    cache.dump.tensors.push_back({name, DType::i32, {type.size()}});
    texts.push_back(text_attribute(fmt::format("2.{}.0", at), name));
    texts.push_back(text_attribute(fmt::format("2.{}.1", at++), "string"));
  }
  return cache;
}

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

bool is_decoded(const QuantisedCache& cache) {
  const auto reader = mlx_values(cache.reader());
  return stored_blocks(*reader) != nullptr;
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

TEST_CASE("quantised caches of MLX whose arrays do not agree stay as they are") {
  CHECK(is_decoded(QuantisedCache(true)));
  const auto kept = [](auto&& change) {
    for (const bool now : {false, true}) {
      QuantisedCache cache(now);
      change(cache);
      const auto reader = mlx_values(cache.reader());
      CHECK(stored_blocks(*reader) == nullptr);
      CHECK(reader->dump().tensors == cache.dump.tensors);
      CHECK(mlx_quantised_lines(*reader).size() == 1);
    }
  };
  kept([](QuantisedCache& c) { c.tensor("0.0.0").shape[3] = 7; });
  kept([](QuantisedCache& c) { c.tensor("0.0.0").shape[3] = 0; });
  kept([](QuantisedCache& c) { c.tensor("0.1.0").shape = {2, 3, 8}; });
  kept([](QuantisedCache& c) { c.tensor("0.1.0").dtype = DType::i32; });
  kept([](QuantisedCache& c) { c.tensor("0.0.1").shape[3] = 4; });
  kept([](QuantisedCache& c) { c.tensor("0.0.2").shape[2] = 2; });
  kept([](QuantisedCache& c) { c.tensor("0.0.2").dtype = DType::bf16; });
  kept([](QuantisedCache& c) { c.tensor("0.0.2").name = "0.0.3"; });
  kept([](QuantisedCache& c) { c.dump.tensors.push_back({"0.0.3", DType::f16, {1}}); });
  kept([](QuantisedCache& c) { c.dump.tensors.push_back({"0.0", DType::f16, {1}}); });
  kept([](QuantisedCache& c) {  // keys of other rows than the values
    for (const char* name : {"0.0.0", "0.0.1", "0.0.2"}) c.tensor(name).shape[2] = 2;
  });
  const auto states = [&](const std::string& group, const std::string& bits) {
    QuantisedCache before(false), now(true);
    before.text("0.0.1", group);
    before.text("0.0.2", bits);
    now.scalars["0.3"] = std::stoi(group);
    now.scalars["0.4"] = std::stoi(bits);
    return is_decoded(before) || is_decoded(now);
  };
  CHECK(!states("64", "4"));
  CHECK(!states("32", "8"));
  CHECK(!states("16", "8"));
  CHECK(!states("0", "4"));
  CHECK(!states("-32", "4"));
  CHECK(!states("32", "0"));
  CHECK(!states("32", "7"));
  CHECK(!states("32", "33"));
  CHECK(!states("2147483647", "2147483647"));
}

TEST_CASE("numbers of a quantised cache of MLX that are not there, or more than are known") {
  QuantisedCache array(true), many(true), text(false), step(false), five(false);
  array.tensor("0.4").shape = {2};
  CHECK(!is_decoded(array));
  many.dump.tensors.push_back({"0.5", DType::i32, {}});
  CHECK(!is_decoded(many));
  text.text("0.0.2", "four");
  CHECK(!is_decoded(text));
  // To 0.26 the step by which it grows is the first of four.
  step.text("0.0.0", "256");
  step.text("0.0.1", "3");
  step.text("0.0.2", "32");
  step.dump.attributes.push_back(text_attribute("0.0.3", "4"));
  CHECK(is_decoded(step));
  for (const char* name : {"0.0.3", "0.0.4"}) five.dump.attributes.push_back(text_attribute(name, "4"));
  CHECK(!is_decoded(five));
}

TEST_CASE("a quantised cache of MLX with sizes beyond all memory is not asked for them") {
  QuantisedCache cache(true);
  for (const char* name : {"0.0.0", "0.1.0"}) cache.tensor(name).shape = {0, 1ULL << 40, 1ULL << 40, 8};
  for (const char* name : {"0.0.1", "0.0.2", "0.1.1", "0.1.2"})
    cache.tensor(name).shape = {0, 1ULL << 40, 1ULL << 40, 2};
  CHECK(!is_decoded(cache));
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

TEST_CASE("caches of MLX of a class that only has as many letters stay as they are") {
  const auto kept = [](QuantisedCache cache) { return !is_decoded(cache); };
  QuantisedCache letters = in_list(true), wide = in_list(true), text = in_list(false);
  CHECK(is_decoded(letters));
  letters.classes["0.1.1"] = "QuantifiedKCache";
  CHECK(kept(letters));
  wide.tensor("0.1.1").dtype = DType::i64;
  wide.classes.erase("0.1.1");
  CHECK(kept(wide));
  text.text("0.0.0.1", "QuantifiedKCache");
  CHECK(kept(text));
  // The file has what a list says of its caches for one more than its arrays are of.
  QuantisedCache other = in_list(false);
  for (TensorInfo& info : other.dump.tensors) {
    if (info.name.starts_with("0.1.")) info.name[2] = '2';
  }
  CHECK(kept(other));
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

TEST_CASE("quantised caches of MLX whose numbers cannot be read stay as they are") {
  struct Damaged final : MemoryReader {
    using MemoryReader::MemoryReader;
    void read(const Slice& slice, std::span<std::byte> out) override {
      if (dump().tensors[slice.tensor].name == "0.4") fail(ErrorCode::corrupt, "damaged");
      MemoryReader::read(slice, out);
    }
  };
  const auto reader = mlx_values(std::make_unique<Damaged>(QuantisedCache(true).dump));
  CHECK(stored_blocks(*reader) == nullptr);
  CHECK(mlx_quantised_lines(*reader).at(0).find("cannot be read (damaged)") != std::string::npos);
}

TEST_CASE("quantised caches of MLX that come through a pipe stay as they are, and a line says so") {
  struct Piped final : MemoryReader {
    using MemoryReader::MemoryReader;
    ReaderTraits traits() override { return {.container = nullptr, .once = true}; }
  };
  const auto reader = mlx_values(std::make_unique<Piped>(QuantisedCache(true).dump));
  CHECK(stored_blocks(*reader) == nullptr);
  CHECK(mlx_quantised_lines(*reader).at(0).find("they come through a pipe") != std::string::npos);
}

}  // namespace
}  // namespace kvzip::test
