// SPDX-License-Identifier: Apache-2.0
// Limits of archives, chunks and states, each at its edge, through files that are small or only say that they are
// large.
#include <fmt/format.h>

#include <cstring>

#include "codec/limits.hpp"
#include "formats/llama.hpp"
#include "formats/lmcache.hpp"
#include "formats/npy.hpp"
#include "formats/npy_header.hpp"
#include "formats/zip.hpp"
#include "formats/zip_records.hpp"
#include "tests/support/memory_dump.hpp"
#include "tests/unit/file_support.hpp"

namespace kvzip::test {
namespace {

std::string message_of(auto&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

template <typename... T>
std::string packed(T... numbers) {
  std::string out;
  (zip::put(out, numbers), ...);
  return out;
}

/// An archive whose one member is a text of so many letters, as NumPy stores it.
std::string archive_of_text(std::size_t letters) {
  std::string array = numpy_header(fmt::format("{{'descr': '<U{}', 'fortran_order': False, 'shape': (), }}", letters));
  const std::size_t front = array.size();
  array.resize(front + 4 * letters, '\0');
  for (std::size_t i = 0; i < letters; ++i) array[front + 4 * i] = 'x';
  ZipMember member{.name = "text.npy", .stored = array.size(), .size = array.size()};
  ZipChecksum sum;
  sum.add(0, view(array));
  member.crc = sum.value();
  const std::string file = zip_local_header(member) + array;
  return file + zip_directory(std::vector<ZipMember>{member}, file.size());
}

/// An archive whose directory is so long, made as it is read: an entry, zeros, and the record of its end.
class LongDirectory final : public Source {
 public:
  explicit LongDirectory(std::uint64_t bytes) {
    const ZipMember member{.name = "a.npy"};
    front_ = zip_local_header(member);
    const std::uint64_t begin = front_.size();
    std::string end = zip_directory(std::vector<ZipMember>{member}, begin);
    front_ += end.substr(0, end.size() - zip::kEndBytes);
    end_ = end.substr(end.size() - zip::kEndBytes);
    end_.replace(12, 4, packed(static_cast<std::uint32_t>(bytes)));
    size_ = begin + bytes + end_.size();
  }
  std::uint64_t size() const override { return size_; }
  void read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    std::ranges::fill(out, std::byte{0});
    const auto put = [&](const std::string& text, std::uint64_t at) {
      const std::uint64_t from = std::max(at, offset), to = std::min(at + text.size(), offset + out.size());
      if (from < to) std::memcpy(out.data() + (from - offset), text.data() + (from - at), to - from);
    };
    put(front_, 0);
    put(end_, size_ - end_.size());
  }

 private:
  std::string front_, end_;
  std::uint64_t size_ = 0;
};

}  // namespace

TEST_CASE("file limits: bytes of a member of an archive that is text") {
  constexpr std::size_t kMost = limits::kNumpyText / 4;
  const auto opened = [](const std::string& archive) {
    const auto reader = open_npz(InputFile(view(archive), "archive"));
    return std::pair(reader->dump(), reader->dump().tensors.size());
  };
  const auto [text, none] = opened(archive_of_text(kMost));
  CHECK(none == 0);
  CHECK(text.text("text") == std::string(kMost, 'x'));
  const auto [array, one] = opened(archive_of_text(kMost + 1));
  REQUIRE(one == 1);
  CHECK(array.tensors[0] == TensorInfo{"text", DType::u8, {limits::kNumpyText + 4}});
  CHECK(array.text("text").empty());
}

TEST_CASE("file limits: bytes of an archive's directory") {
  const auto members = [](std::uint64_t bytes) {
    return read_zip_directory(InputFile(std::make_unique<LongDirectory>(bytes), "archive"));
  };
  const std::vector<ZipMember> all = members(limits::kZipDirectory);
  REQUIRE(all.size() == 1);
  CHECK(all[0].name == "a.npy");
  CHECK(message_of([&] { members(limits::kZipDirectory + 1); }) ==
        fmt::format("zip: 1 members in a directory of {} bytes are too many", limits::kZipDirectory + 1));
}

TEST_CASE("file limits: groups and formats of a chunk of LMCache") {
  const auto chunk = [](std::size_t groups, std::int32_t format) {
    std::string text = packed(static_cast<std::int32_t>(8 * groups), format);
    for (std::size_t g = 0; g < groups; ++g) text += packed(3, 1, 1, 1, 4);  // four of 16 bits
    return text + std::string(8 * groups, 'x');
  };
  const auto groups = [](const std::string& text) {
    return open_lmcache(InputFile(view(text), "chunk"))->dump().tensors.size();
  };
  CHECK(groups(chunk(limits::kLmcacheGroups, 1)) == limits::kLmcacheGroups);
  CHECK(message_of([&] { groups(chunk(limits::kLmcacheGroups + 1, 1)); }) == "chunk: no header of an LMCache chunk");
  CHECK(groups(chunk(1, limits::kLmcacheFormats)) == 1);
  CHECK(message_of([&] { groups(chunk(1, limits::kLmcacheFormats + 1)); }) == "chunk: no header of an LMCache chunk");
}

TEST_CASE("file limits: cells of llama.cpp that are put together") {
  // Nothing is written of what they would be: a position, a number of sequences, and these, of each cell.
  const ScratchDirectory scratch;
  const auto creating = [&](std::uint64_t cells, const std::string& sequences) {
    const Dump dump{
        .tensors = {{"token_ids", DType::i32, {1}},
                    {"positions", DType::i32, {cells}},
                    {"layers.0.key", DType::f16, {cells, 1}}},
        .attributes = {text_attribute("llama.cpp", "sequence 2"), text_attribute("llama.cpp.sequences", sequences)}};
    return message_of([&] { create_llama({scratch.file("slot"), true}, dump); });
  };
  constexpr std::uint64_t kMost = limits::kLlamaCellBytes;
  CHECK(creating(kMost / 8, "none").empty());
  CHECK(creating(kMost / 8 + 1, "none") == fmt::format("{}: {} cells that are each of 0 sequences would need {} bytes",
                                                       scratch.file("slot"), kMost / 8 + 1, kMost + 8));
  CHECK(creating(kMost / 16, "3 4").empty());
  CHECK(creating(kMost / 16 + 1, "3 4") == fmt::format("{}: {} cells that are each of 2 sequences would need {} bytes",
                                                       scratch.file("slot"), kMost / 16 + 1, kMost + 16));
}

TEST_CASE("file limits: states of llama.cpp are written as far as they are read") {
  const ScratchDirectory scratch;
  const auto creating = [&](std::size_t name, std::size_t layers, std::size_t sequences) {
    std::string ids = "0";
    for (std::size_t s = 1; s < sequences; ++s) ids += fmt::format(" {}", s % limits::kLlamaSequences);
    Dump dump{.tensors = {{"token_ids", DType::i32, {1}}, {"positions", DType::i32, {1}}},
              .attributes = {text_attribute("llama.cpp", "session 10"), text_attribute("llama.cpp.sequences", ids),
                             text_attribute("llama.cpp.architecture", std::string(name, 'a'))}};
    for (std::size_t l = 0; l < layers; ++l) {
      dump.tensors.push_back({fmt::format("layers.{}.key", l), DType::f16, {1, 1}});
    }
    const auto to = [&] { return create_llama({scratch.file("state"), true}, dump); };
    const std::string refused = message_of(to);
    if (!refused.empty()) return refused;
    MemoryReader reader(dump, 1 << 20);
    for (std::size_t t = 0; t < 2; ++t) std::ranges::fill(reader.data(t), std::byte{0});
    const auto writer = to();
    transcode(reader, *writer, 1);
    writer->finish();
    return message_of([&] { open_llama(InputFile(scratch.file("state"))); });
  };
  const auto none_but = [](const std::string& text, const std::string& part) {
    return text.find("a file of llama.cpp has no " + part) != text.npos;
  };
  CHECK(creating(limits::kLlamaName, limits::kLlamaLayers, limits::kLlamaSequences).empty());
  CHECK(none_but(creating(limits::kLlamaName + 1, 1, 1), "architecture of"));
  CHECK(none_but(creating(1, limits::kLlamaLayers + 1, 1), "more than"));
  CHECK(none_but(creating(1, 1, limits::kLlamaSequences + 1), "cells of more than"));
}

}  // namespace kvzip::test
