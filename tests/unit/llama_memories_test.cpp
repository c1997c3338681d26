// SPDX-License-Identifier: Apache-2.0
// Sessions and sequences that llama.cpp wrote of models with sliding windows and recurrent states (tests/golden/llama,
// where make.py says what they are).
#include <doctest/doctest.h>

#include <cstring>

#include "formats/ggml_values.hpp"
#include "formats/llama.hpp"
#include "kvzip/layout.hpp"
#include "tests/contract/sample_dumps.hpp"
#include "tests/unit/file_support.hpp"

namespace kvzip::test {
namespace {

std::string golden(const std::string& name) {
  return fmt::format("{}/golden/llama/{}", KVZIP_TEST_DIR, name);
}

std::unique_ptr<DumpReader> open(const std::string& name) {
  return ggml_values(open_llama(InputFile(golden(name))));
}

/// "NAME shape", of all tensors but those of layers from the second on in each cache.
std::vector<std::string> summary(const Dump& dump, std::uint32_t window) {
  std::vector<std::string> out;
  const Recognition recognition = recognise(dump);
  for (std::size_t t = 0; t < dump.tensors.size(); ++t) {
    const std::optional<std::uint32_t> layer = recognition.tensors[t].layer;
    if (layer && *layer != 0 && *layer != window) continue;
    out.push_back(fmt::format("{} {}", dump.tensors[t].name, fmt::join(dump.tensors[t].shape, "x")));
  }
  return out;
}

std::vector<std::int32_t> numbers(DumpReader& reader, std::string_view name) {
  const std::vector<TensorInfo>& tensors = reader.dump().tensors;
  const auto found = std::ranges::find(tensors, name, &TensorInfo::name);
  REQUIRE(found != tensors.end());
  const Bytes bytes = values_of(reader)[static_cast<std::size_t>(found - tensors.begin())];
  std::vector<std::int32_t> out(bytes.size() / sizeof(std::int32_t));
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("sliding windows of llama.cpp are a second cache, whose layers and positions are its own") {
  const auto reader = open("swa.seq");
  const Dump& dump = reader->dump();
  CHECK(dump.text("llama.cpp.memories") == "attention swa");
  CHECK(dump.text("llama.cpp.layers") == "1");
  CHECK(dump.text("llama.cpp.swa.layers") == "6");
  CHECK(summary(dump, 1) == Names{"token_ids 260", "positions 260", "layers.0.key 260x16", "layers.0.value 260x16",
                                  "swa.positions 8", "swa.layers.1.key 8x16", "swa.layers.1.value 8x16"});
  CHECK(numbers(*reader, "swa.positions") == std::vector<std::int32_t>{256, 257, 258, 259, 252, 253, 254, 255});
  const Recognition recognition = recognise(dump);
  CHECK(recognition.recognised == 14);
  CHECK(recognition.model.layers == 7);
  CHECK(recognition.tensors[5].role == Role::key);
  CHECK(recognition.tensors[5].axes == Axes("TC"));

  const auto streams = open("swa_streams.session");
  CHECK(summary(streams->dump(), 1) == Names{"token_ids 16", "streams.0.positions 16", "streams.0.layers.0.key 16x16",
                                             "streams.0.layers.0.value 16x16", "streams.1.positions 8",
                                             "streams.1.layers.0.key 8x16", "streams.1.layers.0.value 8x16",
                                             "swa.streams.0.positions 16", "swa.streams.0.layers.1.key 16x16",
                                             "swa.streams.0.layers.1.value 16x16", "swa.streams.1.positions 8",
                                             "swa.streams.1.layers.1.key 8x16", "swa.streams.1.layers.1.value 8x16"});
  CHECK(streams->dump().text("llama.cpp.swa.streams") == "2");
  CHECK(streams->dump().text("llama.cpp.streams.1.sequences") == "1");
  CHECK(streams->dump().text("llama.cpp.swa.streams.1.sequences") == "1");

  const auto blocks = open("swa_q8.seq");
  CHECK(blocks->dump().text("llama.cpp.rotated_keys") == "64");
  CHECK(blocks->dump().text("llama.cpp.swa.rotated_values") == "64");
  CHECK(blocks->dump().tensors[5] == TensorInfo{"swa.layers.1.key", DType::f32, {8, 64}});
}

TEST_CASE("recurrent states of llama.cpp are bytes, alone and behind keys and values") {
  // Head, tokens, cells of a position and a count, then two numbers and two kinds of states of two layers each.
  CHECK(summary(open("recurrent.seq")->dump(), 0) ==
        Names{"token_ids 12", fmt::format("recurrent {}", 4 + 8 + 8 + 2 * (12 + 192) + 2 * (12 + 256))});
  CHECK(open("recurrent.seq")->dump().text("llama.cpp.memories") == "recurrent");
  // Cells of a session name their sequence.
  CHECK(summary(open("recurrent.session")->dump(), 0) ==
        Names{"token_ids 12", fmt::format("recurrent {}", 4 + 2 * 12 + 8 + 2 * (12 + 2 * 192) + 2 * (12 + 2 * 256))});
  const std::size_t states = 4 + 8 + 8 + 2 * (12 + 384) + 2 * (12 + 512);
  CHECK(summary(open("hybrid.seq")->dump(), 0) == Names{"token_ids 12", "positions 12", "layers.0.key 12x8",
                                                        "layers.0.value 8x12", fmt::format("recurrent {}", states)});
  // The cells of the states, 1 and position 0, could be a cache that is empty.
  const auto one = open("hybrid_one.seq");
  CHECK(one->dump().text("llama.cpp.memories") == "attention recurrent");
  CHECK(one->dump().tensors.back() == TensorInfo{"recurrent", DType::u8, {states}});
  CHECK(open("hybrid_unified.session")->dump().tensors.back().name == "recurrent");

  const auto all = open("hybrid_swa.session");
  CHECK(all->dump().text("llama.cpp.memories") == "attention swa recurrent");
  CHECK(all->dump().text("llama.cpp.layers") == "0");
  CHECK(summary(all->dump(), 0) == Names{"token_ids 12", "positions 12", "swa.positions 12", "swa.layers.0.key 12x8",
                                         "swa.layers.0.value 12x8",
                                         fmt::format("recurrent {}", 4 + 12 + 8 + 2 * (12 + 128) + 2 * 12)});
}

TEST_CASE("a second cache of llama.cpp that has keys only is an index, also where the first has no values") {
  const auto put = [](std::string& to, auto value) { to.append(reinterpret_cast<const char*>(&value), sizeof value); };
  const auto keys = [&](std::string& to, std::uint32_t layers, std::uint64_t row, bool states_rotation) {
    for (const std::uint32_t word : {1u, 2u, 0u, 1u, 0u, 1u, 1u, 0u, 0u, layers}) put(to, word);  // two cells
    if (states_rotation) put(to, std::uint64_t{0});
    for (std::uint32_t l = 0; l < layers; ++l) {
      put(to, std::int32_t{1});
      put(to, row);
      to.append(2 * row, static_cast<char>('a' + l));
    }
  };
  const auto read = [](const std::string& text) {
    const auto reader = open_llama(InputFile(view(text), "slot"));
    const ScratchDirectory scratch;
    const auto writer = create_writer(scratch.file("slot"), "llama", reader->dump(), false);
    transcode(*reader, *writer, 1);
    writer->finish();
    CHECK(read_text(InputFile(scratch.file("slot")), 0, text.size()) == text);
    return reader->dump();
  };
  const Bytes bytes = file_bytes(golden("hybrid.seq"));
  std::string hybrid(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  keys(hybrid, 2, 8, true);
  const Dump all = read(hybrid);
  CHECK(all.text("llama.cpp.memories") == "attention recurrent index");
  CHECK(all.text("llama.cpp.index.values") == "none");
  CHECK(summary(all, 2) == Names{"token_ids 12", "positions 12", "layers.0.key 12x8", "layers.0.value 8x12",
                                 "index.positions 2", "index.layers.2.key 2x4", "recurrent 1860"});
  std::string latent = "qsgg";
  for (const std::uint32_t word : {3u, 1u, 7u}) put(latent, word);
  keys(latent, 2, 24, false);
  keys(latent, 2, 8, false);
  CHECK(summary(read(latent), 2) ==
        Names{"token_ids 1", "positions 2", "layers.0.key 2x12", "index.positions 2", "index.layers.2.key 2x4"});
}

TEST_CASE("second rows of recurrent states of llama.cpp stand behind the first ones of their layers") {
  // state_write_data() of llama-memory-recurrent.cpp: of rows that are second nothing is said but their size.
  const Bytes one = file_bytes(golden("recurrent.seq"));
  const std::string whole(reinterpret_cast<const char*>(one.data()), one.size());
  const std::size_t head = 12 + 12 * 4, first = head + 4 + 8 + 8 + 12 + 192, rows = 12 + 192;
  const auto with = [&](std::initializer_list<std::pair<std::size_t, std::uint64_t>> second) {
    std::string text;
    std::size_t from = 0;
    for (const auto& [at, row] : second) {
      text += whole.substr(from, at - from);
      text.append(reinterpret_cast<const char*>(&row), sizeof row);
      text.append(row, 'p');
      from = at;
    }
    return text + whole.substr(from);
  };
  const auto reads = [&](const std::string& text, std::size_t more) {
    const auto reader = open_llama(InputFile(view(text), "slot"));
    CHECK(reader->dump().text("llama.cpp.memories") == "recurrent");
    CHECK(reader->dump().tensors.back() == TensorInfo{"recurrent", DType::u8, {whole.size() - head + more}});
    const ScratchDirectory scratch;
    const auto writer = create_writer(scratch.file("slot"), "llama", reader->dump(), false);
    transcode(*reader, *writer, 1);
    writer->finish();
    CHECK(read_text(InputFile(scratch.file("slot")), 0, text.size()) == text);
  };
  reads(whole, 0);
  reads(with({{first, 48}}), 56);                       // the first layer has them
  reads(with({{first + rows, 48}}), 56);                // the second
  reads(with({{first, 48}, {first + rows, 48}}), 112);  // both
  const auto refused = [&](const std::string& text) {
    return code_of([&] { open_llama(InputFile(view(text), "slot")); }) == ErrorCode::unsupported;
  };
  // Not alike: layers are understood as far as they are.
  const std::string unlike = with({{first, 48}, {first + rows, 44}});
  const auto part = open_llama(InputFile(view(unlike), "slot"));
  CHECK(part->dump().tensors[1] == TensorInfo{"recurrent", DType::u8, {4 + 8 + 8 + 2 * rows + 56}});
  CHECK(part->dump().tensors[2].name == "appendix");
  CHECK(refused(with({{first, 46}})));  // no whole elements
  CHECK(refused(with({{first, 48}, {first, 48}})));
  CHECK(refused(with({{first, 48}}).substr(0, first + 30)));
  std::string huge = with({{first, 48}});
  const std::uint64_t size = ~std::uint64_t{3};
  std::memcpy(huge.data() + first, &size, sizeof size);
  CHECK(refused(huge));
  // Behind the second kind of states there are none: that is the beginning of something else.
  const std::string more = with({{whole.size(), 48}});
  const auto reader = open_llama(InputFile(view(more), "slot"));
  CHECK(reader->dump().tensors.back() == TensorInfo{"appendix", DType::u8, {56}});
}

TEST_CASE("files of llama.cpp with several memories become the same again, and are refused when any part lacks") {
  for (const char* name : {"swa.seq", "swa_streams.session", "swa_q8.seq", "recurrent.seq", "recurrent.session",
                           "hybrid.seq", "hybrid_one.seq", "hybrid_unified.session", "hybrid_swa.session"}) {
    CAPTURE(name);
    const ScratchDirectory scratch;
    const auto reader = open_llama(InputFile(golden(name)));
    {
      const auto writer = create_writer(scratch.file("again"), "llama", reader->dump(), false);
      transcode(*reader, *writer, 1);
      writer->finish();
    }
    CHECK(file_bytes(scratch.file("again")) == file_bytes(golden(name)));
    // Program's additions behind the memories stay what they are.
    Bytes longer = file_bytes(golden(name));
    for (const char c : std::string_view("SCKP and so on")) longer.push_back(static_cast<std::byte>(c));
    const auto appended = open_llama(InputFile(ByteView(longer), "slot"));
    CHECK(appended->dump().tensors.back() == TensorInfo{"appendix", DType::u8, {14}});
    CHECK(appended->dump().text("llama.cpp.memories") == reader->dump().text("llama.cpp.memories"));

    for (std::size_t t = 0; t < reader->dump().tensors.size(); ++t) {
      Dump changed = reader->dump();
      changed.tensors.erase(changed.tensors.begin() + static_cast<std::ptrdiff_t>(t));
      CHECK(code_of([&] { create_writer(scratch.file("less"), "llama", changed, false); }) == ErrorCode::unsupported);
    }
  }
  Dump changed = open_llama(InputFile(golden("recurrent.seq")))->dump();
  const ScratchDirectory scratch;
  for (Attribute& a : changed.attributes) {
    if (a.name == "llama.cpp.memories") a.strings = {"recurrent more"};
  }
  CHECK(code_of([&] { create_writer(scratch.file("x"), "llama", changed, false); }) == ErrorCode::unsupported);
}

TEST_CASE("damaged files of llama.cpp with several memories are read to what they hold or refused") {
  for (const char* name : {"recurrent.seq", "hybrid_one.seq", "hybrid_swa.session"}) {
    const Bytes whole = file_bytes(golden(name));
    const auto tries = [&](const Bytes& bad) {
      try {
        const auto reader = open_llama(InputFile(ByteView(bad), "slot"));
        CHECK(values_of(*reader).size() == reader->dump().tensors.size());
      } catch (const Error& error) {
        CHECK(error.file() == "slot");
      }
    };
    for (std::size_t size = 4; size < whole.size(); ++size) {
      tries({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)});
    }
    for (std::size_t bit = 32; bit < whole.size() * 8; bit += 3) {
      Bytes bad = whole;
      bad[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
      tries(bad);
    }
  }
}

}  // namespace kvzip::test
