// SPDX-License-Identifier: Apache-2.0
// Files laid out here byte by byte as llama.cpp writes them, and values worked out from the blocks' definitions.
#include "formats/llama.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "formats/ggml_values.hpp"
#include "kvzip/layout.hpp"
#include "tests/contract/sample_dumps.hpp"
#include "tests/unit/file_support.hpp"
#include "tests/unit/safetensors_text.hpp"
#include "tests/unit/scratch_directory.hpp"

namespace kvzip::test {
namespace {

/// Little-endian pieces, one after the other.
class Writer {
 public:
  template <typename T>
  Writer& put(T value) {
    text.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Writer& u32(std::uint32_t value) { return put(value); }
  Writer& add(std::string_view more) {
    text += more;
    return *this;
  }
  std::string text;
};

struct Shape {
  std::string magic = "qsgg";
  std::uint32_t version = 3, cells = 3, layers = 2, streams = 1, extension = 0;
  bool transposed = false, values = true;
  std::int32_t type = 1;             // f16
  std::uint64_t row = 8, count = 4;  // bytes and channels
  std::string architecture{};
};

/// Byte i of tensor n is 16 n + i, so that every value is told from every other.
std::string data_of(std::uint32_t tensor, std::uint64_t bytes) {
  std::string out;
  for (std::uint64_t i = 0; i < bytes; ++i) out += static_cast<char>(16 * tensor + i);
  return out;
}

std::string state(const Shape& s) {
  Writer w;
  w.add(s.magic).u32(s.version).u32(3);
  for (const int token : {7, 8, -1}) w.put(token);
  if (!s.architecture.empty()) w.u32(static_cast<std::uint32_t>(s.architecture.size())).add(s.architecture);
  w.u32(s.streams);
  std::uint32_t tensor = 0;
  for (std::uint32_t stream = 0; stream < s.streams; ++stream) {
    w.u32(s.cells);
    if (s.cells == 0) continue;
    for (std::uint32_t cell = 0; cell < s.cells; ++cell) {
      w.u32(10 + cell).u32(1).add(std::string(s.extension, '\xff')).u32(stream);
    }
    w.u32(s.transposed).u32(s.layers);
    if ((s.magic == "nsgg" && s.version == 11) || (s.magic == "qsgg" && s.version == 4)) w.u32(64).u32(32);
    for (std::uint32_t l = 0; l < s.layers; ++l) w.put(s.type).put(s.row).add(data_of(tensor++, s.cells * s.row));
    for (std::uint32_t l = 0; l < s.layers && s.values; ++l) {
      w.put(s.type);
      if (s.transposed) {
        w.u32(2).u32(static_cast<std::uint32_t>(s.count));
      } else {
        w.put(s.row);
      }
      w.add(data_of(tensor++, s.cells * s.row));
    }
  }
  return w.text;
}

Bytes bytes_of(std::string_view text) {
  const ByteView bytes = view(text);
  return {bytes.begin(), bytes.end()};
}

std::unique_ptr<DumpReader> open(std::string_view text) {
  return ggml_values(open_llama(InputFile(view(text), "slot")));
}

std::array<float, kGgmlBlock> decoded(std::int32_t code, const std::string& block) {
  const GgmlType* type = find_ggml_type(code);
  REQUIRE(type != nullptr);
  REQUIRE(type->bytes == block.size());
  std::array<float, kGgmlBlock> out{};
  type->decode(view(block), out);
  return out;
}

}  // namespace

TEST_CASE("sessions and sequences of llama.cpp, of every version, with and without the extension of cells") {
  std::vector<Shape> shapes;
  for (const std::uint32_t version : {2u, 3u, 4u}) {
    for (const std::uint32_t extension : {0u, version == 2 ? 8u : 12u}) {
      Shape shape;
      shape.version = version;
      shape.extension = extension;
      shapes.push_back(shape);
    }
  }
  for (const std::uint32_t version : {9u, 10u, 11u}) {
    Shape shape;
    shape.magic = "nsgg";
    shape.version = version;
    if (version > 9) shape.architecture = "llama";
    shapes.push_back(shape);
  }
  for (Shape shape : shapes) {
    for (const bool transposed : {false, true}) {
      CAPTURE(shape.magic);
      CAPTURE(shape.version);
      CAPTURE(shape.extension);
      CAPTURE(transposed);
      shape.transposed = transposed;
      const std::string text = state(shape);
      const auto reader = open(text);
      const Dump& dump = reader->dump();
      const std::vector<std::uint64_t> rows{3, 4}, columns{4, 3};
      REQUIRE(dump.tensors.size() == (shape.extension == 0 ? 6 : 7));
      CHECK(dump.tensors[0] == TensorInfo{"token_ids", DType::i32, {3}});
      CHECK(dump.tensors[1] == TensorInfo{"positions", DType::i32, {3}});
      CHECK(dump.tensors[2] == TensorInfo{"layers.0.key", DType::f16, rows});
      CHECK(dump.tensors[3] == TensorInfo{"layers.0.value", DType::f16, transposed ? columns : rows});
      CHECK(dump.tensors[5].name == "layers.1.value");
      const std::vector<Bytes> values = values_of(*reader);
      CHECK(values[0] == bytes_of(Writer().put(7).put(8).put(-1).text));
      CHECK(values[1] == bytes_of(Writer().put(10).put(11).put(12).text));
      for (const auto& [tensor, number] : {std::pair(2u, 0u), {4u, 1u}, {3u, 2u}, {5u, 3u}}) {
        CHECK(values[tensor] == bytes_of(data_of(number, 24)));
      }
      const Recognition recognition = recognise(dump);
      CHECK(recognition.recognised == 4);
      CHECK(recognition.tensors[3].role == Role::value);
      CHECK(recognition.tensors[3].axes == Axes(transposed ? "CT" : "TC"));
      CHECK(recognition.tensors[4].layer == 1u);
      const bool states = shape.version == 4 || shape.version == 11;
      CHECK(dump.text("llama.cpp.rotated_keys") == (states ? "64" : "unknown"));
      CHECK(dump.text("llama.cpp.rotated_values") == (states ? "32" : "unknown"));
      CHECK(dump.text("rope_layout") == (shape.version > 9 ? "interleaved" : ""));
    }
  }
}

TEST_CASE("streams, empty slots, layers without values and what follows a cache of llama.cpp") {
  Shape shape;
  shape.streams = 2;
  const std::string two = state(shape);
  const auto streams = open(two);
  REQUIRE(streams->dump().tensors.size() == 11);
  CHECK(streams->dump().tensors[7].name == "streams.1.layers.0.key");
  CHECK(values_of(*streams)[7] == bytes_of(data_of(4, 24)));
  CHECK(recognise(streams->dump()).tensors[7].layer == 0u);

  shape = {};
  shape.cells = 0;
  const std::string none = state(shape);
  CHECK(open(none)->dump().tensors == std::vector<TensorInfo>{{"token_ids", DType::i32, {3}}});

  shape = {};
  shape.values = false;
  const std::string latent = state(shape);
  CHECK(open(latent)->dump().tensors.size() == 4);

  const std::string more = state({}) + "SCKP and so on";
  const auto appended = open(more);
  CHECK(appended->dump().tensors.back() == TensorInfo{"appendix", DType::u8, {14}});
  CHECK(values_of(*appended).back() == bytes_of("SCKP and so on"));
}

TEST_CASE("blocks of ggml stand for what their definitions say") {
  // d = 0.5 (0x3800), m = -3 (0xc200). Code i of the low halves is i, of the high halves 15 - i.
  const std::string d = Writer().put(std::uint16_t{0x3800}).text, m = Writer().put(std::uint16_t{0xc200}).text;
  std::string nibbles, signs;
  for (int i = 0; i < 16; ++i) nibbles += static_cast<char>(i | (15 - i) << 4);
  for (int i = 0; i < 32; ++i) signs += static_cast<char>(i % 2 == 0 ? i : -4 * i);
  const std::string five = Writer().u32(0x8000ffffu).text + nibbles;  // fifth bits of places 0 to 15, and of 31
  const std::string dm = d + m;
  constexpr int kLevels[] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  for (std::size_t i = 0; i < kGgmlBlock; ++i) {
    CAPTURE(i);
    const int code = static_cast<int>(i < 16 ? i : 31 - i), fifth = i < 16 || i == 31 ? 16 : 0;
    CHECK(decoded(2, d + nibbles)[i] == 0.5 * (code - 8));
    CHECK(decoded(3, dm + nibbles)[i] == 0.5 * code - 3);
    CHECK(decoded(6, d + five)[i] == 0.5 * (code + fifth - 16));
    CHECK(decoded(7, dm + five)[i] == 0.5 * (code + fifth) - 3);
    CHECK(decoded(8, d + signs)[i] == 0.5 * (i % 2 == 0 ? static_cast<int>(i) : -4 * static_cast<int>(i)));
    CHECK(decoded(20, d + nibbles)[i] == 0.5 * kLevels[code]);
  }
  CHECK(find_ggml_type(9) == nullptr);
}

TEST_CASE("a quantised cache of llama.cpp is read in any pieces") {
  Shape shape;
  shape.type = 8;
  shape.row = 68;  // two blocks
  const std::string text = state(shape);
  const auto reader = open(text);
  REQUIRE(reader->dump().tensors[2] == TensorInfo{"layers.0.key", DType::f32, {3, 64}});
  const Bytes whole = values_of(*reader)[2];
  const auto expected = decoded(8, data_of(0, 204).substr(136 + 34, 34));  // the second block of the last row
  const ByteView bytes = std::as_bytes(std::span(expected));
  CHECK(std::ranges::equal(ByteView(whole).subspan((2 * 64 + 32) * sizeof(float), bytes.size()), bytes));
  for (const Slice& slice : {Slice{2, {0, 0}, {3, 64}}, Slice{2, {1, 5}, {2, 40}}, Slice{2, {2, 63}, {1, 1}}}) {
    Bytes part(slice.elements() * sizeof(float));
    reader->read(slice, part);
    CHECK(part == gather(reader->dump().tensors[2], whole, slice));
  }
}

TEST_CASE("what was a file of llama.cpp becomes that file again") {
  const auto again = [](const std::string& text) {
    const auto reader = open_llama(InputFile(view(text), "slot"));
    const ScratchDirectory scratch;
    const auto writer = create_writer(scratch.file("slot"), "llama", reader->dump(), false);
    transcode(*reader, *writer, 1);
    writer->finish();
    return file_bytes(scratch.file("slot"));
  };
  std::vector<Shape> shapes(9);
  shapes[1].transposed = true;
  shapes[2].extension = 12;
  shapes[3].streams = 2;
  shapes[4].cells = 0;
  shapes[5].values = false;
  shapes[6].type = 8;
  shapes[6].row = 68;
  shapes[7].version = 4;
  shapes[8].magic = "nsgg";
  shapes[8].version = 11;
  shapes[8].architecture = "qwen3";
  for (const Shape& shape : shapes) {
    CAPTURE(&shape - shapes.data());
    for (const std::string_view appendix : {"", "SCKP and so on"}) {
      const std::string text = state(shape).append(appendix);
      CHECK(again(text) == bytes_of(text));
    }
  }
  Shape latent;
  latent.values = false;
  latent.transposed = true;  // said, although there is nothing to transpose
  CHECK(again(state(latent)) == bytes_of(state(latent)));
}

TEST_CASE("values that were in blocks are written as F32, and what is no whole cache of llama.cpp is refused") {
  Shape shape;
  shape.type = 8;
  shape.row = 34;
  const std::string text = state(shape);
  const auto values = open(text);
  CHECK(format_losses("llama", values->dump(), "slot") ==
        std::vector<std::string>{"the type q8_0 of 4 tensors, which become F32"});
  const ScratchDirectory scratch;
  {
    const auto writer = create_writer(scratch.file("slot"), "llama", values->dump(), false);
    transcode(*values, *writer, 1);
    writer->finish();
  }
  const auto back = open_reader(scratch.file("slot"));
  CHECK(back->dump().tensors == values->dump().tensors);
  CHECK(values_of(*back) == values_of(*values));

  const auto refuses = [&](const Dump& dump, std::string_view what) {
    const auto error = error_of([&] { create_writer(scratch.file("refused"), "llama", dump, false); });
    REQUIRE(error);
    CHECK(error->code() == ErrorCode::unsupported);
    CHECK_MESSAGE(std::string_view(error->what()).find(what) != std::string_view::npos, error->what());
  };
  const auto plain = open_llama(InputFile(view(text), "slot"));
  refuses({}, "can be made of what was one");
  Dump changed = plain->dump();
  changed.tensors.push_back({"more", DType::u8, {1}});
  refuses(changed, "has no place for tensor 'more'");
  changed = plain->dump();
  changed.tensors.erase(changed.tensors.begin() + 5);
  refuses(changed, "of all layers: 2 and 1 are here");
  changed = plain->dump();
  changed.tensors[2].shape[0] = 2;
  refuses(changed, "needs all 3 tokens of tensor 'layers.0.key', which has 2");
  changed = plain->dump();
  changed.tensors[1].shape[0] = 2;
  refuses(changed, "needs all 2 tokens");
  changed = plain->dump();
  changed.tensors[2].dtype = DType::f64;
  refuses(changed, "cannot hold tensor 'layers.0.key'");
  changed = plain->dump();
  std::erase_if(changed.attributes, [](const Attribute& a) { return a.name == "llama.cpp.sequences"; });
  refuses(changed, "needs the sequences");

  // A list that is given once would be there a million times.
  changed = plain->dump();
  for (TensorInfo& info : changed.tensors) {
    if (info.name == "positions") info.shape[0] = 1 << 20;
  }
  for (Attribute& attribute : changed.attributes) {
    if (attribute.name != "llama.cpp.sequences") continue;
    attribute.strings[0] = "0";
    for (int i = 0; i < 256; ++i) attribute.strings[0] += " 1";
  }
  const auto error = error_of([&] { create_writer(scratch.file("refused"), "llama", changed, false); });
  REQUIRE(error);
  CHECK(error->code() == ErrorCode::limit);
}

TEST_CASE("states of llama.cpp that are not known or damaged are refused") {
  const auto says = [](const std::string& text, std::string_view what) {
    const auto error = error_of([&] { open(text); });
    REQUIRE(error);
    CHECK(error->code() == ErrorCode::unsupported);
    CHECK_MESSAGE(std::string_view(error->what()).find(what) != std::string_view::npos, error->what());
  };
  Shape shape;
  for (const std::uint32_t version : {0u, 1u, 5u}) {
    shape.version = version;
    says(state(shape), fmt::format("a llama.cpp sequence of version {}; this kvzip knows 2 to 4", version));
  }
  shape = {};
  shape.magic = "nsgg";
  shape.version = 12;
  says(state(shape), "a llama.cpp session of version 12; this kvzip knows 9 to 11");
  shape = {};
  shape.type = 9;  // q8_1 is no type of a cache
  says(state(shape), "none that this kvzip knows");
  shape = {};
  shape.streams = 0;
  says(state(shape), "none that this kvzip knows");
  shape = {};
  shape.layers = 0;
  says(state(shape), "none that this kvzip knows");
  shape = {};
  shape.type = 8;
  shape.row = 33;
  says(state(shape), "none that this kvzip knows");

  const std::string whole = state({});
  for (std::size_t size = 4; size < whole.size(); ++size) {
    const std::string cut = whole.substr(0, size);
    try {
      // A file that was cut right behind the keys is one without values.
      const auto reader = open(cut);
      CHECK(reader->dump().tensors.size() == 4);
      CHECK(size == whole.size() - 2 * (12 + 24));
    } catch (const Error& error) {
      CHECK((error.code() == ErrorCode::truncated || error.code() == ErrorCode::unsupported));
    }
  }
  for (std::size_t bit = 32; bit < whole.size() * 8; ++bit) {
    std::string bad = whole;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << (bit % 8));
    try {
      const auto reader = open(bad);
      CHECK(values_of(*reader).size() == reader->dump().tensors.size());
    } catch (const Error& error) {
      CHECK(error.file() == "slot");
    }
  }
}

}  // namespace kvzip::test
