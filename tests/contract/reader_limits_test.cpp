// SPDX-License-Identifier: Apache-2.0
// Limits of readers of dumps, each at its edge, through files that are small or only say that they are large.
#include <fmt/format.h>
#include <sys/mman.h>

#include "codec/limits.hpp"
#include "formats/attribute_text.hpp"
#include "formats/hdf5/hdf5.hpp"
#include "formats/hdf5_filter/h5z_settings.hpp"
#include "formats/layer_attention.hpp"
#include "formats/llama.hpp"
#include "formats/lmcache.hpp"
#include "formats/name_patterns.hpp"
#include "formats/npy.hpp"
#include "formats/npy_header.hpp"
#include "formats/sidecar.hpp"
#include "formats/zip.hpp"
#include "formats/zip_records.hpp"
#include "kvzip/layout.hpp"
#include "src/request/request.hpp"
#include "tests/support/memory_dump.hpp"
#include "tests/support/said.hpp"
#include "tests/unit/file_support.hpp"
#include "tests/unit/safetensors_text.hpp"

namespace kvzip::test {
namespace {

template <typename... T>
std::string packed(T... numbers) {
  std::string out;
  const auto add = [&](auto n) { out.append(reinterpret_cast<const char*>(&n), sizeof n); };
  (add(numbers), ...);
  return out;
}

std::string repeated(std::string_view text, std::size_t times) {
  std::string out;
  for (std::size_t i = 0; i < times; ++i) out += text;
  return out;
}

ModelInfo model_of(std::initializer_list<std::pair<const char*, std::string>> attributes) {
  Dump dump{.tensors = {{"layers.0.key", DType::f16, {1, 2, 4}}}, .attributes = {}};
  for (const auto& [name, value] : attributes) dump.attributes.push_back(text_attribute(name, value));
  return recognise(dump).model;
}

/// A state of one token and so many streams, of one cell with so many sequences and rows of eight bytes of keys and of
/// values in so many layers.
std::string llama_state(std::uint32_t streams, std::uint32_t layers, std::uint32_t sequences, std::uint32_t name) {
  std::string out =
      name == 0 ? "qsgg" + packed(3u, 1u, 7u) : "nsgg" + packed(10u, 1u, 7u, name) + std::string(name, 'a');
  out += packed(streams);
  for (std::uint32_t stream = 0; stream < streams; ++stream) {
    out += packed(1u, 10u, sequences);
    for (std::uint32_t s = 0; s < sequences; ++s) out += packed(sequences == 1 ? stream : s);
    out += packed(0u, layers);
    out += repeated(packed(std::int32_t{1}, std::uint64_t{8}, std::uint64_t{0}), std::size_t{2} * layers);
  }
  return out;
}
std::optional<ErrorCode> opening_llama(const std::string& text) {
  return code_of([&] { open_llama(InputFile(view(text), "state")); });
}

}  // namespace

TEST_CASE("reader limits: what a name and a model may say") {
  CHECK(parse_layer(std::to_string(limits::kLayers - 1)) == limits::kLayers - 1);
  CHECK_FALSE(parse_layer(std::to_string(limits::kLayers)));
  CHECK(numeric_path("1.2.3.4.5").size() == limits::kNameNumbers);
  CHECK(numeric_path("1.2.3.4.5.6").empty());
  CHECK(model_of({{"n_layers", "65536"}}).layers == limits::kLayers);
  CHECK(model_of({{"n_layers", "65537"}}).layers == 1);
  CHECK(model_of({{"n_kv_heads", "65536"}}).kv_heads == limits::kHeads);
  CHECK(model_of({{"n_kv_heads", "65537"}}).kv_heads != limits::kHeads + 1);
  CHECK(model_of({{"head_dim", "65536"}}).head_dim == limits::kHeadDim);
  CHECK(model_of({{"head_dim", "65537"}}).head_dim != limits::kHeadDim + 1);
}

TEST_CASE("reader limits: lists of layers") {
  const auto own = [](std::size_t bytes) {
    std::string list = "1,";
    list.resize(bytes, ' ');
    return model_of({{"n_layers", "8"}, {"sliding_window", "4"}, {"local_layers", list}}).own.size();
  };
  CHECK(own(limits::kLayerList) == 1);
  CHECK(own(limits::kLayerList + 1) == 0);
}

TEST_CASE("reader limits: safetensors") {
  const auto stated = [](std::uint64_t length) { return error_of([&] { open_text(packed(length) + "{}"); })->code(); };
  CHECK(stated(limits::kSafetensorsHeader) == ErrorCode::truncated);
  CHECK(stated(limits::kSafetensorsHeader + 1) == ErrorCode::limit);
  const auto tensors = [](std::size_t count) {
    std::string header = "{";
    for (std::size_t i = 0; i < count; ++i) {
      header += fmt::format(R"({}"{}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})", i > 0 ? "," : "", i);
    }
    return code_of([&] { open_text(file_text(header + "}", 0)); });
  };
  CHECK_FALSE(tensors(limits::kSafetensorsTensors));
  CHECK(tensors(limits::kSafetensorsTensors + 1) == ErrorCode::limit);
  const auto entries = [](std::size_t count) {
    std::string header = R"({"__metadata__":{)";
    for (std::size_t i = 0; i < count; ++i) header += fmt::format(R"({}"{}":"")", i > 0 ? "," : "", i);
    return code_of([&] { open_text(file_text(header + "}}", 0)); });
  };
  CHECK_FALSE(entries(limits::kSafetensorsEntries));
  CHECK(entries(limits::kSafetensorsEntries + 1) == ErrorCode::limit);
  const auto nested = [](std::size_t depth) {
    return code_of([&] {
      open_text(file_text(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"shapes":)" + repeated("[", depth) +
                              repeated("]", depth) + "}}",
                          1));
    });
  };
  CHECK_FALSE(nested(limits::kSafetensorsDepth));
  CHECK(nested(limits::kSafetensorsDepth + 1) == ErrorCode::limit);
}

TEST_CASE("reader limits: headers of NumPy and directories of zip") {
  const auto header = [](std::uint32_t length) {
    const std::string text = "\x93NUMPY" + std::string("\2\0", 2) + packed(length);
    return code_of([&] { numpy_header_bytes(view(text), text.size()); });
  };
  CHECK(header(limits::kNumpyHeader) == ErrorCode::truncated);
  CHECK(header(limits::kNumpyHeader + 1) == ErrorCode::limit);
  const auto members = [](std::uint64_t count) {
    const std::string text =
        packed(zip::kEnd64, std::uint64_t{44}, std::uint32_t{0}, std::uint64_t{0}, count, count, std::uint64_t{0},
               std::uint64_t{0}) +
        packed(zip::kLocator64, 0u, std::uint64_t{0}, 1u) +
        packed(zip::kEnd, 0u, zip::kLarge16, zip::kLarge16, zip::kLarge32, zip::kLarge32, std::uint16_t{0});
    return code_of([&] { read_zip_directory(InputFile(view(text), "archive")); });
  };
  CHECK(members(limits::kZipMembers) == ErrorCode::corrupt);  // there are none
  CHECK(members(limits::kZipMembers + 1) == ErrorCode::limit);
  const auto unpacked = [](std::uint64_t size) {
    const ZipMember member{.name = "a.npy", .size = size};
    const std::string front = zip_local_header(member) + std::string("\3\0", 2);
    std::string text = front + zip_directory(std::vector<ZipMember>{member}, front.size());
    // What is written here is as long as it is stored: the method, and the bytes that it takes.
    text.replace(front.size() + 10, 2, packed(zip::kDeflated));
    text.replace(front.size() + 20, 4, packed(2u));
    return said_of([&] { read_zip_directory(InputFile(view(text), "archive")); });
  };
  CHECK(unpacked(3 * limits::kZipRatio - 1).empty());
  CHECK(unpacked(3 * limits::kZipRatio).find("cannot hold") != std::string::npos);
}

TEST_CASE("reader limits: states of llama.cpp") {
  CHECK_FALSE(opening_llama(llama_state(1, 1, 1, 0)));
  CHECK_FALSE(opening_llama(llama_state(1, limits::kLlamaLayers, 1, 0)));
  CHECK(opening_llama(llama_state(1, limits::kLlamaLayers + 1, 1, 0)));
  CHECK_FALSE(opening_llama(llama_state(limits::kLlamaStreams, 1, 1, 0)));
  CHECK(opening_llama(llama_state(limits::kLlamaStreams + 1, 1, 1, 0)));
  CHECK_FALSE(opening_llama(llama_state(1, 1, limits::kLlamaSequences, 0)));
  CHECK(opening_llama(llama_state(1, 1, limits::kLlamaSequences + 1, 0)));
  CHECK_FALSE(opening_llama(llama_state(1, 1, 1, limits::kLlamaName)));
  CHECK(opening_llama(llama_state(1, 1, 1, limits::kLlamaName + 1)));
}

TEST_CASE("reader limits: formats of LMCache, sidecars, presets, parameters of the filter") {
  const auto chunk = [](std::int32_t format) {
    const std::string text = packed(16, format, 3, 1, 1, 1, 8) + std::string(16, 'x');
    return code_of([&] { open_lmcache(InputFile(view(text), "chunk")); });
  };
  CHECK_FALSE(chunk(1));
  CHECK(chunk(limits::kLmcacheFormats + 1) == ErrorCode::corrupt);
  const ScratchDirectory scratch;
  const auto text_of = [](std::size_t bytes) { return "{}" + std::string(bytes - 2, ' '); };
  scratch.file("kvzip.json", text_of(limits::kSidecar));
  CHECK(sidecar_of_folder(scratch.file("")));
  scratch.file("kvzip.json", text_of(limits::kSidecar + 1));
  CHECK(code_of([&] { sidecar_of_folder(scratch.file("")); }) == ErrorCode::limit);
  CHECK(tool::read_rules_text(scratch.file("a.txt", text_of(limits::kRulesText))).size() == limits::kRulesText);
  CHECK(code_of([&] { tool::read_rules_text(scratch.file("b.txt", text_of(limits::kRulesText + 1))); }) ==
        ErrorCode::limit);
  const auto parameters = [](std::size_t count) {
    return code_of([&] { h5z::parse_settings(std::vector<unsigned>(count, 0x20202020u)); });
  };
  CHECK(parameters(limits::kFilterParameters) != ErrorCode::limit);
  CHECK(parameters(limits::kFilterParameters + 1) == ErrorCode::limit);
}

TEST_CASE("reader limits: groups of HDF5 within each other") {
  const ScratchDirectory scratch;
  const auto nested = [&](int groups) {
    const Dump dump{.tensors = {{repeated("g/", static_cast<std::size_t>(groups)) + "t", DType::u8, {0}}},
                    .attributes = {}};
    const std::string path = scratch.file("nested.h5");
    create_hdf5({path, true}, dump)->finish();
    return code_of([&] { open_hdf5(path); });
  };
  CHECK_FALSE(nested(limits::kHdf5GroupDepth));
  CHECK(nested(limits::kHdf5GroupDepth + 1) == ErrorCode::limit);
}

TEST_CASE("reader limits: texts of one attribute") {
  const auto texts = [](std::size_t count) {
    Attribute a{"", "words", std::vector<std::string>(count), {}, {count}, {}};
    return attribute_of(metadata_entry(a)).name;
  };
  CHECK(texts(limits::kAttributeStrings) == "words");
  CHECK(texts(limits::kAttributeStrings + 1) != "words");  // a text of the file's own
}

}  // namespace kvzip::test
