// SPDX-License-Identifier: Apache-2.0
// Errors as data: place, file, message and hint stay apart, and what() puts them together.
#include <doctest/doctest.h>

#include <string_view>

#include "codec/fail.hpp"
#include "src/cli/options.hpp"

namespace kvzip {
namespace {

TEST_CASE("an error says file, place and message, outermost first") {
  Error error(ErrorCode::corrupt, "codes up to 40000");
  CHECK(error.what() == std::string_view("codes up to 40000"));
  error.add_where("stage 'uniform'");
  error.add_where("layers.3.key, tokens 256-511");
  error.add_file("cache.kvz");
  CHECK(error.what() ==
        std::string_view("cache.kvz: layers.3.key, tokens 256-511: stage 'uniform': codes up to 40000"));
  CHECK(error.message() == "codes up to 40000");
  CHECK(error.where() == "layers.3.key, tokens 256-511: stage 'uniform'");
  CHECK(error.file() == "cache.kvz");
}

TEST_CASE("the file that was read stays the file of an error") {
  try {
    in_file("dump.h5", [] { in_file("queries.h5", [] { fail(ErrorCode::truncated, "{} bytes", 3); }); });
    FAIL("nothing was thrown");
  } catch (Error& error) {
    CHECK(error.file() == "queries.h5");
    CHECK(error.code() == ErrorCode::truncated);
    error.set_code(ErrorCode::corrupt);
    CHECK(error.code() == ErrorCode::corrupt);
    CHECK(error.what() == std::string_view("queries.h5: 3 bytes"));
  }
}

TEST_CASE("a place may look like a file's name and is none") {
  Error error(ErrorCode::io, "cannot read a.safetensors");
  CHECK(error.file().empty());
  error.add_file("a.safetensors");
  CHECK(error.what() == std::string_view("a.safetensors: cannot read a.safetensors"));
}

TEST_CASE("hints become options in the tool alone") {
  const Error plain(ErrorCode::limit, "too many");
  CHECK(tool::error_text(plain) == "too many");
  const Error hinted(ErrorCode::invalid_argument, "the dump does not say rope_theta", Hint::metadata,
                     "rope_theta=500000");
  CHECK(hinted.what() == std::string_view("the dump does not say rope_theta"));
  CHECK(tool::error_text(hinted) == "the dump does not say rope_theta (--meta rope_theta=500000 gives it)");
  for (const Hint hint : {Hint::layout, Hint::map, Hint::layout_or_map, Hint::metadata, Hint::chunk_tokens}) {
    CHECK(tool::advice(hint, "k=v").find("--") != std::string::npos);
  }
  CHECK(tool::advice(Hint::none).empty());
}

}  // namespace
}  // namespace kvzip
