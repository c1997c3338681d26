// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "formats/format_table.hpp"
#include "kvzip/error.hpp"
#include "tests/unit/scratch_directory.hpp"

namespace kvzip {
namespace {

using namespace std::string_literals;
using test::ScratchDirectory;

std::string_view probed(const std::string& text) {
  return probe_format(std::as_bytes(std::span(text)), "x").name;
}

struct Unknown {
  std::string text;
  ErrorCode code;
  const char* says;
};

TEST_CASE("formats are recognised by content") {
  CHECK(probed("\x89KVZ\r\n\x1a\n......"s) == "kvz");
  CHECK(probed("\x89HDF\r\n\x1a\n......"s) == "hdf5");
  for (const std::size_t offset : {512u, 1024u, 2048u}) {
    CHECK(probed(std::string(offset, '\0') + "\x89HDF\r\n\x1a\n"s) == "hdf5");
  }
  CHECK(probed("\x93NUMPY\x01\0"s) == "npy");
  CHECK(probed("PK\x05\x06"s + std::string(18, '\0')) == "npz");
  CHECK(probed("PK\x03\x04"s + std::string(22, '\0') + "\x05\0\x14\0a.npy"s) == "npz");
  CHECK(probed("\x02\0\0\0\0\0\0\0{}"s) == "safetensors");
  CHECK(probed("\x02\0\0\0\0\0\0\0 {}"s) == "safetensors");
  CHECK(probed("\xff\xff\xff\xff\0\0\0\0{"s) == "safetensors");
}

TEST_CASE("other files are named") {
  for (const Unknown& c : std::vector<Unknown>{
           {"", ErrorCode::truncated, "empty"},
           {"\x89KVZ\r"s, ErrorCode::truncated, "only the first 5 bytes"},
           {"\x89", ErrorCode::truncated, "only the first 1 bytes"},
           {"\x89KVZ\n\x1a\n..."s, ErrorCode::corrupt, "a .kvz file damaged by a transfer in text mode"},
           {"\x89KVZ\r\r\n\x1a\r\n"s, ErrorCode::corrupt, "damaged by a transfer in text mode"},
           {"\x09KVZ\r\n\x1a\n"s, ErrorCode::corrupt, "damaged by a transfer in text mode"},
           {"\xc2\x89KVZ\r\n\x1a\n"s, ErrorCode::corrupt, "damaged by a transfer in text mode"},
           {"\xef\xbf\xbdKVZ\r\n\x1a\n"s, ErrorCode::corrupt, "damaged by a transfer in text mode"},
           {"\x89HDF\n\x1a\n..."s, ErrorCode::corrupt, "an HDF5 file damaged"},
           {"PK\x03\x04............"s, ErrorCode::unsupported, "never loads pickles"},
           {"\x80\x02}q......"s, ErrorCode::unsupported, "looks like a Python pickle"},
           {"GGUF\x03\0\0\0{"s, ErrorCode::unsupported, "GGUF"},
           {"nsgg\x0c\0\0\0"s, ErrorCode::unsupported, "a llama.cpp session of version 12"},
           {"qsgg\x05\0\0\0"s, ErrorCode::unsupported, "a llama.cpp sequence of version 5"},
           {"\x1f\x8b\x08....."s, ErrorCode::unsupported, "unpack it first"},
           {"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"s, ErrorCode::unsupported, "git lfs pull"},
           {"keys.safetensors" + std::string(241, '\0') + "ustar\0"s, ErrorCode::unsupported,
            "a tar archive: unpack it"},
           {"\x80\x04}q......"s, ErrorCode::unsupported, "torch.load(FILE, weights_only=True)"},
           {"hello, world"s, ErrorCode::unsupported, "not a format that kvzip knows"},
           {"\x02\0\0\0\0\0\0\0"s, ErrorCode::unsupported, "not a format that kvzip knows"},
           {"some js {\"a\":1}"s, ErrorCode::unsupported, "not a format that kvzip knows"},
       }) {
    CAPTURE(c.says);
    const ScratchDirectory scratch;
    try {
      open_reader(scratch.file("a", c.text));
      FAIL("opened");
    } catch (const Error& error) {
      CHECK(error.code() == c.code);
      CHECK_MESSAGE(std::string_view(error.what()).find(c.says) != std::string_view::npos, error.what());
      CHECK(std::string_view(error.what()).starts_with(scratch.file("a") + ": "));
    }
  }
}

TEST_CASE("formats are chosen by name and extension") {
  CHECK(format_of_path("a.safetensors") == "safetensors");
  CHECK(format_of_path("dir.kvz/a.H5") == "hdf5");
  CHECK(format_of_path("a.hdf5") == "hdf5");
  CHECK(format_of_path("a.hdf") == "hdf5");
  CHECK(format_of_path("a.b.kvz") == "kvz");
  for (const char* name : {"a", "a.", ".", "-", "a.kvz/b", "a.pt", "a.h5 ", ""}) {
    CHECK(format_of_path(name).empty());
  }
  const ScratchDirectory scratch;
  for (const char* name : {"kvz", "csv", ""}) {
    try {
      create_writer(scratch.file("a"), name, {}, false);
      FAIL("created");
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::invalid_argument);
      CHECK(std::string_view(error.what()).find("safetensors, hdf5, npz, npy") != std::string_view::npos);
    }
  }
  create_writer(scratch.file("a"), "safetensors", {}, false)->finish();
  CHECK(open_reader(scratch.file("a"))->dump().tensors.empty());
}

}  // namespace
}  // namespace kvzip
