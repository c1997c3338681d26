// SPDX-License-Identifier: Apache-2.0
// Every format that dumps can be written in gives back what it was given; content decides over the file's name.
#include <fmt/format.h>

#include <doctest/doctest.h>

#include <fstream>
#include <set>

#include "formats/format_table.hpp"
#include "kvzip/error.hpp"
#include "tests/contract/sample_dumps.hpp"
#include "tests/unit/scratch_directory.hpp"

namespace kvzip::test {
namespace {

void write(const Format& format, const std::string& path, MemoryReader& reader) {
  const auto writer = create_writer(path, format.name, reader.dump(), true);
  transcode(reader, *writer, 2);
  writer->finish();
}

/// A dump of several tensors and metadata can be written in it.
bool holds_dumps(const Format& format) {
  return format.create != nullptr && format.name != "npy" && format.name != "llama";
}

std::vector<Attribute> sample_attributes() {
  return {text_attribute("format", "pt"), text_attribute("model", "\xc3\xa9 \"q\" \\ \n"), text_attribute("empty", "")};
}

}  // namespace

TEST_CASE("every format gives back every dtype that it takes") {
  const ScratchDirectory scratch;
  for (const Format& format : format_table()) {
    CAPTURE(format.name);
    if (!holds_dumps(format)) continue;
    std::size_t taken = 0;
    for (const DType type : all_dtypes()) {
      CAPTURE(dtype_name(type));
      const std::vector<std::vector<std::uint64_t>> shapes =
          dtype_bits(type) < 8 ? std::vector<std::vector<std::uint64_t>>{{2, 4}, {0, 4}}
                               : std::vector<std::vector<std::uint64_t>>{{3, 4}, {0, 4}, {1}, {}, {2, 1, 3, 1, 2}};
      std::vector<Spec> specs;
      for (const auto& shape : shapes) specs.push_back({fmt::format("t/{}", specs.size()), type, shape, {}, {}, ""});
      auto reader = sample_reader(specs, Fill::specials);
      const_cast<Dump&>(reader->dump()).attributes = sample_attributes();
      const std::string path = scratch.file("dump");
      try {
        write(format, path, *reader);
      } catch (const Error& e) {
        CHECK(e.code() == ErrorCode::unsupported);
        continue;
      }
      ++taken;
      const auto back = open_reader(path);
      CHECK(back->dump().tensors == reader->dump().tensors);
      for (const Attribute& a : sample_attributes()) CHECK(back->dump().text(a.name) == a.strings[0]);
      CHECK(values_of(*back) == originals(*reader));
    }
    CHECK(taken >= codable_dtypes().size() / 2);
    for (const DType type : {DType::f16, DType::bf16, DType::f32, DType::f64, DType::f8_e4m3, DType::f8_e5m2}) {
      auto reader = sample_reader({{"t", type, {4, 2}, {}, {}, ""}});
      CAPTURE(dtype_name(type));
      CHECK_NOTHROW(write(format, scratch.file("needed"), *reader));
    }
  }
}

TEST_CASE("many tensors keep their order, and empty dumps are files too") {
  const ScratchDirectory scratch;
  for (const Format& format : format_table()) {
    CAPTURE(format.name);
    if (!holds_dumps(format)) continue;
    auto reader = sample_reader(sample_specs(12, 5));
    write(format, scratch.file("order"), *reader);
    const auto back = open_reader(scratch.file("order"));
    std::multiset<std::string> before, after;
    for (const TensorInfo& t : reader->dump().tensors) before.insert(t.name);
    for (const TensorInfo& t : back->dump().tensors) after.insert(t.name);
    CHECK(before == after);
    if (format.name != "hdf5") CHECK(back->dump().tensors == reader->dump().tensors);
    auto none = sample_reader({});
    write(format, scratch.file("none"), *none);
    CHECK(open_reader(scratch.file("none"))->dump().tensors.empty());
  }
}

TEST_CASE("a container keeps what any format says of itself") {
  const ScratchDirectory scratch;
  for (const Format& format : format_table()) {
    CAPTURE(format.name);
    if (!holds_dumps(format)) continue;
    auto reader = sample_reader(sample_specs(2, 9));
    const_cast<Dump&>(reader->dump()).attributes = sample_attributes();
    write(format, scratch.file("first"), *reader);
    const auto dump = open_reader(scratch.file("first"));
    const Recognition recognition = recognise(dump->dump());
    const auto container = create_kvz_writer(scratch.file("c.kvz"), dump->dump(), recognition,
                                             options_of("key = planes,ac\nvalue = planes,ac"), true);
    transcode(*dump, *container, 2);
    container->finish();
    const auto opened = open_reader(scratch.file("c.kvz"));
    CHECK(opened->dump().tensors == dump->dump().tensors);
    CHECK(opened->dump().attributes == dump->dump().attributes);
    const auto writer = create_writer(scratch.file("second"), format.name, opened->dump(), true);
    transcode(*opened, *writer, 2);
    writer->finish();
    CHECK(file_bytes(scratch.file("first")) == file_bytes(scratch.file("second")));
  }
}

TEST_CASE("content decides, not the name") {
  const ScratchDirectory scratch;
  auto reader = sample_reader(sample_specs(1, 5));
  const Bytes container = compressed(*reader, options_of("key = planes,ac\nvalue = planes,ac"));
  for (const Format& format : format_table()) {
    for (const Format& other : format_table()) {
      const std::string path = scratch.file(fmt::format("x{}", other.extensions.substr(0, other.extensions.find(' '))));
      if (other.extensions.empty() || (!holds_dumps(format) && format.name != "kvz")) continue;
      if (format.create != nullptr) {
        write(format, path, *reader);
      } else {
        std::ofstream(path, std::ios::binary)
            .write(reinterpret_cast<const char*>(container.data()), static_cast<std::streamsize>(container.size()));
      }
      CHECK(format_of_path(path) == other.name);
      CHECK(&probe_format(file_bytes(path), path) == &format);
      const auto opened = open_reader(path);
      CHECK((opened->recognition() != nullptr) == (format.name == "kvz"));
      CHECK(opened->dump().tensors.size() == reader->dump().tensors.size());
    }
  }
}

}  // namespace kvzip::test
